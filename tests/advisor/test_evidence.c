// Tallies of a synthetic server become figures that were worked out by hand.
#include "tests/test.h"

#include "advisor/evidence_make.h"
#include "advisor/step_model.h"
#include "tests/advisor/synthetic.h"

#include <math.h>

static const uint64_t MS = 1000000;

static void close_to(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static const struct peak_figures peaks = {
    .read = {100e9, FIGURE_MEASURED}, .compute = {2e12, FIGURE_MEASURED}, .compute_unit = "bf16"};
static const struct setup setup = {.n_blocks = 100,
                                   .rows_max = 512,
                                   .layer_bytes = 1e9,
                                   .head_bytes = 0.2e9,
                                   .kv_bytes_per_token = 1e5,
                                   .flops_per_token = 2e9,
                                   .speculates = true};

static bool see(struct synthetic *s, double window_s, struct evidence *out) {
    struct machine *machine = machine_open(&(struct machine_options){.root = "/nowhere"});
    const bool known = evidence_make(
        out, &(struct evidence_input){.tally = s->tally, .machine = machine, .setup = &setup, .peaks = &peaks},
        window_s);
    machine_close(machine);
    return known;
}

// 4 rows at 500 tokens: 1.2 GB of weights and 0.2 GB of KV, 8 + 0.4 + 0.8 GFLOP.
static const struct step_record decode = {.n_rows = 4,
                                          .n_sequences = 4,
                                          .n_decoding = 4,
                                          .n_logit_rows = 4,
                                          .n_running = 4,
                                          .n_waiting = 2,
                                          .n_blocks_used = 30,
                                          .decode_context = 2000,
                                          .weight_bytes = 1e9,
                                          .head_bytes = 0.2e9,
                                          .kv_bytes = 0.2e9,
                                          .kv_bytes_decode = 0.2e9,
                                          .linear_flops = 8e9,
                                          .attention_flops = 0.4e9,
                                          .attention_flops_decode = 0.4e9,
                                          .head_flops = 0.8e9,
                                          .attention_flops_palm = 0.5e9};

static void nothing_is_known_at_first(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    assert_false(see(&s, 30, &e));
    synthetic_rest(&s, 900 * MS);
    assert_false(see(&s, 30, &e));
    synthetic_rest(&s, 20000 * MS);
    assert_true(see(&s, 30, &e));
    close_to("idle", e.load.idle_share, 1, 1e-6);
    assert_int_equal(e.n_steps, 0);
    assert_true(isnan(e.efficiency.mbu) && isnan(e.itl.p50.mean) && isnan(e.load.residence_mean));
    assert_false(e.steady);
    synthetic_close(&s);
}

// Steps of 20 ms, half of the time none: 1.4 GB in 20 ms are 70 GB/s, 9.2 GFLOP are 0.46 TFLOP/s.
static void efficiency_is_over_busy_time(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    for (int i = 0; i < 1000; i++) {
        synthetic_rest(&s, 20 * MS);
        synthetic_step(&s, &decode, 0, 20 * MS, 0);
    }
    synthetic_tell(&s);
    assert_true(see(&s, 30, &e));
    close_to("MBU", e.efficiency.mbu, 0.70, 0.005);
    close_to("MFU", e.efficiency.mfu, 0.23, 0.002);
    close_to("MBU of decoding", e.efficiency.mbu_decode, 0.70, 1e-9);
    close_to("MFU of decoding", e.efficiency.mfu_decode, 0.23, 1e-9);
    close_to("MFU as papers count", e.efficiency.mfu_palm, 0.2325, 0.002);
    assert_true(isnan(e.efficiency.mfu_prompt));
    close_to("KV", e.efficiency.kv_share, 0.2 / 1.4, 1e-9);
    close_to("rows", e.efficiency.decode_rows_mean, 4, 1e-9);
    close_to("context", e.efficiency.context_mean, 500, 1e-9);
    close_to("step", e.efficiency.decode_s_mean, 0.020, 1e-9);
    close_to("decoding", e.efficiency.decode_time_share, 1, 1e-9);
    close_to("busy", e.busy_s / e.window_s, 0.5, 0.01);
    close_to("running", e.load.running_mean, 2, 0.05); // 4, half of the time
    close_to("waiting", e.load.waiting_mean, 1, 0.05);
    close_to("queue", e.load.queue_share, 0.5, 0.02);
    close_to("blocks", e.cache.occupancy, 0.3, 1e-9);
    close_to("output", e.load.output_rate, 100, 4);
    close_to("full", e.load.full_share, 0, 1e-9);
    assert_true(e.steady);
    synthetic_close(&s);
}

// Every fifth step has 64 prompt rows beside, 8 of them for the second time; drafts beside, half of them kept.
static void phases_are_told_apart(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    struct step_record both = decode, drafted = decode;
    both.n_rows = 68, both.n_prompt_rows = 64, both.n_recomputed_rows = 8, both.n_sequences = 5;
    both.linear_flops = 136e9, both.attention_flops = 2e9, both.n_running = 8;
    drafted.n_rows = 12, drafted.n_draft_rows = 8, drafted.n_accepted = 4, drafted.linear_flops = 24e9;
    for (int i = 0; i < 1000; i++)
        synthetic_step(&s, i % 5 == 0 ? &both : i % 5 == 1 ? &drafted : &decode, 0, (i % 5 ? 20 : 100) * MS, 0);
    synthetic_tell(&s);
    assert_true(see(&s, 30, &e));
    close_to("prompt steps", e.prompt.step_share, 0.2, 0.01);
    close_to("prompt rows", e.prompt.rows_per_step, 64, 1e-9);
    close_to("with", e.prompt.step_s_with, 0.1, 1e-9);
    close_to("without", e.prompt.step_s_without, 0.02, 1e-9);
    close_to("attention", e.prompt.attention_share, 1.6 / (1.6 + 128), 1e-9);
    close_to("recomputed", e.cache.recomputed_tokens / (e.cache.recomputed_tokens + e.cache.useful_tokens),
             8.0 / (68 + 12 + 12), 1e-3);
    close_to("input", e.load.input_rate, 56 / 0.18, 8);
    close_to("drafts", e.speculation.drafts_per_sequence, 2, 1e-9);
    close_to("acceptance", e.speculation.acceptance, 0.5, 1e-9);
    close_to("rows", e.efficiency.decode_rows_mean, 4, 1e-9);
    close_to("full", e.load.full_share, 0.2, 0.01);
    close_to("decoding", e.efficiency.decode_time_share, 80.0 / 180, 0.01);
    close_to("MFU of prompts", e.efficiency.mfu_prompt, 138.8e9 / 0.1 / 2e12, 1e-6);
    synthetic_close(&s);
}

static struct request_trace trace_of(const struct synthetic *s, double ttft_s, double e2e_s, int32_t n_prompt,
                                     int32_t n_generated) {
    const uint64_t end = s->now_ns, arrived = end - (uint64_t)(e2e_s * 1e9);
    return (struct request_trace){.arrived_ns = arrived,
                                  .scheduled_ns = arrived + (uint64_t)(ttft_s * 0.25e9),
                                  .first_token_ns = arrived + (uint64_t)(ttft_s * 1e9),
                                  .last_token_ns = end,
                                  .finished_ns = end,
                                  .n_prompt = n_prompt,
                                  .n_cached = n_prompt / 4,
                                  .n_generated = n_generated,
                                  .n_max = 100};
}

// 20 requests a second of 1 s each, TTFT evenly from 0.1 to 0.3 s; the ones below 0.2 s meet the objective.
static void requests_become_latencies(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    s.limits.objective_ttft = 0.2;
    for (int i = 0; i < 600; i++) {
        synthetic_step(&s, &decode, 0, 50 * MS, 0);
        struct request_trace t = trace_of(&s, 0.1 + 0.2 * (i % 100) / 100.0, 1, i % 2 ? 100 : 300, 50);
        tally_request(s.tally, &t, &s.limits);
        uint32_t gaps[2][SKETCH_BUCKETS] = {0};
        gaps[0][sketch_bucket(20 * MS)] += 9;
        gaps[1][sketch_bucket(90 * MS)] += 1;
        tally_gaps(s.tally, gaps, 10);
    }
    synthetic_tell(&s);
    assert_true(see(&s, 20, &e));
    close_to("finished", e.load.finish_rate, 20, 1.1);
    close_to("residence", e.load.residence_mean, 1, 1e-6);
    close_to("TTFT p50", e.ttft.p50.mean, 0.2, 0.01);
    close_to("TTFT p95", e.ttft.p95.mean, 0.29, 0.01);
    assert_true(e.ttft.p50.low < 0.2 && e.ttft.p50.high > 0.2 && e.ttft.p50.low > 0.17 && e.ttft.p50.high < 0.23);
    close_to("queue p50", e.queue.p50.mean, 0.05, 0.003);
    close_to("E2E p50", e.e2e.p50.mean, 1, 0.04);
    close_to("ITL p50", e.itl.p50.mean, 0.020, 0.001);
    close_to("long gaps", e.prompt.gaps_long_share, 0.1, 1e-6);
    close_to("of these with prompts", e.prompt.gaps_long_with_prompt, 1, 1e-6);
    close_to("prompt", e.load.prompt_tokens_mean, 200, 3);
    close_to("cached", e.load.cached_tokens_mean, 50, 1);
    close_to("output", e.load.output_tokens_mean, 50, 1e-9);
    close_to("deviation", e.load.output_tokens_deviation, 0, 1e-9);
    assert_true(isnan(e.load.good_rate)); // the setup has no objective
    synthetic_close(&s);
}

// A load that grows all the time is not steady; its slope is right.
static void growth_is_seen(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    while (s.now_ns - s.origin_ns < 61000 * MS) {
        struct step_record r = decode;
        r.n_running = 8;
        r.n_waiting = (int32_t)((s.now_ns - s.origin_ns) / (500 * MS)); // two more a second
        synthetic_step(&s, &r, 0, 20 * MS, 0);
    }
    synthetic_tell(&s);
    assert_true(see(&s, 40, &e));
    close_to("slope", e.load.concurrency_slope.mean, 2, 0.1);
    assert_true(e.load.concurrency_slope.low > 1.5);
    assert_false(e.steady);
    close_to("full", e.load.full_share, 1, 1e-9);
    synthetic_close(&s);
}

// Short prompts alone, and short ones whose wait overlaps a long one's computation.
static void short_prompts_behind_long_ones_are_found(void **state) {
    (void)state;
    static struct synthetic s;
    static struct evidence e;
    synthetic_open(&s);
    for (int i = 0; i < 120; i++) {
        synthetic_step(&s, &decode, 0, 250 * MS, 0);
        // Of four: a long one, a short one that came while it was computed, and two alone later.
        struct request_trace t = trace_of(&s, 0.2, 0.21, i % 4 == 0 ? 4000 : 40, 5);
        if (i % 4 == 1) t.arrived_ns -= 200 * MS;
        tally_request(s.tally, &t, &s.limits);
    }
    synthetic_tell(&s);
    assert_true(see(&s, 28, &e));
    close_to("behind", e.prompt.long_ahead_share, 1.0 / 3, 0.03);
    synthetic_close(&s);
}

static void history_has_a_point_a_second(void **state) {
    (void)state;
    static struct synthetic s;
    static struct history_point points[TALLY_SECONDS];
    synthetic_open(&s);
    for (int i = 0; i < 35000; i++) synthetic_step(&s, &decode, 0, 20 * MS, 0);
    synthetic_tell(&s);
    assert_int_equal(evidence_history(s.tally, &setup, &peaks, points, TALLY_SECONDS), TALLY_SECONDS);
    close_to("age", points[0].age_s, TALLY_SECONDS - 1, 1);
    close_to("age", points[TALLY_SECONDS - 1].age_s, 0, 1e-9);
    for (int i = 0; i < TALLY_SECONDS; i++) {
        close_to("rate", points[i].output_rate, 200, 8);
        close_to("MBU", points[i].mbu, 0.7, 0.03);
    }
    assert_int_equal(evidence_history(s.tally, &setup, &peaks, points, 7), 7);
    static struct evidence e;
    assert_true(see(&s, 600, &e));
    close_to("window", e.window_s, 600, 1.1);
    close_to("sum", e.ledger.sum, 1, 0.001);
    synthetic_close(&s);
}

// Quantiles of a sketch of 10,000 values, evenly from 0 to 1 s, with the ranks that Wilson's interval gives.
static void sketches_know_their_quantiles(void **state) {
    (void)state;
    uint32_t count[SKETCH_BUCKETS] = {0};
    for (int i = 0; i < 10000; i++) count[sketch_bucket((uint64_t)i * 100000)]++;
    struct sketch sketch = {0};
    sketch_add_32(&sketch, count);
    for (double q = 0.05; q < 1; q += 0.05) close_to("quantile", sketch_quantile(&sketch, q), q, 0.003);
    const struct interval p95 = sketch_quantile_interval(&sketch, 1000, 0.95);
    close_to("low", p95.low, 0.9347, 0.003); // Wilson: 950 of 1000
    close_to("high", p95.high, 0.9618, 0.003);
    assert_true(isnan(sketch_quantile_interval(&sketch, 300, 0.99).mean)); // 3 values beyond it
    close_to("above", (double)sketch_above(&sketch, 0.25), 7500, 30);
    assert_true(isnan(sketch_quantile(&(struct sketch){0}, 0.5)));
    // Every time has a bucket whose bounds hold it.
    for (uint64_t ns = 1; ns < (uint64_t)1 << 40; ns = ns * 9 / 8 + 1) {
        const int bucket = sketch_bucket(ns);
        assert_true(sketch_bound_s(bucket) <= (double)ns * 1e-9 * (1 + 1e-12));
        assert_true(sketch_bound_s(bucket + 1) > (double)ns * 1e-9 * (1 - 1e-12));
    }
    assert_int_equal(sketch_bucket(UINT64_MAX), SKETCH_BUCKETS - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(efficiency_is_over_busy_time),
        cmocka_unit_test(phases_are_told_apart),
        cmocka_unit_test(requests_become_latencies),
        cmocka_unit_test(growth_is_seen),
        cmocka_unit_test(short_prompts_behind_long_ones_are_found),
        cmocka_unit_test(history_has_a_point_a_second),
        cmocka_unit_test(sketches_know_their_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
