// Drawing tokens in three kernels: the first edits logits and finds the largest, the second draws where nothing is
// filtered, the third, one block a row, filters where it is asked for and writes the results.
#include "kernels/cuda/sample_device.h"
#include "kernels/cuda/sample_select.h"

struct sample_view {
    struct sample_partial *partials; // [rows, n_chunks]
    float *edited;                   // [rows, vocab]
    int32_t n_chunks;
};

static int32_t chunks_of(int32_t vocab) {
    return (vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
}

static size_t partials_bytes(int32_t n_rows, int32_t vocab) {
    return ((size_t)n_rows * (size_t)chunks_of(vocab) * sizeof(struct sample_partial) + 255) / 256 * 256;
}

size_t sample_workspace_bytes(int32_t logit_rows_max, int32_t vocab) {
    return partials_bytes(logit_rows_max, vocab) + (size_t)logit_rows_max * (size_t)vocab * sizeof(float);
}

static __device__ float penalised(float logit, const struct sample_params *p, int32_t n_generated) {
    if (p->repetition_penalty != 1) logit = logit > 0 ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    if (n_generated > 0) logit -= p->presence_penalty + p->frequency_penalty * (float)n_generated;
    return logit;
}

// Edits [first, end) of a row. A token belongs to one thread, which takes its edits in their order.
static __device__ void edit_chunk(const struct device_step *step, const struct sample_params *p, const float *logits,
                                  float *edited, int32_t first, int32_t end) {
    for (int32_t i = first + threadIdx.x; i < end; i += SAMPLE_THREADS) edited[i] = logits[i];
    const struct logit_edit *edits = STEP_ARRAY(step, struct logit_edit, edits) + p->edit_first;
    for (int32_t i = 0; i < p->edit_count; i++) {
        const int32_t token = edits[i].token;
        if (token >= first && token < end && (token - first) % SAMPLE_THREADS == (int32_t)threadIdx.x)
            edited[token] += edits[i].add;
    }
    const struct seen_token *seen = STEP_ARRAY(step, struct seen_token, seen) + p->seen_first;
    for (int32_t i = 0; i < p->seen_count; i++) {
        const int32_t token = seen[i].token;
        if (token >= first && token < end && (token - first) % SAMPLE_THREADS == (int32_t)threadIdx.x)
            edited[token] = penalised(edited[token], p, seen[i].n_generated);
    }
}

static __device__ struct sample_best largest_of(const float *logits, int32_t first, int32_t end,
                                                struct sample_best *scratch) {
    struct sample_best best = {-INFINITY, first};
    for (int32_t i = first + threadIdx.x; i < end; i += SAMPLE_THREADS) best = better(best, {logits[i], i});
    return block_best(best, scratch);
}

static __global__ void __launch_bounds__(SAMPLE_THREADS)
    largest_kernel(const __grid_constant__ struct sample_run op, const __grid_constant__ struct sample_view view) {
    __shared__ struct sample_best best_scratch[32];
    __shared__ float scratch[32];
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, chunk = blockIdx.x;
    if (row >= op.step->n_logit_rows) return;
    const struct sample_params p = STEP_ARRAY(op.step, struct sample_params, sample)[row];
    const int32_t first = chunk * SAMPLE_CHUNK, end = min(first + (int32_t)SAMPLE_CHUNK, op.vocab);
    const float *logits = op.logits + row * op.stride;
    struct sample_partial partial = {};
    const struct sample_best raw = largest_of(logits, first, end, best_scratch);
    partial.raw_max = partial.max = raw.value;
    partial.max_token = raw.token;
    if (sample_has_logprobs(&p)) {
        float sum = 0;
        for (int32_t i = first + threadIdx.x; i < end; i += SAMPLE_THREADS)
            if (raw.value > -INFINITY) sum += expf(logits[i] - raw.value);
        partial.raw_sum = block_sum(sum, scratch);
    }
    if (sample_is_edited(&p)) {
        float *edited = view.edited + (int64_t)row * op.vocab;
        edit_chunk(op.step, &p, logits, edited, first, end);
        const struct sample_best best = largest_of(edited, first, end, best_scratch);
        partial.max = best.value;
        partial.max_token = best.token;
    }
    if (threadIdx.x == 0) view.partials[(int64_t)row * view.n_chunks + chunk] = partial;
}

// The largest of a row's edited logits, from all partials: the same in every thread.
static __device__ struct sample_best row_largest(const struct sample_partial *partials, int32_t n_chunks) {
    struct sample_best best = {-INFINITY, 0};
    for (int32_t i = 0; i < n_chunks; i++) best = better(best, {partials[i].max, partials[i].max_token});
    return best;
}

static __global__ void __launch_bounds__(SAMPLE_THREADS)
    draw_kernel(const __grid_constant__ struct sample_run op, const __grid_constant__ struct sample_view view) {
    __shared__ struct sample_best best_scratch[32];
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, chunk = blockIdx.x;
    if (row >= op.step->n_logit_rows) return;
    const struct sample_params p = STEP_ARRAY(op.step, struct sample_params, sample)[row];
    if (p.forced_token >= 0 || sample_is_greedy(&p) || sample_is_filtered(&p, op.vocab)) return;
    const int32_t first = chunk * SAMPLE_CHUNK, end = min(first + (int32_t)SAMPLE_CHUNK, op.vocab);
    const float *logits = sample_is_edited(&p) ? view.edited + (int64_t)row * op.vocab : op.logits + row * op.stride;
    struct sample_partial *partials = view.partials + (int64_t)row * view.n_chunks;
    const float largest = row_largest(partials, view.n_chunks).value;
    const uint64_t key = sample_key(&p);
    struct sample_best best = {-INFINITY, partials[chunk].max_token};
    for (int32_t i = first + threadIdx.x; i < end; i += SAMPLE_THREADS)
        best = better(best, {sample_score(key, i, (logits[i] - largest) / p.temperature), i});
    best = block_best(best, best_scratch);
    if (threadIdx.x == 0) partials[chunk].score = best.value, partials[chunk].score_token = best.token;
}

// ------------------------------------------------------------------------------------------------------------ results

static __device__ int32_t draw_filtered(const struct sample_params *p, const float *logits, int32_t vocab,
                                        struct sample_best largest, struct select_scratch *scratch) {
    const struct select_scale scale = {largest.value, p->temperature};
    const struct select_cut cut = select_kept(logits, vocab, scale, p, scratch);
    const uint64_t key = sample_key(p);
    struct sample_best best = {-INFINITY, largest.token};
    for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS)
        if (select_keeps(cut, logits[i], i))
            best = better(best, {sample_score(key, i, select_scaled(scale, logits[i])), i});
    return block_best(best, scratch->best).token;
}

static __device__ int32_t choose(const struct sample_params *p, const struct sample_partial *partials, int32_t n_chunks,
                                 const float *logits, int32_t vocab, struct select_scratch *scratch) {
    if (p->forced_token >= 0) return p->forced_token;
    const struct sample_best largest = row_largest(partials, n_chunks);
    if (sample_is_greedy(p)) return largest.token;
    if (sample_is_filtered(p, vocab)) return draw_filtered(p, logits, vocab, largest, scratch);
    struct sample_best best = {-INFINITY, largest.token};
    for (int32_t i = 0; i < n_chunks; i++) best = better(best, {partials[i].score, partials[i].score_token});
    return best.token;
}

static __device__ float log_sum_exp(const struct sample_partial *partials, int32_t n_chunks) {
    float largest = -INFINITY;
    for (int32_t i = 0; i < n_chunks; i++) largest = fmaxf(largest, partials[i].raw_max);
    float sum = 0;
    for (int32_t i = 0; i < n_chunks; i++)
        if (partials[i].raw_max > -INFINITY) sum += partials[i].raw_sum * expf(partials[i].raw_max - largest);
    return largest + logf(sum);
}

static __device__ void report_logprobs(struct sample_result *result, const struct sample_params *p, const float *logits,
                                       int32_t vocab, int32_t token, float norm, struct select_scratch *scratch) {
    const float own = logits[token];
    int32_t before = 0;
    for (int32_t i = threadIdx.x; i < vocab; i += SAMPLE_ROW_THREADS)
        before += logits[i] > own || (logits[i] == own && i < token);
    before = block_sum(before, scratch->ints);
    const int32_t n_top = min(max(p->n_top_logprobs, 0), vocab);
    select_top(logits, vocab, n_top, scratch);
    if (threadIdx.x != 0) return;
    result->logprob = own - norm;
    result->rank = before + 1;
    result->n_top = n_top;
    for (int32_t i = 0; i < n_top; i++) {
        result->top_token[i] = scratch->top[i].token;
        result->top_logprob[i] = scratch->top[i].value - norm;
    }
}

static __global__ void __launch_bounds__(SAMPLE_ROW_THREADS)
    finish_kernel(const __grid_constant__ struct sample_run op, const __grid_constant__ struct sample_view view) {
    __shared__ struct select_scratch scratch;
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.x;
    if (row >= op.step->n_logit_rows) return;
    const struct sample_params p = STEP_ARRAY(op.step, struct sample_params, sample)[row];
    const float *raw = op.logits + row * op.stride;
    const float *logits = sample_is_edited(&p) ? view.edited + (int64_t)row * op.vocab : raw;
    const struct sample_partial *partials = view.partials + (int64_t)row * view.n_chunks;
    const int32_t token = choose(&p, partials, view.n_chunks, logits, op.vocab, &scratch);
    struct sample_result *result = &op.results[row];
    if (threadIdx.x == 0) {
        op.drawn[row] = result->token = token;
        result->n_top = result->rank = 0;
        result->logprob = 0;
    }
    if (sample_has_logprobs(&p))
        report_logprobs(result, &p, raw, op.vocab, token, log_sum_exp(partials, view.n_chunks), &scratch);
}

cudaError_t sample_run(const struct sample_run *op, cudaStream_t stream) {
    const struct sample_view view = {(struct sample_partial *)op->workspace,
                                     (float *)((char *)op->workspace + partials_bytes(op->n_rows, op->vocab)),
                                     chunks_of(op->vocab)};
    const dim3 chunks((unsigned)view.n_chunks, (unsigned)op->n_rows), rows((unsigned)op->n_rows);
    cudaError_t error = launch(largest_kernel, chunks, dim3(SAMPLE_THREADS), 0, stream, true, *op, view);
    if (error == cudaSuccess) error = launch(draw_kernel, chunks, dim3(SAMPLE_THREADS), 0, stream, true, *op, view);
    if (error == cudaSuccess) error = launch(finish_kernel, rows, dim3(SAMPLE_ROW_THREADS), 0, stream, true, *op, view);
    return error;
}
