// What whole steps promise on every device, as checks that a device's tests call.
#pragma once

#include "tests/kernels/tiny_model.h"
#include "tests/test.h"

static const struct tiny_shape tiny_shapes[] = {
    {64, 8, 4, 8, 172, 96, TENSOR_F32, KV_F32, ACTIVATION_SILU, false, false, false, true, 8, 0, 0, 0, 0, false},
    {48, 4, 2, 16, 80, 61, TENSOR_F16, KV_F32, ACTIVATION_GELU_TANH, true, true, false, false, 12, 20, 30, 0, 0, false},
    {72, 3, 1, 48, 50, 77, TENSOR_BF16, KV_F32, ACTIVATION_SILU, true, false, true, false, 48, 0, 0, 0, 0, false},
    {96, 4, 4, 80, 100, 33, TENSOR_BF16, KV_BF16, ACTIVATION_SILU, false, false, true, true, 80, 33, 0, 0, 0, false},
    {31, 5, 1, 128, 17, 40, TENSOR_F32, KV_BF16, ACTIVATION_GELU_TANH, false, true, true, false, 64, 0, 50, 0, 0,
     false},
    {64, 6, 2, 20, 80, 61, TENSOR_F32, KV_F32, ACTIVATION_SILU, 2, true, true, false, 20, 0, 0, 0, 0, false},
};
// With experts in layer 1.
static const struct tiny_shape tiny_expert_shapes[] = {
    {64, 8, 4, 8, 172, 96, TENSOR_F32, KV_F32, ACTIVATION_SILU, false, false, false, true, 8, 0, 0, 9, 4, false},
    {48, 4, 2, 16, 80, 61, TENSOR_F16, KV_F32, ACTIVATION_GELU_TANH, true, true, false, false, 12, 20, 30, 5, 2, true},
    {72, 3, 1, 48, 50, 77, TENSOR_BF16, KV_F32, ACTIVATION_SILU, true, false, true, false, 48, 0, 0, 6, 1, true},
    {96, 4, 4, 80, 100, 33, TENSOR_BF16, KV_BF16, ACTIVATION_SILU, false, false, true, true, 80, 33, 0, 8, 8, false},
};
// Shapes differ in what is computed, hardly in what threads share.
enum { THREADS_STRIDE = TEST_SEES_THREADS ? TEST_STRIDE : 1 };
enum { N_TINY_EXPERT_SHAPES = sizeof tiny_expert_shapes / sizeof *tiny_expert_shapes };
enum { N_TINY_SHAPES = sizeof tiny_shapes / sizeof *tiny_shapes };

static inline void make_tokens(int32_t *tokens, int32_t n, int32_t vocab, uint64_t seed) {
    for (int32_t i = 0; i < n; i++) tokens[i] = (int32_t)(rng_u32(rng_key(seed, 0, 0), (uint64_t)i) % (uint32_t)vocab);
}

// Logits of a prompt in one step are those of plain arithmetic.
static inline void check_agreement_with_plain(const struct tiny_shape *shape, const struct tiny_device *device) {
    enum { N = 45 };
    struct tiny_model *model = tiny_open(shape, 7);
    struct tiny_engine engine = tiny_engine_open(model, device, N);
    int32_t tokens[N];
    make_tokens(tokens, N, shape->vocab, 1);
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result results[N];
    tiny_step_add(step, &(struct tiny_part){tokens, N, 0, 5, 3, false});
    tiny_step_run(&engine, step, results);
    size_t kv = (size_t)(TINY_LAYERS * N * shape->n_kv_heads * shape->head_dim);
    struct tiny_plain plain = {calloc(kv, 8), calloc(kv, 8), N};
    double *logits = calloc((size_t)shape->vocab, sizeof *logits);
    bool in_bf16 = shape->format == TENSOR_BF16 || shape->kv_format == KV_BF16; // activations or cache
    bool in_f16 = shape->format == TENSOR_F16 && device->driver;                // a device's activations
    double tolerance = shape->kv_format == KV_FP8 || shape->kv_format == KV_INT8 ? 1
                       : in_bf16                                                 ? 0.3
                       : in_f16                                                  ? 0.04
                                                                                 : 2e-4;
    for (int32_t i = 0; i < N; i++) {
        tiny_plain_step(model, &plain, tokens[i], i, logits);
        const float *got = backend_logits(engine.backend, i);
        double worst = 0;
        for (int32_t v = 0; v < shape->vocab; v++) worst = fmax(worst, fabs((double)got[v] - logits[v]));
        if (worst > tolerance)
            fail_msg("%s, row %d: logits differ by %g", backend_description(engine.backend), i, worst);
        for (int32_t v = 0; v < shape->vocab; v++) assert_true(got[v] <= got[results[i].token]);
    }
    free(plain.keys), free(plain.values), free(logits), free(step);
    tiny_engine_close(&engine);
    tiny_close(model);
}

// Runs tokens in chunks of the given lengths (repeated) and writes the logits of each row. Other sequences of odd
// lengths share the steps when n_others > 0.
static inline void run_chunked(struct tiny_engine *e, const int32_t *tokens, int32_t n, int32_t chunk, int32_t n_others,
                               int32_t block_first, float *logits) {
    int32_t vocab = e->model->shape.vocab;
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result *results = calloc((size_t)n + 64, sizeof *results);
    for (int32_t done = 0; done < n; done += chunk) {
        int32_t m = n - done < chunk ? n - done : chunk, first_row = 0;
        step->input = (struct step_input){0};
        for (int32_t o = 0; o < n_others; o++) {
            if (o == n_others / 2) {
                first_row = step->input.n_logit_rows;
                tiny_step_add(step, &(struct tiny_part){tokens + done, m, done, block_first, 2, false});
            }
            tiny_step_add(step, &(struct tiny_part){tokens + o, 1 + 3 * o, 0, 400 + 2 * o, 1, false});
        }
        if (n_others == 0) tiny_step_add(step, &(struct tiny_part){tokens + done, m, done, block_first, 2, false});
        tiny_step_run(e, step, results);
        for (int32_t i = 0; i < m; i++)
            memcpy(logits + (size_t)(done + i) * (size_t)vocab, backend_logits(e->backend, first_row + i),
                   (size_t)vocab * sizeof *logits);
    }
    free(step), free(results);
}

// Every bit of a row's logits is the same whatever shares the step, however prompts are cut, on any number of threads.
static inline void check_bits(const struct tiny_shape *shape, const struct tiny_device *device, int32_t n) {
    static const struct {
        int n_threads;
        int32_t chunk, n_others, block_first;
    } ways[] = {{1, 1, 0, 0}, {2, 5, 0, 7}, {1, 16, 3, 0}, {2, 33, 4, 1}, {2, 1, 5, 0}, {1, 7, 1, 0}, {3, 64, 0, 2}};
    struct tiny_model *model = tiny_open(shape, 11);
    int32_t *tokens = calloc((size_t)n, sizeof *tokens);
    make_tokens(tokens, n, shape->vocab, 3);
    size_t n_bytes = (size_t)n * (size_t)shape->vocab * sizeof(float);
    float *expected = malloc(n_bytes), *got = malloc(n_bytes);
    struct tiny_engine engine = tiny_engine_open(model, device, n);
    run_chunked(&engine, tokens, n, n, 0, 3, expected);
    tiny_engine_close(&engine);
    const size_t stride = device->driver ? TEST_STRIDE : 1;
    for (size_t w = stride - 1; w < sizeof ways / sizeof *ways; w += stride) {
        if (TEST_SEES_THREADS && ways[w].n_threads == 1 && !device->driver) continue; // one thread races with nobody
        struct tiny_device varied = *device;
        varied.n_threads = ways[w].n_threads;
        engine = tiny_engine_open(model, &varied, n + 64);
        run_chunked(&engine, tokens, n, ways[w].chunk, ways[w].n_others, ways[w].block_first, got);
        for (int32_t i = 0; i < n; i++)
            if (memcmp(got + (size_t)(i * shape->vocab), expected + (size_t)(i * shape->vocab),
                       (size_t)shape->vocab * sizeof *got) != 0)
                fail_msg("%s, shape with hidden %d, way %zu: row %d differs", backend_description(engine.backend),
                         shape->hidden, w, i);
        tiny_engine_close(&engine);
    }
    free(expected), free(got), free(tokens);
    tiny_close(model);
}

// Two steps submitted at once, the second with references to what the first draws, equal two steps one by one.
static inline void check_references(const struct tiny_device *device) {
    struct tiny_model *model = tiny_open(&tiny_shapes[0], 5);
    struct tiny_engine e = tiny_engine_open(model, device, 16);
    struct tiny_step *steps = calloc(2, sizeof *steps);
    struct sample_result first[2], second[2], again[2];
    struct step_times times;
    const int32_t prompt[] = {5, 6, 7}, other[] = {9}, refs[] = {STEP_TOKEN_REF(0), STEP_TOKEN_REF(1)};
    tiny_step_add(&steps[0], &(struct tiny_part){prompt, 3, 0, 0, 1, true});
    tiny_step_add(&steps[0], &(struct tiny_part){other, 1, 0, 8, 1, true});
    tiny_step_add(&steps[1], &(struct tiny_part){&refs[0], 1, 3, 0, 1, true});
    tiny_step_add(&steps[1], &(struct tiny_part){&refs[1], 1, 1, 8, 1, true});
    backend_submit(e.backend, e.program, &steps[0].input);
    backend_submit(e.backend, e.program, &steps[1].input);
    assert_int_equal(backend_collect(e.backend, first, &times, NULL), 0);
    assert_int_equal(backend_collect(e.backend, second, &times, NULL), 0);
    steps[1].token[0] = first[0].token, steps[1].token[1] = first[1].token;
    tiny_step_run(&e, &steps[1], again);
    assert_memory_equal(second, again, sizeof second);
    free(steps);
    tiny_engine_close(&e);
    tiny_close(model);
}
