// The advisor's thread over a source that a test fills: it takes what is there, measures peaks once, and reports.
#include "tests/test.h"

#include "advisor/advisor.h"
#include "advisor/peaks.h"
#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

// Steps of 10 ms, one after the other, as many as time has room for since it was opened.
struct source {
    pthread_mutex_t mutex;
    uint64_t opened_ns, n_taken;
    int n_asked_for_peaks, peaks_after;
    double read_bytes_per_s;
};

static size_t take_records(void *context, struct step_record *out, size_t n, uint64_t *n_lost) {
    struct source *source = context;
    (void)n_lost;
    pthread_mutex_lock(&source->mutex);
    const uint64_t step_ns = 10000000, done = (clock_now_ns() - source->opened_ns) / step_ns;
    size_t count = 0;
    for (; count < n && source->n_taken < done; count++) {
        const uint64_t begin = source->opened_ns + source->n_taken++ * step_ns;
        out[count] = (struct step_record){.ticket = source->n_taken,
                                          .submitted_ns = begin,
                                          .collected_ns = begin + step_ns,
                                          .n_rows = 4,
                                          .n_sequences = 4,
                                          .n_decoding = 4,
                                          .n_logit_rows = 4,
                                          .n_running = 4,
                                          .weight_bytes = 5e8,
                                          .linear_flops = 4e9,
                                          .kv_bytes = 1e8,
                                          .kv_bytes_decode = 1e8};
    }
    pthread_mutex_unlock(&source->mutex);
    return count;
}

static void sample(void *context, struct advisor_sample *out) {
    struct source *source = context;
    const uint64_t steps = (clock_now_ns() - source->opened_ns) / 10000000;
    *out = (struct advisor_sample){.n_running = 4, .n_generated_tokens_total = 4 * steps, .divergence_token = NAN};
}

static bool measure_peaks(void *context, struct backend_peaks *out) {
    struct source *source = context;
    pthread_mutex_lock(&source->mutex);
    const bool known = ++source->n_asked_for_peaks >= source->peaks_after;
    if (known) *out = (struct backend_peaks){.read_bytes_per_s = source->read_bytes_per_s, .f32_flops_per_s = 1e12};
    pthread_mutex_unlock(&source->mutex);
    return known;
}

static void read_knobs(void *context, struct knobs *out) {
    (void)context;
    *out = (struct knobs){0};
    out->knob[KNOB_SEQUENCES] = (struct knob){"sequences", "--sequences", 8, 1, 64, true};
}

static void set_knob(void *context, enum knob_id id, int64_t value) {
    (void)context, (void)id, (void)value;
}

static struct advisor *open_with(struct source *source, const char *peaks_path) {
    struct advisor *advisor;
    struct err err;
    const struct advisor_options options = {
        .setup = {.model = "m", .device = "a device", .weights = "f32", .n_blocks = 10, .sequences_max = 64},
        .source = {source, take_records, sample, measure_peaks, {source, read_knobs, set_knob}},
        .peaks_path = peaks_path};
    assert_int_equal(advisor_open(&advisor, &options, &err), 0);
    return advisor;
}

static void *note(void *argument) {
    for (int i = 0; i < 20000; i++) {
        advisor_note_gap(argument, 10000000 + (uint64_t)i, i % 4 == 0, 1);
        if (i % 100) continue;
        const uint64_t now = clock_now_ns();
        advisor_note_request(argument, &(struct request_trace){.arrived_ns = now - 500000000,
                                                               .scheduled_ns = now - 490000000,
                                                               .first_token_ns = now - 400000000,
                                                               .last_token_ns = now,
                                                               .finished_ns = now,
                                                               .n_prompt = 10,
                                                               .n_generated = 20});
    }
    return NULL;
}

static bool wait_for_report(struct advisor *advisor, struct report *report, bool (*is_enough)(const struct report *)) {
    const uint64_t until = clock_now_ns() + 20ull * 1000000000;
    while (clock_now_ns() < until) {
        if (advisor_report(advisor, 10, report) && is_enough(report)) return true;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

static bool has_everything(const struct report *r) {
    return r->evidence.n_steps >= 100 && r->evidence.load.n_finished >= 800 && r->evidence.itl.n >= 80000 &&
           r->evidence.model;
}

// Four threads note at once while the advisor's own takes records: nothing is lost.
static void what_happens_is_in_the_report(void **state) {
    (void)state;
    struct source source = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .opened_ns = clock_now_ns(), .read_bytes_per_s = 1e11, .peaks_after = 2};
    struct advisor *advisor = open_with(&source, "");
    struct report *report = mem_alloc(sizeof *report);
    pthread_t threads[4];
    // The first second of all is in no report: what is noted must come after it.
    struct history_point points[600];
    for (int i = 0; i < 500 && advisor_history(advisor, points, 600) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, note, advisor), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_true(wait_for_report(advisor, report, has_everything));
    const struct evidence *e = &report->evidence;
    assert_int_equal(e->load.n_finished, 800);
    assert_int_equal(e->itl.n, 80000);
    assert_true(fabs(e->ledger.sum - 1) < 0.02);
    assert_true(fabs(e->efficiency.mbu_decode - 0.6) < 1e-6); // 0.6 GB in 10 ms
    assert_ptr_equal(e->model, &report->model);
    assert_int_equal(e->setup.knobs.knob[KNOB_SEQUENCES].value, 8);
    assert_true(report->own_share >= 0 && report->own_share < 1);
    assert_true(advisor_history(advisor, points, 600) >= 1);
    assert_true(source.n_asked_for_peaks == 2); // and never again
    advisor_close(advisor);
    free(report);
}

static int asked_for_peaks(struct source *source) {
    pthread_mutex_lock(&source->mutex);
    const int n = source->n_asked_for_peaks;
    pthread_mutex_unlock(&source->mutex);
    return n;
}

// Each start measures once; the best of all starts is kept, because a busy machine measures too little.
static void the_best_peaks_of_all_starts_are_kept(void **state) {
    (void)state;
    static const double measured[] = {5e10, 1e11, 2e10}, kept[] = {5e10, 1e11, 1e11};
    char path[256];
    snprintf(path, sizeof path, "%s/peaks-of-advisor-%d.json", TEST_BINARY_DIR, (int)getpid());
    for (int start = 0; start < 3; start++) {
        struct source source = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                .opened_ns = clock_now_ns(),
                                .read_bytes_per_s = measured[start],
                                .peaks_after = 1};
        struct advisor *advisor = open_with(&source, path);
        for (int i = 0; i < 1000 && !asked_for_peaks(&source); i++)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        advisor_close(advisor);
        assert_int_equal(source.n_asked_for_peaks, 1);
        struct str key = STR_INIT;
        struct backend_peaks peaks;
        peaks_key(&key, "a device", false);
        assert_int_equal(peaks_load(&peaks, path, str_text(&key), NULL), 0);
        assert_true(peaks.read_bytes_per_s == kept[start]);
        str_close(&key);
    }
    unlink(path);
}

static void nothing_is_reported_at_first(void **state) {
    (void)state;
    struct source source = {.mutex = PTHREAD_MUTEX_INITIALIZER, .opened_ns = clock_now_ns(), .peaks_after = 1 << 30};
    struct advisor *advisor = open_with(&source, "");
    struct report *report = mem_alloc(sizeof *report);
    assert_false(advisor_report(advisor, 10, report));
    advisor_close(advisor);
    free(report);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_reported_at_first),
        cmocka_unit_test(the_best_peaks_of_all_starts_are_kept),
        cmocka_unit_test(what_happens_is_in_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
