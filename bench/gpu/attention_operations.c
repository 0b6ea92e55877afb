// Attention of an 8 B model: decode by bandwidth, prompts by arithmetic.
#include "bench/gpu/step.h"

#include <math.h>

static const struct bench_model model_8b = {4096, 32, 8, 128, 128256, KV_BF16};
static const struct bench_model model_toy = {64, 4, 2, 64, 300, KV_BF16};

static cudaError_t run_attention(void *context, int turn, cudaStream_t stream) {
    struct attention_run run = *(const struct attention_run *)context;
    run.layer = turn % run.kv.shape.n_layers;
    return attention_run(&run, stream);
}

static void measure_attention(struct bench *bench, const struct bench_model *model, int32_t n_sequences,
                              int32_t context, int32_t n_rows) {
    const struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1};
    const bool is_prompt = n_rows > 1;
    int mark = bench->n_memory;
    struct figure figure = {.operation = is_prompt ? "attention prompt" : "attention decode",
                            .format = kv_format_name(model->kv_format),
                            .way = "program",
                            .rows = n_sequences * n_rows,
                            .context = context,
                            .difference = NAN};
    snprintf(figure.shape, sizeof figure.shape, "%d/%d heads of %d", model->n_heads, model->n_kv_heads,
             model->head_dim);
    struct device_kv kv = kv_make(bench, model, n_sequences, context);
    const size_t width = (size_t)(model->n_heads * model->head_dim), n = (size_t)figure.rows * width;
    void *query = kv.data ? memory_random(bench, n) : NULL, *out = query ? memory_take(bench, n * 2) : NULL;
    figure.us = NAN;
    if (out) {
        struct bench_step step;
        step_make(bench, model, &kv.shape, n_sequences, context, n_rows, &greedy, &step);
        struct attention_run run = {.step = step.device,
                                    .n_rows = step.n_rows,
                                    .has_decode = step.has_decode,
                                    .has_prefill = step.has_prefill,
                                    .query = query,
                                    .kv = kv,
                                    .n_heads = model->n_heads,
                                    .scale = 1.0f / sqrtf((float)model->head_dim),
                                    .partials = step.partials,
                                    .n_processors = bench->n_processors,
                                    .out = out,
                                    .out_format = OPERAND_BF16};
        int n_runs = kv.shape.n_layers < 4 && !bench->toy ? 4 : kv.shape.n_layers;
        figure.us = measure_us(bench, run_attention, &run, n_runs);
    }
    // Rows of a prompt see half of it on average.
    double positions = is_prompt ? (double)context / 2 : context;
    figure.n_bytes = (double)kv.layer_bytes + 4 * (double)n;
    figure.n_flops = 4.0 * (double)n * positions;
    figure.limit_us = least_us(bench, figure.n_bytes, figure.n_flops, bench->bf16_flops_per_s);
    print_figure(bench, &figure);
    memory_release(bench, mark);
}

void bench_attention(struct bench *bench) {
    static const int32_t batches[] = {1, 8, 64, 256}, contexts[] = {1024, 8192}, prompts[] = {1024, 4096, 8192};
    for (int f = KV_BF16; f <= KV_FP8; f++) {
        struct bench_model model = bench->toy ? model_toy : model_8b;
        model.kv_format = (enum kv_format)f;
        if (bench->toy) {
            measure_attention(bench, &model, 3, 40, 1);
            measure_attention(bench, &model, 1, 48, 48);
            continue;
        }
        for (int c = 0; c < 2; c++)
            for (int b = 0; b < 4; b++) measure_attention(bench, &model, batches[b], contexts[c], 1);
        for (int p = 0; p < 3; p++) measure_attention(bench, &model, 1, prompts[p], prompts[p]);
    }
}
