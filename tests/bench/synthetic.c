#include "tests/bench/synthetic.h"
#include "base/rng.h"

#include <math.h>

static uint64_t ns(double seconds) {
    return (uint64_t)llround(seconds * 1e9);
}

static void push(struct run_record *run, const struct request_record *record) {
    vec_push(&run->requests, *record);
    run->offered_ns = record->scheduled_ns > run->offered_ns ? record->scheduled_ns : run->offered_ns;
    run->duration_ns = record->ended_ns > run->duration_ns ? record->ended_ns : run->duration_ns;
}

void synthetic_add(struct run_record *run, uint64_t session, double due_s, double ttft_s, uint32_t n_gaps, double gap_s,
                   int tokens_per_event) {
    const uint64_t due = ns(due_s), first = ns(due_s + ttft_s), last = ns(due_s + ttft_s + n_gaps * gap_s);
    const struct request_record record = {.scheduled_ns = due,
                                          .started_ns = due,
                                          .sent_ns = due,
                                          .first_ns = first,
                                          .last_ns = last,
                                          .ended_ns = last,
                                          .n_prompt = 100,
                                          .n_cached = 0,
                                          .n_output = (int64_t)(n_gaps + 1) * tokens_per_event,
                                          .n_events = n_gaps + 1,
                                          .gap_first = (uint32_t)run->gaps.count,
                                          .status = 200,
                                          .session = session,
                                          .outcome = OUTCOME_OK};
    for (uint32_t i = 0; i < n_gaps; i++) vec_push(&run->gaps, (uint32_t)llround(gap_s * 1e9 / GAP_NS));
    push(run, &record);
}

void synthetic_add_failed(struct run_record *run, uint64_t session, double due_s, enum outcome outcome) {
    const uint64_t due = ns(due_s);
    const struct request_record record = {.scheduled_ns = due,
                                          .started_ns = due,
                                          .ended_ns = due,
                                          .n_prompt = -1,
                                          .n_cached = -1,
                                          .n_output = -1,
                                          .session = session,
                                          .outcome = (uint8_t)outcome};
    push(run, &record);
}

static double normal(uint64_t key, uint64_t i) {
    return rng_normal_quantile(((double)rng_u32(key, i) + 0.5) * 0x1p-32);
}

void synthetic_measurement(struct measurement *out, size_t n, uint64_t key, double factor) {
    *out = (struct measurement){.n_users = 1};
    str_append_text(&out->name, "synthetic");
    str_append_text(&out->url, "http://127.0.0.1:1");
    str_append_text(&out->model, "none");
    str_append_text(&out->settings, "{}");
    str_append_text(&out->workload, "{\"seed\":0}");
    double slow = normal(rng_key(key, 0, 0), 0); // of deviation 1, with 0.8 of the request before
    for (size_t i = 0; i < n; i++) {
        slow = 0.8 * slow + 0.6 * normal(rng_key(key, 1, 0), i);
        const double own = normal(rng_key(99, 0, 0), i); // the request's work, the same in every run
        const double times = exp(0.3 * slow + 0.5 * own) * factor;
        synthetic_add(&out->run, i, (double)i * 0.05, 0.04 * times, 8, 0.01 * times, 1);
    }
    summary_make(&out->summary, &out->run, &out->objectives, false, 0);
}
