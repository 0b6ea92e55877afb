// Whole steps on the CUDA device through its driver: the checks of every device, and what only a device has: buckets
// and graphs, quantised weights, memory that the driver counts, and failures that end every step after them.
#include "tests/test.h"

#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/backend_checks.h"
#ifdef OPTIMA_CUDA_EMULATION
#include "emulation_control.h"
#include <signal.h>
#include <sys/wait.h>
#endif

static struct tiny_device device_of(bool deterministic) {
    return (struct tiny_device){.driver = optima_backend_driver(), .deterministic = deterministic};
}

static void steps_agree_with_plain_arithmetic(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    for (size_t s = 0; s < N_TINY_SHAPES; s += THREADS_STRIDE) check_agreement_with_plain(&tiny_shapes[s], &device);
}

static void experts_agree_with_plain_arithmetic(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    for (size_t s = 0; s < N_TINY_EXPERT_SHAPES; s += THREADS_STRIDE)
        check_agreement_with_plain(&tiny_expert_shapes[s], &device);
    static const struct tiny_shape often_hit = {
        64, 4, 2, 16, 72, 50, TENSOR_F16, KV_F32, ACTIVATION_SILU, true, false, false, false, 16, 0, 0, 3, 3, true};
    check_agreement_with_plain(&often_hit, &device);
}

static void caches_in_fp8_agree_with_plain_arithmetic(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    struct tiny_shape shape = tiny_shapes[3];
    shape.kv_format = KV_FP8;
    static const int32_t head_dims[] = {64, 80}; // on tensor cores, and on plain arithmetic
    for (int i = 0; i < 2; i++) {
        shape.head_dim = shape.rope_dims = head_dims[i];
        check_agreement_with_plain(&shape, &device);
    }
}

static int gather_alone(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err) {
    (void)comm, (void)err;
    memcpy(all, mine, n_bytes);
    return 0;
}

static int broadcast_alone(struct comm *comm, void *data, size_t n_bytes, struct err *err) {
    (void)comm, (void)data, (void)n_bytes, (void)err;
    return 0;
}

// One rank meets nobody, but goes every way on which several meet. More than one need a device each.
static void a_rank_alone_agrees_with_plain_arithmetic(void **state) {
    (void)state;
    static const struct comm_driver driver = {
        .abi = COMM_DRIVER_ABI, .all_gather = gather_alone, .broadcast = broadcast_alone};
    struct comm comm = {.driver = &driver, .n_ranks = 1};
    struct tiny_device device = device_of(false);
    device.comm = &comm;
    for (size_t s = 0; s < N_TINY_SHAPES; s += TEST_STRIDE) check_agreement_with_plain(&tiny_shapes[s], &device);
    check_agreement_with_plain(&tiny_expert_shapes[0], &device);
    free(comm.sums);
}

static void rows_do_not_depend_on_their_step_when_deterministic(void **state) {
    (void)state;
    struct tiny_device device = device_of(true);
    static const int shapes[] = {0, 1, 3}; // each format of weights, both of the cache
    for (int i = 0; i < 3; i++) check_bits(&tiny_shapes[shapes[i]], &device, 20);
    check_bits(&tiny_expert_shapes[1], &device, 20);
}

static void references_stand_for_drawn_tokens(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    check_references(&device);
}

// ------------------------------------------------------------------------------------------------- buckets and graphs

// The same mixed step again and again: by operations, captured, replayed. Its logits never change, and what a larger
// step of the same bucket left in the padding does not show.
static void check_replays(const struct tiny_shape *shape) {
    enum { N = 12, STEPS = 4 };
    struct tiny_device device = device_of(false);
    struct tiny_model *model = tiny_open(shape, 21);
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    int32_t tokens[N];
    make_tokens(tokens, N, model->shape.vocab, 1);
    struct tiny_step *step = calloc(1, sizeof *step), *larger = calloc(1, sizeof *larger);
    struct sample_result results[16];
    size_t n_logits = (size_t)model->shape.vocab;
    float *first = malloc(3 * n_logits * sizeof *first);
    tiny_step_add(step, &(struct tiny_part){tokens, 5, 0, 0, 1, true});
    tiny_step_add(step, &(struct tiny_part){tokens + 5, 1, 0, 8, 1, true});
    tiny_step_add(step, &(struct tiny_part){tokens + 6, 4, 0, 16, 1, true});
    tiny_step_add(larger, &(struct tiny_part){tokens, N, 0, 24, 1, true});
    tiny_step_add(larger, &(struct tiny_part){tokens, 3, 0, 32, 1, false});
    for (int i = 0; i < STEPS; i++) {
        tiny_step_run(&e, step, results);
        for (int32_t row = 0; row < 3; row++) {
            const float *logits = backend_logits(e.backend, row);
            if (i == 0) memcpy(first + (size_t)row * n_logits, logits, n_logits * sizeof *first);
            assert_memory_equal(first + (size_t)row * n_logits, logits, n_logits * sizeof *first);
        }
        tiny_step_run(&e, larger, results);
    }
    free(step), free(larger), free(first);
    tiny_engine_close(&e);
    tiny_close(model);
}

static void replayed_steps_give_the_logits_of_the_first(void **state) {
    (void)state;
    check_replays(&tiny_shapes[0]);
    check_replays(&tiny_expert_shapes[2]);
}

static void steps_without_logits_fill_the_cache(void **state) {
    (void)state;
    struct tiny_device device = device_of(true);
    struct tiny_model *model = tiny_open(&tiny_shapes[0], 22);
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    int32_t tokens[9];
    make_tokens(tokens, 9, model->shape.vocab, 1);
    struct tiny_step *steps = calloc(3, sizeof *steps);
    struct sample_result alone, after;
    tiny_step_add(&steps[0], &(struct tiny_part){tokens, 9, 0, 0, 1, true});
    tiny_step_run(&e, &steps[0], &alone);
    tiny_step_add(&steps[1], &(struct tiny_part){tokens, 8, 0, 8, 1, true});
    steps[1].input.n_logit_rows = 0;
    tiny_step_run(&e, &steps[1], NULL);
    tiny_step_add(&steps[2], &(struct tiny_part){tokens + 8, 1, 8, 8, 1, true});
    tiny_step_run(&e, &steps[2], &after);
    assert_memory_equal(&alone, &after, sizeof alone);
    free(steps);
    tiny_engine_close(&e);
    tiny_close(model);
}

// The first step of a bucket is sampled: its operations have times, which do not exceed the step's.
static void sampled_steps_tell_the_time_of_each_operation(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    struct tiny_model *model = tiny_open(&tiny_expert_shapes[0], 23); // every kind of operation
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    const int32_t token = 3;
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result result;
    tiny_step_add(step, &(struct tiny_part){&token, 1, 0, 0, 1, true});
    for (int i = 0; i < 2; i++) {
        struct step_times times;
        backend_submit(e.backend, e.program, &step->input);
        assert_int_equal(backend_collect(e.backend, &result, &times, NULL), 0);
        uint64_t sum = 0;
        for (int k = 0; k < OP_KINDS; k++) {
            assert_true((times.op_ns[k] > 0) == (i == 0));
            sum += times.op_ns[k];
        }
        assert_true(sum <= times.total_ns + times.total_ns / 8);
    }
    free(step);
    tiny_engine_close(&e);
    tiny_close(model);
}

// ------------------------------------------------------------------------------------------------------------ weights

// Quantised weights change logits by little: root mean square of the difference over that of the logits.
static double difference_by_weights(enum weight_format weights, int32_t n_experts) {
    enum { N = 10 };
    struct tiny_shape shape = {128,   4,     2,     64,   256, 96, TENSOR_BF16, KV_F32,    ACTIVATION_SILU,
                               false, false, false, true, 64,  0,  0,           n_experts, n_experts / 2,
                               true};
    struct tiny_device device = device_of(true); // which kernels are faster changes bits
    int32_t tokens[N];
    make_tokens(tokens, N, shape.vocab, 1);
    float logits[2][96];
    for (int i = 0; i < 2; i++) {
        struct tiny_model *model = tiny_open(&shape, 31);
        model->weights = i ? weights : WEIGHT_AS_IS;
        struct tiny_engine e = tiny_engine_open(model, &device, 20);
        struct tiny_step *step = calloc(1, sizeof *step);
        struct sample_result result;
        tiny_step_add(step, &(struct tiny_part){tokens, N, 0, 0, 1, true});
        tiny_step_run(&e, step, &result);
        memcpy(logits[i], backend_logits(e.backend, 0), sizeof logits[i]);
        free(step);
        tiny_engine_close(&e);
        tiny_close(model);
    }
    double difference = 0, sum = 0;
    for (int v = 0; v < 96; v++) {
        double d = (double)logits[1][v] - (double)logits[0][v];
        difference += d * d, sum += (double)logits[0][v] * (double)logits[0][v];
    }
    return sqrt(difference / sum);
}

static void quantised_weights_stay_close(void **state) {
    (void)state;
    static const struct {
        enum weight_format format;
        double least, most; // equal logits would mean that nothing was quantised
    } cases[] = {{WEIGHT_BF16, 0, 0}, {WEIGHT_FP8, 1e-3, 0.25}, {WEIGHT_INT4, 1e-2, 0.7}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const int32_t n_experts = i % 2 ? 6 : 0;
        double difference = difference_by_weights(cases[i / 2].format, n_experts);
        if (difference < cases[i / 2].least || difference > cases[i / 2].most)
            fail_msg("weights in %s change logits by %g, with %d experts", weight_format_name(cases[i / 2].format),
                     difference, n_experts);
    }
}

static void formats_that_the_device_lacks_are_refused(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    struct backend *backend;
    assert_int_equal(tiny_backend_open(&backend, &device, NULL), 0);
    const float data[256] = {0};
    struct tensor tensor = {.format = TENSOR_F32, .n_rows = 2, .n_cols = 128, .data = data};
    struct err err = {0};
    assert_int_equal(backend_weight_load(backend, &tensor, WEIGHT_INT8, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "int8"));
    assert_null(tensor.handle);
    backend_close(backend);
}

static void shapes_that_the_device_lacks_are_refused(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    struct backend *backend;
    assert_int_equal(tiny_backend_open(&backend, &device, NULL), 0);
    struct err err = {0};
    const struct kv_shape odd = {1, 2, 6, 16, 4, KV_F32}, even = {1, 2, 8, 16, 4, KV_F32};
    assert_int_equal(backend_kv_open(backend, &odd, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "width 6"));
    assert_int_equal(backend_kv_open(backend, &even, NULL), 0);
    const struct program_shape shape = {.rows_max = 50000,
                                        .sequences_max = 8,
                                        .logit_rows_max = 8,
                                        .hidden = 8192,
                                        .vocab = 64,
                                        .vocab_rows = 64,
                                        .n_experts = 64,
                                        .n_hit = 8,
                                        .expert_width = 1024};
    struct program *program = NULL;
    assert_int_equal(program_open(&program, backend, &shape, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "50000 rows"));
    backend_close(backend);
}

// ------------------------------------------------------------------------------------------------------------- memory

// What the ledger lists is what the driver says that this process took.
static void memory_is_what_the_driver_counts(void **state) {
    (void)state;
    size_t free_before, free_after, total;
    assert_int_equal(cudaMemGetInfo(&free_before, &total), cudaSuccess);
    struct tiny_device device = device_of(false);
    struct tiny_model *model = tiny_open(&tiny_expert_shapes[3], 41);
    struct tiny_engine e = tiny_engine_open(model, &device, 64);
    struct backend_memory memory;
    backend_memory(e.backend, &memory);
    assert_int_equal(cudaMemGetInfo(&free_after, &total), cudaSuccess);
    uint64_t listed = memory.weights_bytes + memory.kv_bytes + memory.activation_bytes + memory.workspace_bytes;
    assert_true(memory.kv_bytes >= kv_bytes_per_block(&e.backend->kv) * (uint64_t)e.backend->kv.n_blocks);
    assert_true(memory.weights_bytes > 0 && memory.activation_bytes > 0);
    double taken = (double)(free_before - free_after);
    assert_true(fabs((double)(listed + memory.driver_bytes) - (double)(total - free_after)) <= 0.02 * taken);
    assert_int_equal(backend_memory_available(e.backend), free_after);
    tiny_engine_close(&e);
    tiny_close(model);
    assert_int_equal(cudaMemGetInfo(&free_after, &total), cudaSuccess);
#ifdef OPTIMA_CUDA_EMULATION
    assert_int_equal(free_after, free_before);
    assert_int_equal(listed, (size_t)taken);
#endif
}

#ifdef OPTIMA_CUDA_EMULATION

// ----------------------------------------------------------------------------------------------------------- failures

// Opens a device with a failure after n_calls; returns the error. Deterministic devices take less memory, which the
// emulation fills.
static struct err open_with_failure(struct tiny_model *model, int n_calls, cudaError_t error, bool sticky) {
    struct tiny_device device = device_of(true);
    struct tiny_engine e;
    struct err err = {0};
    emulation_fail_after(n_calls, error, sticky);
    int rc = tiny_engine_try_open(&e, model, &device, 16, &err);
    emulation_fail_after(0, cudaSuccess, false);
    tiny_engine_close(&e);
    assert_int_equal(rc, err.code);
    return err;
}

static void check_line(const struct err *err, int n_calls) {
    if (strlen(err->text) < 10 || strchr(err->text, '\n')) fail_msg("call %d: %s", n_calls, err->text);
}

// Whatever one call to the runtime fails while the device is opened, there is a line that says so, and what was taken
// before is given back.
static void failures_while_opening_leave_a_line_and_nothing_else(void **state) {
    (void)state;
    struct tiny_model *model = tiny_open(&tiny_expert_shapes[1], 51);
    uint64_t n_calls = emulation_n_calls(), n_allocations = emulation_n_allocations();
    assert_int_equal(open_with_failure(model, 0, cudaSuccess, false).code, 0);
    n_calls = emulation_n_calls() - n_calls;
    int n_failed = 0;
    for (int i = 0; i < (int)n_calls; i += THREADS_STRIDE) {
        struct err err = open_with_failure(model, i, cudaErrorMemoryAllocation, false);
        if (err.code) check_line(&err, i);
        n_failed += err.code != 0;
        if (emulation_n_allocations() != n_allocations) fail_msg("call %d: %s", i, err.text);
    }
    assert_true(n_failed > 50 / THREADS_STRIDE);
    tiny_close(model);
}

// The same for a device that then answers no more.
static void devices_lost_while_opening_are_reported(void **state) {
    (void)state;
    enum { STRIDE = 9 };
    struct tiny_model *model = tiny_open(&tiny_shapes[0], 51);
    struct err err = {.code = -1};
    int n_calls = 0;
    for (; err.code; n_calls += STRIDE) {
        err = open_with_failure(model, n_calls, cudaErrorLaunchFailure, true);
        if (err.code) check_line(&err, n_calls);
    }
    assert_true(n_calls > 50);
    tiny_close(model);
}

// Runs steps of which one meets the failure after n_calls; returns whether none did.
static bool step_survives(struct tiny_model *model, int n_calls, int n_before) {
    struct tiny_device device = device_of(true);
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    const int32_t token = 3;
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result results[16];
    struct step_times times;
    tiny_step_add(step, &(struct tiny_part){&token, 1, 0, 0, 1, true});
    for (int i = 0; i < n_before; i++) tiny_step_run(&e, step, results);
    emulation_fail_after(n_calls, cudaErrorIllegalAddress, true);
    backend_submit(e.backend, e.program, &step->input);
    backend_submit(e.backend, e.program, &step->input);
    struct err first = {0}, second = {0}, third = {0};
    int rc = backend_collect(e.backend, results, &times, &first);
    int rc_second = backend_collect(e.backend, results, &times, &second);
    bool survives = !rc && !rc_second;
    emulation_fail_after(0, cudaSuccess, false);
    if (!survives) {
        assert_true(rc_second && strstr(second.text, "illegal memory access"));
        backend_submit(e.backend, e.program, &step->input);
        assert_true(backend_collect(e.backend, results, &times, &third) && strcmp(second.text, third.text) == 0);
    }
    free(step);
    tiny_engine_close(&e);
    return survives;
}

// Steps by operations, captured ones and replayed ones.
static void failures_in_a_step_end_it_and_all_after_it(void **state) {
    (void)state;
    uint64_t n_allocations = emulation_n_allocations();
    for (int n_before = 0; n_before < 3; n_before++) {
        struct tiny_model *model = tiny_open(&tiny_shapes[0], 52);
        int n_calls = 0;
        // All calls around the launches, and some of the launches.
        while (!step_survives(model, n_calls, n_before)) n_calls += n_calls < 12 ? 1 : 7;
        assert_true(n_calls > 8);
        tiny_close(model);
    }
    assert_int_equal(emulation_n_allocations(), n_allocations);
}

// A failed capture is not a failed device: steps go on, operation by operation.
static void failed_captures_are_survived(void **state) {
    (void)state;
    struct tiny_device device = device_of(false);
    struct tiny_model *model = tiny_open(&tiny_shapes[0], 53);
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    const int32_t token = 3;
    struct tiny_step *step = calloc(1, sizeof *step);
    struct sample_result expected, got;
    tiny_step_add(step, &(struct tiny_part){&token, 1, 0, 0, 1, true});
    tiny_step_run(&e, step, &expected);
    emulation_fail_after(3, cudaErrorStreamCaptureUnsupported, false); // behind: set device, record, copy
    tiny_step_run(&e, step, &got);
    assert_int_equal(expected.token, got.token);
    emulation_fail_after(0, cudaSuccess, false);
    tiny_step_run(&e, step, &got);
    assert_int_equal(expected.token, got.token);
    free(step);
    tiny_engine_close(&e);
    tiny_close(model);
}

static void devices_that_cannot_serve_are_refused_with_a_reason(void **state) {
    (void)state;
    const struct emulation_device usual = emulation_device_get();
    static const struct {
        struct emulation_device device;
        int index;
        const char *text;
    } cases[] = {
        {{0, 9, 0, 4, 1 << 30}, 0, "no CUDA device"},
        {{2, 9, 0, 4, 1 << 30}, 2, "there are 2"},
        {{1, 7, 5, 4, 1 << 30}, 0, "compute capability 7.5"},
        {{1, 9, 0, 4, 1 << 20}, 0, "no room"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emulation_device_set(&cases[i].device);
        struct backend *backend = NULL;
        struct err err = {0};
        struct backend_options options = {.device_index = cases[i].index};
        assert_true(optima_backend_driver()->open(&backend, &options, &err) < 0);
        if (!strstr(err.text, cases[i].text)) fail_msg("case %zu: %s", i, err.text);
        assert_null(backend);
    }
    emulation_device_set(&usual);
    emulation_fail_after(0, cudaErrorInsufficientDriver, false);
    struct backend *backend = NULL;
    struct err err = {0};
    assert_true(optima_backend_driver()->open(&backend, &(struct backend_options){0}, &err) < 0);
    assert_non_null(strstr(err.text, "driver is for CUDA"));
}

// Submits a step with one wrong index in a process of its own; returns the signal that ended it.
static int signal_of_wrong_step(struct tiny_engine *e, struct tiny_step *step) {
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_true(freopen("/dev/null", "w", stderr) != NULL);
        signal(SIGABRT, SIG_DFL); // cmocka would report it
        backend_submit(e->backend, e->program, &step->input);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// On the device they would read or write somewhere else.
static void wrong_indices_are_caught_on_the_host(void **state) {
    (void)state;
    struct tiny_device device = device_of(true);
    struct tiny_model *model = tiny_open(&tiny_shapes[0], 54);
    struct tiny_engine e = tiny_engine_open(model, &device, 16);
    const int32_t tokens[] = {3, 4, 5};
    struct tiny_step *step = calloc(1, sizeof *step);
    tiny_step_add(step, &(struct tiny_part){tokens, 3, 0, 0, 1, true});
    const struct {
        int32_t *at, wrong;
    } cases[] = {
        {&step->token[1], model->shape.vocab},
        {&step->token[1], STEP_TOKEN_REF(0)}, // there is no step before
        {&step->block_table[0], e.backend->kv.n_blocks},
        {&step->block_table[0], -1},
        {&step->logit_row[0], 3},
        {&step->sequences[0].row_count, 4},
        {&step->sequences[0].kv_len, 17},
        {&step->sample[0].edit_count, 1},
        {&step->sample[0].forced_token, model->shape.vocab},
    };
    assert_int_equal(signal_of_wrong_step(&e, step), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t right = *cases[i].at;
        *cases[i].at = cases[i].wrong;
        if (signal_of_wrong_step(&e, step) != SIGABRT) fail_msg("case %zu was not caught", i);
        *cases[i].at = right;
    }
    free(step);
    tiny_engine_close(&e);
    tiny_close(model);
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree_with_plain_arithmetic),
        cmocka_unit_test(experts_agree_with_plain_arithmetic),
        cmocka_unit_test(a_rank_alone_agrees_with_plain_arithmetic),
        cmocka_unit_test(caches_in_fp8_agree_with_plain_arithmetic),
        cmocka_unit_test(rows_do_not_depend_on_their_step_when_deterministic),
        cmocka_unit_test(references_stand_for_drawn_tokens),
        cmocka_unit_test(replayed_steps_give_the_logits_of_the_first),
        cmocka_unit_test(steps_without_logits_fill_the_cache),
        cmocka_unit_test(sampled_steps_tell_the_time_of_each_operation),
        cmocka_unit_test(quantised_weights_stay_close),
        cmocka_unit_test(formats_that_the_device_lacks_are_refused),
        cmocka_unit_test(shapes_that_the_device_lacks_are_refused),
        cmocka_unit_test(memory_is_what_the_driver_counts),
#ifdef OPTIMA_CUDA_EMULATION
        cmocka_unit_test(failures_while_opening_leave_a_line_and_nothing_else),
        cmocka_unit_test(devices_lost_while_opening_are_reported),
        cmocka_unit_test(failures_in_a_step_end_it_and_all_after_it),
        cmocka_unit_test(failed_captures_are_survived),
        cmocka_unit_test(devices_that_cannot_serve_are_refused_with_a_reason),
        cmocka_unit_test(wrong_indices_are_caught_on_the_host),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
