// Operations over rows, and drawing, of an 8 B model.
#include "bench/gpu/step.h"

#include "base/rng.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample.h"

#include <math.h>

struct rows_world {
    struct bench *bench;
    const struct bench_model *model;
    struct bench_step step;
    struct device_weight table;
    struct rows_embed embed;
    struct rows_norm norm;
    struct attention_in_finish finish;
    struct sample_run sample;
};

static cudaError_t run_embed(void *context, int turn, cudaStream_t stream) {
    (void)turn;
    return rows_embed(&((struct rows_world *)context)->embed, stream);
}

static cudaError_t run_norm(void *context, int turn, cudaStream_t stream) {
    (void)turn;
    return rows_norm(&((struct rows_world *)context)->norm, stream);
}

static cudaError_t run_finish(void *context, int turn, cudaStream_t stream) {
    (void)turn;
    return attention_in_finish(&((struct rows_world *)context)->finish, stream);
}

static cudaError_t run_sample(void *context, int turn, cudaStream_t stream) {
    (void)turn;
    return sample_run(&((struct rows_world *)context)->sample, stream);
}

static void *take(struct bench *bench, size_t n_bytes) {
    void *memory = memory_take(bench, n_bytes);
    if (!memory) fail("no device memory");
    return memory;
}

static void print_run(struct rows_world *w, const char *operation, const char *way, measured_run *run, int32_t width,
                      double bytes_per_row) {
    struct figure figure = {.operation = operation,
                            .format = "",
                            .way = way,
                            .rows = w->step.n_rows,
                            .n_bytes = bytes_per_row * w->step.n_rows,
                            .difference = NAN};
    snprintf(figure.shape, sizeof figure.shape, "%d", width);
    figure.us = measure_us(w->bench, run, w, w->bench->toy ? 2 : 20);
    figure.limit_us = least_us(w->bench, figure.n_bytes, 0, 0);
    print_figure(w->bench, &figure);
}

// Rows that stay in the L2, as they do in a step.
static void measure_rows(struct bench *bench, const struct bench_model *model, int32_t n_rows) {
    const struct sample_params none = {.top_p = 1, .n_top_logprobs = -1, .forced_token = -1};
    const int32_t hidden = model->hidden, half = model->head_dim / 2;
    const int32_t n_all = (model->n_heads + 2 * model->n_kv_heads) * model->head_dim;
    const size_t rows = (size_t)n_rows;
    int mark = bench->n_memory;
    struct rows_world w = {.bench = bench, .model = model};
    struct device_kv kv = kv_make(bench, model, n_rows, 16);
    step_make(bench, model, &kv.shape, n_rows, 16, 1, &none, &w.step);
    w.table = (struct device_weight){.format = DEVICE_BF16, .n_out = model->vocab, .n_in = hidden, .group = hidden};
    w.table.data = memory_random(bench, (size_t)model->vocab * (size_t)hidden);
    float *weight = take(bench, (size_t)hidden * 4), *cosine = take(bench, rows * (size_t)half * 4);
    float *sine = take(bench, rows * (size_t)half * 4);
    CHECK(cudaMemsetAsync(weight, 0x3e, (size_t)hidden * 4, bench->stream));
    w.embed = (struct rows_embed){.step = w.step.device,
                                  .n_rows = n_rows,
                                  .table = &w.table,
                                  .scale = 1,
                                  .residual = take(bench, rows * (size_t)hidden * 4),
                                  .n_ropes = 1,
                                  .ropes = {{weight, cosine, sine, model->head_dim, 1}}};
    w.norm = (struct rows_norm){.step = w.step.device,
                                .n_rows = n_rows,
                                .n = hidden,
                                .x = w.embed.residual,
                                .weight = weight,
                                .eps = 1e-5f,
                                .out = take(bench, rows * (size_t)hidden * 2),
                                .format = OPERAND_BF16};
    float *qkv = take(bench, rows * (size_t)n_all * 4);
    CHECK(cudaMemsetAsync(qkv, 0x3e, rows * (size_t)n_all * 4, bench->stream));
    w.finish =
        (struct attention_in_finish){.step = w.step.device,
                                     .n_rows = n_rows,
                                     .qkv = qkv,
                                     .norm_eps = 1e-5f,
                                     .cosine = cosine,
                                     .sine = sine,
                                     .n_dims = model->head_dim,
                                     .n_heads = model->n_heads,
                                     .n_kv_heads = model->n_kv_heads,
                                     .head_dim = model->head_dim,
                                     .kv = kv,
                                     .query = take(bench, rows * (size_t)(model->n_heads * model->head_dim) * 2)};
    print_run(&w, "embed", "program", run_embed, hidden, 6.0 * hidden + 8.0 * half);
    print_run(&w, "norm", "program", run_norm, hidden, 6.0 * hidden);
    print_run(&w, "rotate and store", "program", run_finish, n_all, 6.0 * n_all);
    memory_release(bench, mark);
}

static void measure_sample(struct bench *bench, const struct bench_model *model, int32_t n_rows, const char *way,
                           const struct sample_params *sampling) {
    const int32_t vocab = model->vocab;
    const size_t rows = (size_t)n_rows;
    int mark = bench->n_memory;
    struct rows_world w = {.bench = bench, .model = model};
    struct device_kv kv = kv_make(bench, model, n_rows, 16);
    step_make(bench, model, &kv.shape, n_rows, 16, 1, sampling, &w.step);
    float *logits = take(bench, rows * (size_t)vocab * 4);
    struct device_weight normal;
    CHECK(device_weight_random(&normal, DEVICE_F32, n_rows, vocab, rng_key(11, 0, 0), bench->quantiles, logits,
                               bench->stream));
    w.sample = (struct sample_run){.step = w.step.device,
                                   .n_rows = n_rows,
                                   .logits = logits,
                                   .stride = vocab,
                                   .vocab = vocab,
                                   .workspace = take(bench, sample_workspace_bytes(n_rows, vocab)),
                                   .drawn = take(bench, rows * sizeof(int32_t)),
                                   .results = take(bench, rows * sizeof(struct sample_result))};
    print_run(&w, "sample", way, run_sample, vocab, 4.0 * vocab);
    memory_release(bench, mark);
}

void bench_rows(struct bench *bench) {
    static const struct bench_model model_8b = {4096, 32, 8, 128, 128256, KV_BF16};
    static const struct bench_model toy = {64, 4, 2, 64, 300, KV_BF16};
    static const int32_t rows[] = {1, 64, 2048}, toy_rows[] = {1, 3}, draws[] = {1, 64, 256};
    static const struct {
        const char *way;
        struct sample_params sampling;
    } ways[] = {
        {"greedy", {.top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1}},
        {"random", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1}},
        {"top_p",
         {.temperature = 0.8f, .top_p = 0.9f, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1}},
        {"top_k",
         {.temperature = 0.8f,
          .top_k = 40,
          .top_p = 1,
          .repetition_penalty = 1,
          .n_top_logprobs = 5,
          .forced_token = -1}},
    };
    const struct bench_model *model = bench->toy ? &toy : &model_8b;
    const int32_t *row_counts = bench->toy ? toy_rows : rows, *draw_counts = bench->toy ? toy_rows : draws;
    for (int i = 0; i < (bench->toy ? 2 : 3); i++) measure_rows(bench, model, row_counts[i]);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (int i = 0; i < (bench->toy ? 2 : 3); i++)
            measure_sample(bench, model, draw_counts[i], ways[w].way, &ways[w].sampling);
}
