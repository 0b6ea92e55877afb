// Drawing tokens in three kernels. The first, a block a chunk of a row, edits logits and finds the largest; the second
// draws where nothing is filtered, and puts the others into bins; the third, one block a row, filters and writes the
// results.
#include "kernels/cuda/sample_select.h"

struct sample_view {
    struct sample_partial *partials; // [rows, n_chunks]
    struct sample_best *tops;        // [rows, n_chunks, TOP_LOGPROBS_MAX]: each chunk's largest raw logits, sorted
    select_sum_t *counts, *masses;   // [rows, SELECT_BINS]
    float *edited;                   // [rows, edited_stride]
    int32_t n_chunks, edited_stride;
};

static size_t take(size_t *used, size_t n_bytes) {
    const size_t at = *used;
    *used += (n_bytes + 255) / 256 * 256;
    return at;
}

// Returns the bytes that the parts of a workspace take together.
static size_t lay_out(struct sample_view *view, void *workspace, int32_t n_rows, int32_t vocab) {
    const size_t rows = (size_t)n_rows;
    const uintptr_t base = (uintptr_t)workspace;
    size_t used = 0;
    view->n_chunks = (vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
    view->edited_stride = (vocab + 3) / 4 * 4;
    const size_t chunks = rows * (size_t)view->n_chunks;
    view->partials = (struct sample_partial *)(base + take(&used, chunks * sizeof *view->partials));
    view->tops = (struct sample_best *)(base + take(&used, chunks * TOP_LOGPROBS_MAX * sizeof *view->tops));
    view->counts = (select_sum_t *)(base + take(&used, rows * SELECT_BINS * sizeof *view->counts));
    view->masses = (select_sum_t *)(base + take(&used, rows * SELECT_BINS * sizeof *view->masses));
    view->edited = (float *)(base + take(&used, rows * (size_t)view->edited_stride * sizeof *view->edited));
    return used;
}

size_t sample_workspace_bytes(int32_t logit_rows_max, int32_t vocab) {
    struct sample_view view;
    return lay_out(&view, NULL, logit_rows_max, vocab);
}

static __device__ __forceinline__ const float *row_logits(const struct sample_run *op, const struct sample_view *view,
                                                          const struct sample_params *p, int32_t row) {
    return sample_is_edited(p) ? view->edited + (int64_t)row * view->edited_stride : op->logits + row * op->stride;
}

// ------------------------------------------------------------------------------------------------ edits and largest

static __device__ __forceinline__ float penalised(float logit, const struct sample_params *p, int32_t n_generated) {
    if (p->repetition_penalty != 1) logit = logit > 0 ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    if (n_generated > 0) logit -= p->presence_penalty + p->frequency_penalty * (float)n_generated;
    return logit;
}

// Edits of both kinds look alike: a token, and 32 bits that say what happens to it.
struct edit_entry {
    int32_t token;
    uint32_t what;
};
static_assert(sizeof(struct edit_entry) == sizeof(struct logit_edit) &&
                  sizeof(struct edit_entry) == sizeof(struct seen_token),
              "edits are read as entries");

struct edit_scratch {
    struct edit_entry found[SAMPLE_THREADS];
    int32_t n_found[SAMPLE_THREADS / WARP_LANES];
};

// Applies to [first, end) of `edited` what of `entries` is for it. A token belongs to the thread that wrote it, which
// takes its entries in their order.
static __device__ void apply_edits(const struct edit_entry *entries, int32_t n, bool is_seen,
                                   const struct sample_params *p, float *edited, int32_t first, int32_t end,
                                   struct edit_scratch *s) {
    const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    for (int32_t base = 0; base < n; base += SAMPLE_THREADS) {
        const int32_t i = base + threadIdx.x;
        const struct edit_entry entry = i < n ? entries[i] : edit_entry{-1, 0};
        const bool is_here = entry.token >= first && entry.token < end;
        const uint32_t here = __ballot_sync(FULL_MASK, is_here);
        if (lane == 0) s->n_found[warp] = __popc(here);
        __syncthreads();
        int32_t before = __popc(here & ((1u << lane) - 1)), n_found = 0;
        for (int w = 0; w < SAMPLE_THREADS / WARP_LANES; w++) {
            if (w < warp) before += s->n_found[w];
            n_found += s->n_found[w];
        }
        if (is_here) s->found[before] = entry;
        __syncthreads();
        for (int32_t f = 0; f < n_found; f++) {
            const struct edit_entry e = s->found[f];
            if ((e.token - first) / 4 % SAMPLE_THREADS != (int32_t)threadIdx.x) continue;
            edited[e.token] =
                is_seen ? penalised(edited[e.token], p, (int32_t)e.what) : edited[e.token] + __uint_as_float(e.what);
        }
    }
}

// x = the edited logits of the chunk, which are written to `edited`, too.
static __device__ void edit_chunk(const struct device_step *step, const struct sample_params *p,
                                  float (&x)[SAMPLE_HELD], float *edited, int32_t first, int32_t end,
                                  struct edit_scratch *scratch) {
#pragma unroll
    for (int i = 0; i < SAMPLE_HELD; i++) {
        const int32_t token = first + quad_offset<SAMPLE_THREADS>(i);
        if (token < end) edited[token] = x[i];
    }
    const struct edit_entry *edits = STEP_ARRAY(step, struct edit_entry, edits) + p->edit_first;
    const struct edit_entry *seen = STEP_ARRAY(step, struct edit_entry, seen) + p->seen_first;
    apply_edits(edits, p->edit_count, false, p, edited, first, end, scratch);
    __syncthreads();
    apply_edits(seen, p->seen_count, true, p, edited, first, end, scratch);
    read_quads<SAMPLE_THREADS>(x, edited, first, end, -INFINITY);
}

static __device__ struct sample_best largest_of(const float (&x)[SAMPLE_HELD], int32_t first,
                                                struct sample_best *scratch) {
    struct sample_best best = {-INFINITY, first};
#pragma unroll
    for (int i = 0; i < SAMPLE_HELD; i++) best = better(best, {x[i], first + quad_offset<SAMPLE_THREADS>(i)});
    return block_best(best, scratch);
}

// top[n] = the largest of the chunk, sorted; behind the chunk's last token come entries that no token is worse than.
static __device__ void find_top(struct sample_best *top, int32_t n, const float (&x)[SAMPLE_HELD], int32_t first,
                                int32_t end, struct sample_best *scratch) {
    struct sample_best last = {INFINITY, -1};
    for (int32_t rank = 0; rank < n; rank++) {
        struct sample_best best = {-INFINITY, INT32_MAX};
#pragma unroll
        for (int i = 0; i < SAMPLE_HELD; i++) {
            const struct sample_best own = {x[i], first + quad_offset<SAMPLE_THREADS>(i)};
            if (own.token < end && comes_before(last, own)) best = better(best, own);
        }
        last = block_best(best, scratch);
        if (threadIdx.x == 0) top[rank] = last;
    }
}

// What of the raw logits is reported.
static __device__ void weigh_raw(struct sample_partial *partial, struct sample_best *top, const struct sample_params *p,
                                 const float (&x)[SAMPLE_HELD], int32_t first, int32_t end, float *scratch,
                                 struct sample_best *best_scratch) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < SAMPLE_HELD; i++)
        if (partial->raw_max > -INFINITY) sum += expf(x[i] - partial->raw_max);
    partial->raw_sum = block_sum(sum, scratch);
    find_top(top, p->n_top_logprobs, x, first, end, best_scratch);
}

static __global__ void __launch_bounds__(SAMPLE_THREADS)
    largest_kernel(const __grid_constant__ struct sample_run op, const __grid_constant__ struct sample_view view) {
    __shared__ struct sample_best best_scratch[32];
    __shared__ struct edit_scratch edit_scratch;
    __shared__ float scratch[32];
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, chunk = blockIdx.x;
    if (row >= op.step->n_logit_rows) return;
    const struct sample_params p = STEP_ARRAY(op.step, struct sample_params, sample)[row];
    const int32_t first = chunk * SAMPLE_CHUNK, end = min(first + (int32_t)SAMPLE_CHUNK, op.vocab);
    const int64_t at = (int64_t)row * view.n_chunks + chunk;
    float x[SAMPLE_HELD];
    read_quads<SAMPLE_THREADS>(x, op.logits + row * op.stride, first, end, -INFINITY);
    struct sample_partial partial = {};
    const struct sample_best raw = largest_of(x, first, best_scratch);
    partial.raw_max = partial.max = raw.value;
    partial.max_token = raw.token;
    if (sample_has_logprobs(&p))
        weigh_raw(&partial, view.tops + at * TOP_LOGPROBS_MAX, &p, x, first, end, scratch, best_scratch);
    if (sample_is_edited(&p)) {
        float *edited = view.edited + (int64_t)row * view.edited_stride;
        edit_chunk(op.step, &p, x, edited, first, end, &edit_scratch);
        const struct sample_best best = largest_of(x, first, best_scratch);
        partial.max = best.value;
        partial.max_token = best.token;
    }
    if (threadIdx.x == 0) view.partials[at] = partial;
    if (!sample_is_drawn(&p) || !sample_is_filtered(&p, op.vocab)) return;
    for (int32_t i = chunk * SAMPLE_THREADS + threadIdx.x; i < SELECT_BINS; i += view.n_chunks * SAMPLE_THREADS) {
        view.counts[(int64_t)row * SELECT_BINS + i] = 0;
        view.masses[(int64_t)row * SELECT_BINS + i] = 0;
    }
}

// ----------------------------------------------------------------------------------------------------- draw or bins

// The largest of a row's edited logits, for all threads of a block.
static __device__ struct sample_best row_largest(const struct sample_partial *partials, int32_t n_chunks,
                                                 struct sample_best *scratch) {
    struct sample_best best = {-INFINITY, INT32_MAX};
    for (int32_t i = threadIdx.x; i < n_chunks; i += blockDim.x)
        best = better(best, {partials[i].max, partials[i].max_token});
    return block_best(best, scratch);
}

struct bin_scratch {
    uint32_t counts[SELECT_BINS];
    uint32_t low[SELECT_BINS], high[SELECT_BINS]; // halves of masses
    select_sum_t sums[32];
};

// Adds a chunk to its row's bins. The last bin, which has most tokens, is added up in registers.
static __device__ void fill_bins(const struct select_row *row, const float (&x)[SAMPLE_HELD], int32_t first,
                                 int32_t end, select_sum_t *counts, select_sum_t *masses, struct bin_scratch *s) {
    const int half = SELECT_MASS_BITS / 2;
    for (int32_t i = threadIdx.x; i < SELECT_BINS; i += SAMPLE_THREADS) s->counts[i] = s->low[i] = s->high[i] = 0;
    __syncthreads();
    select_sum_t last_count = 0, last_mass = 0;
#pragma unroll
    for (int i = 0; i < SAMPLE_HELD; i++) {
        if (first + quad_offset<SAMPLE_THREADS>(i) >= end) continue;
        const int32_t bin = select_bin(row, x[i]);
        const select_sum_t mass = select_mass(row, x[i]);
        if (bin == SELECT_BINS - 1) {
            last_count++, last_mass += mass;
            continue;
        }
        atomicAdd(&s->counts[bin], 1u);
        atomicAdd(&s->low[bin], (uint32_t)mass & ((1u << half) - 1));
        atomicAdd(&s->high[bin], (uint32_t)(mass >> half));
    }
    last_count = block_sum(last_count, s->sums);
    last_mass = block_sum(last_mass, s->sums);
    for (int32_t i = threadIdx.x; i < SELECT_BINS; i += SAMPLE_THREADS) {
        const bool is_last = i == SELECT_BINS - 1;
        const select_sum_t count = is_last ? last_count : s->counts[i];
        if (count == 0) continue;
        atomicAdd(&counts[i], count);
        atomicAdd(&masses[i], is_last ? last_mass : s->low[i] + ((select_sum_t)s->high[i] << half));
    }
}

static __global__ void __launch_bounds__(SAMPLE_THREADS)
    draw_kernel(const __grid_constant__ struct sample_run op, const __grid_constant__ struct sample_view view) {
    __shared__ struct sample_best best_scratch[32];
    __shared__ struct bin_scratch bin_scratch;
    dependency_launch();
    dependency_wait();
    const int32_t row = blockIdx.y, chunk = blockIdx.x;
    if (row >= op.step->n_logit_rows) return;
    const struct sample_params p = STEP_ARRAY(op.step, struct sample_params, sample)[row];
    if (!sample_is_drawn(&p)) return;
    const int32_t first = chunk * SAMPLE_CHUNK, end = min(first + (int32_t)SAMPLE_CHUNK, op.vocab);
    struct sample_partial *partials = view.partials + (int64_t)row * view.n_chunks;
    const float *logits = row_logits(&op, &view, &p, row);
    float x[SAMPLE_HELD];
    read_quads<SAMPLE_THREADS>(x, logits, first, end, -INFINITY);
    const struct sample_best largest = row_largest(partials, view.n_chunks, best_scratch);
    struct select_row scale = {};
    scale.largest = largest.value;
    scale.temperature = p.temperature;
    if (sample_is_filtered(&p, op.vocab)) {
        const int64_t bins = (int64_t)row * SELECT_BINS;
        fill_bins(&scale, x, first, end, view.counts + bins, view.masses + bins, &bin_scratch);
        return;
    }
    const uint64_t key = sample_key(&p);
    struct sample_best best = sample_first(key, largest);
#pragma unroll
    for (int i = 0; i < SAMPLE_HELD; i++) {
        const int32_t token = first + quad_offset<SAMPLE_THREADS>(i);
        if (token < end) best = sample_next(best, key, token, select_scaled(&scale, x[i]));
    }
    best = block_best(best, best_scratch);
    if (threadIdx.x == 0) partials[chunk].score = best.value, partials[chunk].score_token = best.token;
}

// ------------------------------------------------------------------------------------------------------------ results

static __device__ int32_t draw_filtered(const struct select_row *row, const struct sample_params *p,
                                        struct sample_best largest, struct select_scratch *scratch) {
    struct select_list list;
    const struct select_cut cut = select_kept(row, p, &list, scratch);
    const uint64_t key = sample_key(p);
    struct sample_best best = sample_first(key, largest);
    for (int32_t i = threadIdx.x; i < list.n; i += SAMPLE_ROW_THREADS) {
        const int32_t token = select_token(&list, i);
        const float x = list.values[i];
        if (select_keeps(cut, x, token)) best = sample_next(best, key, token, select_scaled(row, x));
    }
    return block_best(best, scratch->best).token;
}

static __device__ int32_t choose(const struct sample_run *op, const struct sample_view *view,
                                 const struct sample_params *p, int32_t row, struct select_scratch *scratch) {
    if (p->forced_token >= 0) return p->forced_token;
    const struct sample_partial *partials = view->partials + (int64_t)row * view->n_chunks;
    const struct sample_best largest = row_largest(partials, view->n_chunks, scratch->best);
    if (!sample_is_drawn(p)) return largest.token;
    if (sample_is_filtered(p, op->vocab)) {
        const int64_t bins = (int64_t)row * SELECT_BINS;
        const struct select_row select = {
            row_logits(op, view, p, row), op->vocab,          largest.value, p->temperature,
            view->counts + bins,          view->masses + bins};
        return draw_filtered(&select, p, largest, scratch);
    }
    struct sample_best best = {-INFINITY, largest.token};
    for (int32_t i = threadIdx.x; i < view->n_chunks; i += SAMPLE_ROW_THREADS)
        best = better(best, {partials[i].score, partials[i].score_token});
    return block_best(best, scratch->best).token;
}

static __device__ float log_sum_exp(const struct sample_partial *partials, int32_t n_chunks,
                                    struct select_scratch *scratch) {
    float largest = -INFINITY, sum = 0;
    for (int32_t i = threadIdx.x; i < n_chunks; i += SAMPLE_ROW_THREADS) largest = fmaxf(largest, partials[i].raw_max);
    largest = block_max(largest, scratch->floats);
    for (int32_t i = threadIdx.x; i < n_chunks; i += SAMPLE_ROW_THREADS)
        if (partials[i].raw_max > -INFINITY) sum += partials[i].raw_sum * expf(partials[i].raw_max - largest);
    return largest + logf(block_sum(sum, scratch->floats));
}

static __device__ int32_t rank_of(const float *logits, int32_t vocab, int32_t token, struct select_scratch *scratch) {
    const struct sample_best own = {logits[token], token};
    int32_t before = 0;
    for (int32_t first = 0; first < vocab; first += SAMPLE_ROW_CHUNK) {
        float x[SAMPLE_HELD];
        read_quads<SAMPLE_ROW_THREADS>(x, logits, first, vocab, -INFINITY);
#pragma unroll
        for (int i = 0; i < SAMPLE_HELD; i++)
            before += comes_before({x[i], first + quad_offset<SAMPLE_ROW_THREADS>(i)}, own);
    }
    return block_sum(before, scratch->ints) + 1;
}

// The largest of a row are among the largest of its chunks.
static __device__ void report_top(struct sample_result *result, const struct sample_best *tops, int32_t n_chunks,
                                  int32_t n, float norm, struct select_scratch *scratch) {
    struct sample_best last = {INFINITY, -1};
    for (int32_t rank = 0; rank < n; rank++) {
        struct sample_best best = {-INFINITY, INT32_MAX};
        for (int32_t i = threadIdx.x; i < n_chunks * n; i += SAMPLE_ROW_THREADS) {
            const struct sample_best top = tops[i / n * TOP_LOGPROBS_MAX + i % n];
            if (comes_before(last, top)) best = better(best, top);
        }
        last = block_best(best, scratch->best);
        if (threadIdx.x != 0) continue;
        result->top_token[rank] = last.token;
        result->top_logprob[rank] = last.value - norm;
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
    const int32_t token = choose(&op, &view, &p, row, &scratch);
    struct sample_result *result = &op.results[row];
    float logprob = 0;
    int32_t rank = 0, n_top = 0;
    if (sample_has_logprobs(&p)) {
        const float *raw = op.logits + row * op.stride;
        const int64_t chunk = (int64_t)row * view.n_chunks;
        const float norm = log_sum_exp(view.partials + chunk, view.n_chunks, &scratch);
        logprob = raw[token] - norm;
        rank = rank_of(raw, op.vocab, token, &scratch);
        n_top = min(max(p.n_top_logprobs, 0), op.vocab);
        report_top(result, view.tops + chunk * TOP_LOGPROBS_MAX, view.n_chunks, n_top, norm, &scratch);
    }
    if (threadIdx.x != 0) return;
    op.drawn[row] = result->token = token;
    result->logprob = logprob;
    result->rank = rank;
    result->n_top = n_top;
}

cudaError_t sample_run(const struct sample_run *op, cudaStream_t stream) {
    struct sample_view view;
    lay_out(&view, op->workspace, op->n_rows, op->vocab);
    const dim3 chunks((unsigned)view.n_chunks, (unsigned)op->n_rows), rows((unsigned)op->n_rows);
    cudaError_t error = launch(largest_kernel, chunks, dim3(SAMPLE_THREADS), 0, stream, true, *op, view);
    if (error == cudaSuccess) error = launch(draw_kernel, chunks, dim3(SAMPLE_THREADS), 0, stream, true, *op, view);
    if (error == cudaSuccess) error = launch(finish_kernel, rows, dim3(SAMPLE_ROW_THREADS), 0, stream, true, *op, view);
    return error;
}
