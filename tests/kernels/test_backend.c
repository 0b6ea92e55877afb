// Whole steps through the backend: they agree with a plain computation in double precision, and every bit of a row's
// logits is the same whatever shares the step, however prompts are cut, and on any number of threads.
#include "tests/test.h"

#include "tests/kernels/backend_checks.h"

#include <sys/mman.h>

static const char *const instruction_sets[] = {"ref", "avx2", "avx512", "amx"};
enum { N_SETS = sizeof instruction_sets / sizeof *instruction_sets };

// Caches that only the CPU has, or has for these heads.
static const struct tiny_shape cache_shapes[] = {
    {48, 4, 2, 20, 80, 61, TENSOR_F32, KV_FP8, ACTIVATION_SILU, true, false, true, false, 20, 30, 30, 0, 0, false},
    {64, 8, 2, 64, 80, 61, TENSOR_F32, KV_INT8, ACTIVATION_SILU, true, false, true, false, 64, 0, 0, 0, 0, false},
    {48, 3, 3, 20, 80, 61, TENSOR_BF16, KV_INT8, ACTIVATION_SILU, false, true, false, false, 20, 30, 30, 0, 0, false},
};
enum { N_CACHE_SHAPES = sizeof cache_shapes / sizeof *cache_shapes };

static bool have(const char *isa) {
    struct backend *backend = NULL;
    if (backend_open(&backend, &(struct backend_options){.instruction_set = isa, .n_threads = 1}, NULL) != 0)
        return false;
    backend_close(backend);
    return true;
}

// Of a prompt that is cut in many ways: enough for every tile's edges, where that does not take minutes.
static int32_t n_rows(size_t i_set) {
    return i_set == 0 || TEST_SEES_THREADS ? 20 : 70;
}

static void steps_agree_with_plain_arithmetic(void **state) {
    (void)state;
    for (size_t s = 0; s < N_TINY_SHAPES; s += THREADS_STRIDE)
        for (size_t i = 0; i < N_SETS; i++)
            if (have(instruction_sets[i]))
                check_agreement_with_plain(
                    &tiny_shapes[s], &(struct tiny_device){.instruction_set = instruction_sets[i], .n_threads = 1});
}

static void rows_do_not_depend_on_their_step(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SETS; i++)
        for (size_t s = i % THREADS_STRIDE; s < N_TINY_SHAPES && have(instruction_sets[i]); s += THREADS_STRIDE)
            check_bits(&tiny_shapes[s], &(struct tiny_device){.instruction_set = instruction_sets[i], .n_threads = 1},
                       n_rows(i));
}

static void steps_with_small_caches_agree_with_plain_arithmetic(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SETS; i++)
        for (size_t s = i % THREADS_STRIDE; s < N_CACHE_SHAPES && have(instruction_sets[i]); s += THREADS_STRIDE) {
            struct tiny_device device = {.instruction_set = instruction_sets[i], .n_threads = 1};
            check_agreement_with_plain(&cache_shapes[s], &device);
            check_bits(&cache_shapes[s], &device, n_rows(i));
        }
}

static void steps_with_experts_agree_with_plain_arithmetic(void **state) {
    (void)state;
    for (size_t s = 0; s < N_TINY_EXPERT_SHAPES; s += THREADS_STRIDE)
        for (size_t i = 0; i < N_SETS; i++)
            if (have(instruction_sets[i]))
                check_agreement_with_plain(
                    &tiny_expert_shapes[s],
                    &(struct tiny_device){.instruction_set = instruction_sets[i], .n_threads = 1});
}

static void rows_with_experts_do_not_depend_on_their_step(void **state) {
    (void)state;
    for (size_t i = 0; i < N_SETS; i++)
        for (size_t s = i % THREADS_STRIDE; s < N_TINY_EXPERT_SHAPES && have(instruction_sets[i]); s += THREADS_STRIDE)
            check_bits(&tiny_expert_shapes[s],
                       &(struct tiny_device){.instruction_set = instruction_sets[i], .n_threads = 1}, n_rows(i));
}

// Long enough for several ranges of positions that workers share out.
static void check_long_sequences(enum kv_format format) {
    enum { N = 1300 };
    struct tiny_shape shape = {16,    8,    1, 128,  16, 24, TENSOR_F32, format, ACTIVATION_SILU, false, false,
                               false, true, 8, 1100, 0,  0,  0,          false};
    struct tiny_model *model = tiny_open(&shape, 13);
    int32_t tokens[N];
    make_tokens(tokens, N, shape.vocab, 3);
    size_t n_bytes = (size_t)N * (size_t)shape.vocab * sizeof(float);
    float *expected = malloc(n_bytes), *got = malloc(n_bytes);
    for (size_t i = 1; i < N_SETS && have(instruction_sets[i]); i += TEST_SEES_THREADS ? N_SETS : 1) {
        struct tiny_device device = {.instruction_set = instruction_sets[i], .n_threads = 1};
        struct tiny_engine engine = tiny_engine_open(model, &device, N);
        run_chunked(&engine, tokens, N, N, 0, 1, expected);
        tiny_engine_close(&engine);
        static const int32_t chunks[] = {1295, 647}; // the last steps have few rows
        for (int c = 0; c < 2; c++) {
            device.n_threads = 2 + c;
            engine = tiny_engine_open(model, &device, N);
            run_chunked(&engine, tokens, N, chunks[c], 0, 0, got);
            assert_memory_equal(got, expected, n_bytes);
            tiny_engine_close(&engine);
        }
    }
    free(expected), free(got);
    tiny_close(model);
}

static void long_sequences_do_not_depend_on_their_step(void **state) {
    (void)state;
    check_long_sequences(KV_BF16);
    check_long_sequences(KV_INT8);
}

static void references_stand_for_drawn_tokens(void **state) {
    (void)state;
    check_references(&(struct tiny_device){.instruction_set = "auto", .n_threads = 2});
}

// Logits of one prompt, with the model in one format and its weights loaded in another.
static float *logits_with_weights(enum tensor_format stored, enum weight_format weights, uint64_t *weights_bytes) {
    enum { N = 20 };
    struct tiny_shape shape = tiny_shapes[2];
    shape.format = stored;
    struct tiny_model *model = tiny_open(&shape, 3);
    model->weights = weights;
    struct tiny_engine engine =
        tiny_engine_open(model, &(struct tiny_device){.instruction_set = "auto", .n_threads = 2}, N);
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
    const struct tiny_shape *s = &tiny_shapes[2];
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

static void heads_that_a_cache_cannot_hold_are_refused(void **state) {
    (void)state;
    struct backend *backend;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.n_threads = 1}, NULL), 0);
    struct kv_shape kv = {1, 1, 18, 16, 4, KV_INT8};
    struct err err = {0};
    assert_int_equal(backend_kv_open(backend, &kv, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "18"));
    backend_close(backend);
}

static void caches_have_the_bytes_of_their_formats(void **state) {
    (void)state;
    static const uint64_t bytes[] = {[KV_F32] = 64 * 4, [KV_BF16] = 64 * 2, [KV_FP8] = 64 + 4, [KV_INT8] = 64 + 4};
    for (int f = 0; f < 4; f++) {
        struct kv_shape kv = {3, 2, 64, 16, 4, (enum kv_format)f};
        assert_int_equal(kv_bytes_per_block(&kv), 2 * 3 * 2 * 16 * bytes[f]); // K and V, layers, heads, tokens
    }
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
// Two rows that are equal choose equal experts; a model without experts counts none.
static void experts_that_rows_hit_are_counted(void **state) {
    (void)state;
    static const int32_t token[] = {5};
    for (int n_rows = 0; n_rows <= 2; n_rows++) {
        const struct tiny_shape *shape = n_rows ? &tiny_expert_shapes[0] : &tiny_shapes[0];
        struct tiny_model *model = tiny_open(shape, 5);
        struct tiny_engine e = tiny_engine_open(model, &(struct tiny_device){.n_threads = 2}, 16);
        struct tiny_step *step = calloc(1, sizeof *step);
        struct sample_result results[2];
        struct step_times times;
        for (int32_t i = 0; i < (n_rows ? n_rows : 1); i++)
            tiny_step_add(step, &(struct tiny_part){token, 1, 0, 8 * i, 1, true});
        backend_submit(e.backend, e.program, &step->input);
        assert_int_equal(backend_collect(e.backend, results, &times, NULL), 0);
        assert_int_equal(times.n_experts_hit, n_rows ? shape->n_hit : 0);
        free(step);
        tiny_engine_close(&e);
        tiny_close(model);
    }
}

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

static uint64_t kv_resident(const struct backend *backend) {
    struct backend_memory memory;
    backend_memory(backend, &memory);
    return memory.kv_resident_bytes;
}

static void memory_of_the_first_blocks_is_made_ready_in_pieces(void **state) {
    (void)state;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool can = madvise(page, 4096, MADV_POPULATE_WRITE) == 0;
    munmap(page, 4096);
    if (!can) skip(); // Linux before 5.14
    struct backend *backend = NULL;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.n_threads = 1}, NULL), 0);
    const struct kv_shape kv = {3, 2, 64, 16, 1000, KV_BF16};
    assert_int_equal(backend_kv_open(backend, &kv, NULL), 0);
    assert_int_equal(kv_resident(backend), 0);
    assert_false(backend_touch_kv(backend, 0));
    int n_pieces = 0;
    while (backend_touch_kv(backend, 400)) n_pieces++;
    assert_true(n_pieces > 3);
    assert_in_range(kv_resident(backend), 400 * kv_bytes_per_block(&kv), 900 * kv_bytes_per_block(&kv));
    assert_false(backend_touch_kv(backend, 300));
    while (backend_touch_kv(backend, 1000)) continue;
    assert_true(kv_resident(backend) >= 1000 * kv_bytes_per_block(&kv));
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree_with_plain_arithmetic),
        cmocka_unit_test(rows_do_not_depend_on_their_step),
        cmocka_unit_test(steps_with_small_caches_agree_with_plain_arithmetic),
        cmocka_unit_test(steps_with_experts_agree_with_plain_arithmetic),
        cmocka_unit_test(rows_with_experts_do_not_depend_on_their_step),
        cmocka_unit_test(long_sequences_do_not_depend_on_their_step),
        cmocka_unit_test(references_stand_for_drawn_tokens),
        cmocka_unit_test(weights_loaded_as_bf16_are_those_stored_as_bf16),
        cmocka_unit_test(heads_that_a_cache_cannot_hold_are_refused),
        cmocka_unit_test(caches_have_the_bytes_of_their_formats),
        cmocka_unit_test(wrong_options_are_refused_with_a_reason),
        cmocka_unit_test(experts_that_rows_hit_are_counted),
        cmocka_unit_test(large_cache_is_reserved_at_once),
        cmocka_unit_test(memory_of_the_first_blocks_is_made_ready_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
