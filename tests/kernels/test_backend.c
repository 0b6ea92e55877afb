// Whole steps through the backend: they agree with a plain computation in double precision, and every bit of a row's
// logits is the same whatever shares the step, however prompts are cut, and on any number of threads.
#include "tests/test.h"

#include "tests/kernels/tiny_model.h"

static const char *const instruction_sets[] = {"ref", "avx2", "avx512", "amx"};
enum { N_SETS = sizeof instruction_sets / sizeof *instruction_sets };

static bool have(const char *isa) {
    struct backend *backend = NULL;
    if (backend_open(&backend, &(struct backend_options){.instruction_set = isa, .n_threads = 1}, NULL) != 0)
        return false;
    backend_close(backend);
    return true;
}

static const struct tiny_shape shapes[] = {
    {64, 8, 4, 8, 172, 96, TENSOR_F32, KV_F32, ACTIVATION_SILU, false, false, false, true, 8, 0, 0},
    {48, 4, 2, 16, 80, 61, TENSOR_F16, KV_F32, ACTIVATION_GELU_TANH, true, true, false, false, 12, 20, 30},
    {72, 3, 1, 48, 50, 77, TENSOR_BF16, KV_F32, ACTIVATION_SILU, true, false, true, false, 48, 0, 0},
    {96, 4, 4, 80, 100, 33, TENSOR_BF16, KV_BF16, ACTIVATION_SILU, false, false, true, true, 80, 33, 0},
    {31, 5, 1, 128, 17, 40, TENSOR_F32, KV_BF16, ACTIVATION_GELU_TANH, false, true, true, false, 64, 0, 50},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void make_tokens(int32_t *tokens, int32_t n, int32_t vocab, uint64_t seed) {
    for (int32_t i = 0; i < n; i++) tokens[i] = (int32_t)(rng_u32(rng_key(seed, 0, 0), (uint64_t)i) % (uint32_t)vocab);
}

static void agrees_with_plain(const struct tiny_shape *shape, const char *isa) {
    enum { N = 45 };
    struct tiny_model *model = tiny_open(shape, 7);
    struct tiny_engine engine = tiny_engine_open(model, isa, 1, N);
    int32_t tokens[N];
    make_tokens(tokens, N, shape->vocab, 1);
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result results[N];
    tiny_step_add(step, &(struct tiny_part){tokens, N, 0, 5, 3, false});
    tiny_step_run(&engine, step, results);
    size_t kv = (size_t)(TINY_LAYERS * N * shape->n_kv_heads * shape->head_dim);
    struct tiny_plain plain = {calloc(kv, 8), calloc(kv, 8), N};
    double *logits = calloc((size_t)shape->vocab, sizeof *logits);
    bool rounds = shape->format == TENSOR_BF16 || shape->kv_format == KV_BF16; // activations or cache in BF16
    for (int32_t i = 0; i < N; i++) {
        tiny_plain_step(model, &plain, tokens[i], i, logits);
        const float *got = backend_logits(engine.backend, i);
        double worst = 0;
        for (int32_t v = 0; v < shape->vocab; v++) worst = fmax(worst, fabs((double)got[v] - logits[v]));
        if (worst > (rounds ? 0.3 : 2e-4)) fail_msg("%s, row %d: logits differ by %g", isa, i, worst);
        for (int32_t v = 0; v < shape->vocab; v++) assert_true(got[v] <= got[results[i].token]);
    }
    free(plain.keys), free(plain.values), free(logits), free(step);
    tiny_engine_close(&engine);
    tiny_close(model);
}

static void steps_agree_with_plain_arithmetic(void **state) {
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++)
        for (size_t i = 0; i < N_SETS; i++)
            if (have(instruction_sets[i])) agrees_with_plain(&shapes[s], instruction_sets[i]);
}

// Runs tokens in chunks of the given lengths (repeated) and writes the logits of each row. Other sequences of odd
// lengths share the steps when n_others > 0.
static void run_chunked(struct tiny_engine *e, const int32_t *tokens, int32_t n, int32_t chunk, int32_t n_others,
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

static void bits_are_the_same(const struct tiny_shape *shape, const char *isa, int32_t n) {
    static const struct {
        int n_threads;
        int32_t chunk, n_others, block_first;
    } ways[] = {{1, 1, 0, 0}, {2, 5, 0, 7}, {1, 16, 3, 0}, {2, 33, 4, 1}, {2, 1, 5, 0}, {1, 7, 1, 0}, {3, 64, 0, 2}};
    struct tiny_model *model = tiny_open(shape, 11);
    int32_t *tokens = calloc((size_t)n, sizeof *tokens);
    make_tokens(tokens, n, shape->vocab, 3);
    size_t n_bytes = (size_t)n * (size_t)shape->vocab * sizeof(float);
    float *expected = malloc(n_bytes), *got = malloc(n_bytes);
    struct tiny_engine engine = tiny_engine_open(model, isa, 1, n);
    run_chunked(&engine, tokens, n, n, 0, 3, expected);
    tiny_engine_close(&engine);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        engine = tiny_engine_open(model, isa, ways[w].n_threads, n + 64);
        run_chunked(&engine, tokens, n, ways[w].chunk, ways[w].n_others, ways[w].block_first, got);
        for (int32_t i = 0; i < n; i++)
            if (memcmp(got + (size_t)(i * shape->vocab), expected + (size_t)(i * shape->vocab),
                       (size_t)shape->vocab * sizeof *got) != 0)
                fail_msg("%s, shape with hidden %d, way %zu: row %d differs", isa, shape->hidden, w, i);
        tiny_engine_close(&engine);
    }
    free(expected), free(got), free(tokens);
    tiny_close(model);
}

static void rows_do_not_depend_on_their_step(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SETS; i++)
        for (size_t s = 0; s < N_SHAPES && have(instruction_sets[i]); s++)
            bits_are_the_same(&shapes[s], instruction_sets[i], strcmp(instruction_sets[i], "ref") == 0 ? 20 : 70);
}

// Long enough for several ranges of positions that workers share out.
static void long_sequences_do_not_depend_on_their_step(void **state) {
    (void)state;
    enum { N = 1300 };
    struct tiny_shape shape = {16,    8,     1,     128,  16, 24,   TENSOR_F32, KV_BF16, ACTIVATION_SILU,
                               false, false, false, true, 8,  1100, 0};
    struct tiny_model *model = tiny_open(&shape, 13);
    int32_t tokens[N];
    make_tokens(tokens, N, shape.vocab, 3);
    size_t n_bytes = (size_t)N * (size_t)shape.vocab * sizeof(float);
    float *expected = malloc(n_bytes), *got = malloc(n_bytes);
    for (size_t i = 1; i < N_SETS && have(instruction_sets[i]); i++) {
        struct tiny_engine engine = tiny_engine_open(model, instruction_sets[i], 1, N);
        run_chunked(&engine, tokens, N, N, 0, 1, expected);
        tiny_engine_close(&engine);
        static const int32_t chunks[] = {1295, 647}; // the last steps have few rows
        for (int c = 0; c < 2; c++) {
            engine = tiny_engine_open(model, instruction_sets[i], 2 + c, N);
            run_chunked(&engine, tokens, N, chunks[c], 0, 0, got);
            assert_memory_equal(got, expected, n_bytes);
            tiny_engine_close(&engine);
        }
    }
    free(expected), free(got);
    tiny_close(model);
}

// Two steps submitted at once, the second with references to what the first draws, equal two steps one by one.
static void references_stand_for_drawn_tokens(void **state) {
    (void)state;
    struct tiny_model *model = tiny_open(&shapes[0], 5);
    struct tiny_engine e = tiny_engine_open(model, "auto", 2, 16);
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

// Logits of one prompt, with the model in one format and its weights loaded in another.
static float *logits_with_weights(enum tensor_format stored, enum weight_format weights, uint64_t *weights_bytes) {
    enum { N = 20 };
    struct tiny_shape shape = shapes[2];
    shape.format = stored;
    struct tiny_model *model = tiny_open(&shape, 3);
    model->weights = weights;
    struct tiny_engine engine = tiny_engine_open(model, "auto", 2, N);
    int32_t tokens[N];
    make_tokens(tokens, N, shape.vocab, 1);
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result results[N];
    tiny_step_add(step, &(struct tiny_part){tokens, N, 0, 5, 3, false});
    tiny_step_run(&engine, step, results);
    float *logits = calloc((size_t)shape.vocab, sizeof *logits);
    memcpy(logits, backend_logits(engine.backend, N - 1), (size_t)shape.vocab * sizeof *logits);
    struct backend_memory memory;
    backend_memory(engine.backend, &memory);
    *weights_bytes = memory.weights_bytes;
    tiny_engine_close(&engine);
    tiny_close(model);
    free(step);
    return logits;
}

static void weights_loaded_as_bf16_are_those_stored_as_bf16(void **state) {
    (void)state;
    const struct tiny_shape *s = &shapes[2];
    uint64_t mapped, rounded;
    float *stored = logits_with_weights(TENSOR_BF16, WEIGHT_BF16, &mapped);
    float *loaded = logits_with_weights(TENSOR_F32, WEIGHT_BF16, &rounded);
    assert_memory_equal(stored, loaded, (size_t)s->vocab * sizeof *stored);
    int32_t n_attention = (2 * s->n_heads + 2 * s->n_kv_heads) * s->head_dim * s->hidden;
    int32_t n_values = s->vocab * s->hidden + TINY_LAYERS * (n_attention + 3 * s->mlp_width * s->hidden);
    assert_int_equal(mapped, 0);
    assert_int_equal(rounded, 2 * n_values);
    free(stored), free(loaded);
}

static void formats_that_a_device_lacks_are_refused(void **state) {
    (void)state;
    struct backend *backend;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.n_threads = 1}, NULL), 0);
    const float data[256] = {0};
    for (enum weight_format format = WEIGHT_FP8; format <= WEIGHT_INT4; format++) {
        struct tensor tensor = {.format = TENSOR_F32, .n_rows = 2, .n_cols = 128, .data = data};
        struct err err = {0};
        assert_int_equal(backend_weight_load(backend, &tensor, format, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, weight_format_name(format)));
        assert_null(tensor.handle);
    }
    struct kv_shape kv = {1, 1, 16, 16, 4, KV_FP8};
    assert_int_equal(kv_bytes_per_block(&kv), 2 * 16 * (16 + 4)); // K and V, 16 tokens, 16 bytes and a scale
    struct err err = {0};
    assert_int_equal(backend_kv_open(backend, &kv, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "fp8"));
    backend_close(backend);
}

static void wrong_options_are_refused_with_a_reason(void **state) {
    (void)state;
    struct backend *backend = NULL;
    struct err err = {0};
    assert_int_equal(backend_open(&backend, &(struct backend_options){.device = "abacus"}, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "abacus"));
    assert_int_equal(backend_open(&backend, &(struct backend_options){.instruction_set = "mmx"}, &err),
                     ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "mmx"));
    assert_null(backend);
}

// Reserving is not touching: far more than this machine has.
static void large_cache_is_reserved_at_once(void **state) {
    (void)state;
    struct backend *backend = NULL;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.n_threads = 1}, NULL), 0);
    struct kv_shape kv = {28, 8, 128, 16, 4096, KV_BF16};
    assert_int_equal(kv_bytes_per_block(&kv), 2 * 28 * 8 * 128 * 16 * 2);
    assert_int_equal(backend_kv_open(backend, &kv, NULL), 0);
    struct backend_memory memory;
    backend_memory(backend, &memory);
    assert_int_equal(memory.kv_bytes, kv_bytes_per_block(&kv) * 4096);
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree_with_plain_arithmetic),
        cmocka_unit_test(rows_do_not_depend_on_their_step),
        cmocka_unit_test(long_sequences_do_not_depend_on_their_step),
        cmocka_unit_test(references_stand_for_drawn_tokens),
        cmocka_unit_test(weights_loaded_as_bf16_are_those_stored_as_bf16),
        cmocka_unit_test(formats_that_a_device_lacks_are_refused),
        cmocka_unit_test(wrong_options_are_refused_with_a_reason),
        cmocka_unit_test(large_cache_is_reserved_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
