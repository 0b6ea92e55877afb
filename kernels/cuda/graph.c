// Steps as captured graphs, one for each bucket of rows, rows with logits and kinds of attention. A bucket's first step
// is launched operation by operation, which also loads the kernels; its second is captured, and replayed from then on.
// Now and then a step is launched by operations again, with events between them, so that their times are known.
#include "base/mem.h"
#include "kernels/cuda/cuda_backend.h"

#include <assert.h>
#include <stdlib.h>

enum { BUCKET_STEP = 512, SAMPLE_EVERY = 256 };

// Buckets up to n_max: the sizes of a list, then steps of BUCKET_STEP; the last is n_max.
static int choose(int32_t *buckets, const int32_t *sizes, int32_t n_max) {
    int n = 0;
    for (; *sizes && *sizes < n_max; sizes++) buckets[n++] = *sizes;
    for (int32_t rows = BUCKET_STEP; rows < n_max; rows += BUCKET_STEP) {
        assert(n < BUCKETS_MAX - 1);
        buckets[n++] = rows;
    }
    buckets[n++] = n_max;
    return n;
}

// The head costs nearly the same for few rows as for one, so it has fewer buckets, and steps have fewer graphs.
void cuda_buckets_choose(struct cuda_program *p) {
    static const int32_t row_sizes[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 0};
    static const int32_t logit_sizes[] = {1, 4, 16, 64, 128, 256, 0};
    p->n_row_buckets = choose(p->row_buckets, row_sizes, p->common.shape.rows_max);
    p->n_logit_buckets = choose(p->logit_buckets, logit_sizes, p->common.shape.logit_rows_max);
}

static int32_t bucket_for(const int32_t *buckets, int32_t n) {
    while (*buckets < n) buckets++;
    return *buckets;
}

int32_t cuda_padding_rows(const struct cuda_program *p, int32_t n_rows) {
    return bucket_for(p->row_buckets, n_rows) - n_rows;
}

static struct cuda_graph *graph_for(struct cuda_program *p, const struct bucket *b) {
    for (int i = 0; i < p->n_graphs; i++) {
        const struct bucket *a = &p->graphs[i].bucket;
        if (a->n_rows == b->n_rows && a->n_logit_rows == b->n_logit_rows && a->has_decode == b->has_decode &&
            a->has_prefill == b->has_prefill)
            return &p->graphs[i];
    }
    p->graphs = mem_grow(p->graphs, (size_t)p->n_graphs + 1, sizeof *p->graphs);
    p->graphs[p->n_graphs] = (struct cuda_graph){.bucket = *b};
    return &p->graphs[p->n_graphs++];
}

static cudaError_t launch_ops(struct cuda_program *p, const struct bucket *bucket, bool with_marks) {
    cudaError_t error = with_marks ? cudaEventRecord(p->marks[0], p->backend->stream) : cudaSuccess;
    for (int i = 0; error == cudaSuccess && i < p->n_ops; i++) {
        error = cuda_op_run(p, i, bucket);
        if (error == cudaSuccess && with_marks) error = cudaEventRecord(p->marks[i + 1], p->backend->stream);
    }
    return error;
}

// A capture that fails is no failure of the device: the bucket's steps are launched by operations.
static void capture(struct cuda_program *p, struct cuda_graph *graph) {
    cudaStream_t stream = p->backend->stream;
    cudaGraph_t captured = NULL;
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess) {
        error = launch_ops(p, &graph->bucket, false);
        cudaError_t end = cudaStreamEndCapture(stream, &captured);
        if (error == cudaSuccess) error = end;
    }
    if (error == cudaSuccess) error = cudaGraphInstantiate(&graph->exec, captured, 0);
    if (captured) cudaGraphDestroy(captured);
    if (error == cudaSuccess) return;
    (void)cudaGetLastError();
    graph->exec = NULL;
    graph->is_eager = true;
}

cudaError_t cuda_step_queue(struct cuda_program *p, const struct device_step *step, bool *is_sampled) {
    struct bucket bucket = {.n_rows = bucket_for(p->row_buckets, step->n_rows),
                            .n_logit_rows = step->n_logit_rows ? bucket_for(p->logit_buckets, step->n_logit_rows) : 0,
                            .has_decode = step->n_decode_items > 0,
                            .has_prefill = step->n_prefill_items > 0};
    struct cuda_graph *graph = graph_for(p, &bucket);
    bool is_first = graph->n_runs == 0;
    *is_sampled = graph->n_runs++ % SAMPLE_EVERY == 0;
    // The marks of a sampled step are read when it is collected: two of them may not be in flight.
    for (int i = 0; i < STEPS_MAX; i++)
        if (p->backend->steps[i].program == p && p->backend->steps[i].is_sampled) *is_sampled = false;
    if (*is_sampled || is_first) return launch_ops(p, &bucket, *is_sampled);
    if (!graph->exec && !graph->is_eager) capture(p, graph);
    return graph->exec ? cudaGraphLaunch(graph->exec, p->backend->stream) : launch_ops(p, &bucket, false);
}

void cuda_graphs_close(struct cuda_program *p) {
    for (int i = 0; i < p->n_graphs; i++)
        if (p->graphs[i].exec) cudaGraphExecDestroy(p->graphs[i].exec);
    free(p->graphs);
}
