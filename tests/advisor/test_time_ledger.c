// Where time went: lines of a step, and that all lines are all of the time.
#include "tests/test.h"

#include "tests/advisor/synthetic.h"

#include <math.h>

static void close_to(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, not %.9g", what, got, want);
}

// On a machine that reads 100 GB/s and computes 1 TFLOP/s: 1 GB of weights are 10 ms, a row of 2 GFLOP 2 ms.
static const struct time_split machine = {.read_bytes_per_s = 100e9, .flops_per_s = 1e12};

static struct step_record step_of(int32_t n_decode, int32_t n_prompt) {
    const int32_t n_rows = n_decode + n_prompt;
    return (struct step_record){.n_rows = n_rows,
                                .n_prompt_rows = n_prompt,
                                .n_sequences = n_decode + (n_prompt > 0),
                                .n_decoding = n_decode,
                                .n_logit_rows = n_decode,
                                .n_running = n_decode + (n_prompt > 0),
                                .weight_bytes = 1e9,
                                .head_bytes = 0.2e9,
                                .kv_bytes = 0.1e9 * (n_decode + (n_prompt > 0)),
                                .kv_bytes_decode = 0.1e9 * n_decode,
                                .linear_flops = 2e9 * n_rows,
                                .attention_flops = 0.05e9 * n_rows,
                                .attention_flops_decode = 0.05e9 * n_decode,
                                .head_flops = 0.4e9 * n_decode};
}

// Milliseconds of operations; the step took them all.
static struct step_record sampled(struct step_record r, uint64_t linear, uint64_t attention, uint64_t head,
                                  uint64_t sample) {
    const uint64_t ms = 1000000;
    r.times.op_ns[OP_ATTENTION_IN] = linear * ms / 2;
    r.times.op_ns[OP_MLP_IN] = linear * ms - linear * ms / 2;
    r.times.op_ns[OP_ATTENTION] = attention * ms;
    r.times.op_ns[OP_HEAD] = head * ms;
    r.times.op_ns[OP_SAMPLE] = sample * ms;
    r.times.total_ns = (linear + attention + head + sample) * ms;
    return r;
}

static double sum_of(const double seconds[TIME_LINES]) {
    double sum = 0;
    for (int line = 0; line < TIME_LINES; line++) sum += seconds[line];
    return sum;
}

static void a_decoding_step_is_its_operations(void **state) {
    (void)state;
    struct time_split split = machine;
    double s[TIME_LINES] = {0};
    struct step_record r = sampled(step_of(4, 0), 10, 5, 3, 1);
    r.host_gap_ns = 2000000;
    time_split_step(&split, &r, 0.020, s); // the host took 1 ms of the step's 20
    close_to("weights", s[TIME_DECODE_WEIGHTS], 0.010, 1e-12);
    close_to("KV", s[TIME_DECODE_KV], 0.005, 1e-12);
    close_to("head", s[TIME_HEAD], 0.003, 1e-12);
    close_to("sampling", s[TIME_SAMPLING], 0.001, 1e-12);
    close_to("gap", s[TIME_HOST_GAP], 0.003, 1e-12);
    close_to("sum", sum_of(s), 0.022, 1e-12);
}

// 4 rows would read the weights in 10 ms, 45 prompt rows alone would compute for 90: a tenth is decoding. Attention:
// 400 MB are 4 ms, the prompt's 100 MB 1 ms and its 2.25 GFLOP 2.25 ms.
static void shared_steps_divide_as_each_would_need_alone(void **state) {
    (void)state;
    struct time_split split = machine;
    double s[TIME_LINES] = {0};
    struct step_record r = sampled(step_of(4, 45), 100, 10, 0, 0);
    r.n_recomputed_rows = 9;
    time_split_step(&split, &r, 0.110, s);
    close_to("weights", s[TIME_DECODE_WEIGHTS], 0.010, 1e-12);
    const double kv = 0.010 * 4 / 6.25;
    close_to("KV", s[TIME_DECODE_KV], kv, 1e-12);
    close_to("recomputed", s[TIME_RECOMPUTE], (0.090 + 0.010 - kv) / 5, 1e-12);
    close_to("sum", sum_of(s), 0.110, 1e-12);
}

// 2 sequences with 4 drafts each, of which 2 of 8 became tokens. Of 10 + 20 ms that reading and 10 rows would take one
// after the other, the 6 that were in vain add 12.
static void rejected_drafts_take_what_they_add(void **state) {
    (void)state;
    struct time_split split = machine;
    double s[TIME_LINES] = {0};
    struct step_record r = sampled(step_of(10, 0), 10, 0, 0, 0);
    r.n_draft_rows = 8;
    r.n_accepted = 2;
    r.host_gap_ns = 4000000;
    r.draft_ns = 2000000;
    time_split_step(&split, &r, 0.010, s);
    close_to("rejected", s[TIME_REJECTED_DRAFTS], 0.010 * 12 / 30 + 0.002 * 6 / 8, 1e-12);
    close_to("gap", s[TIME_HOST_GAP], 0.004 - 0.002 * 6 / 8, 1e-12);
    close_to("sum", sum_of(s), 0.014, 1e-12);
    // Padding: 5 rows for nobody add 10 ms to 30.
    double p[TIME_LINES] = {0};
    r = sampled(step_of(10, 0), 40, 0, 0, 0);
    r.n_padding_rows = 5;
    time_split_step(&split, &r, 0.040, p);
    close_to("padding", p[TIME_PADDING], 0.010, 1e-12);
}

// A step without times of operations divides as those before it did; the first one, as physics says.
static void steps_that_were_not_sampled_divide_like_others(void **state) {
    (void)state;
    struct time_split split = machine;
    double s[TIME_LINES] = {0};
    struct step_record r = step_of(4, 0); // 10 ms, 4 ms, and 2 ms of head
    time_split_step(&split, &r, 0.016, s);
    close_to("weights by physics", s[TIME_DECODE_WEIGHTS], 0.010, 1e-12);
    close_to("KV by physics", s[TIME_DECODE_KV], 0.004, 1e-12);
    close_to("head by physics", s[TIME_HEAD], 0.002, 1e-12);
    const struct step_record known = sampled(step_of(4, 0), 5, 3, 1, 1);
    time_split_step(&split, &known, 0.010, (double[TIME_LINES]){0});
    memset(s, 0, sizeof s);
    time_split_step(&split, &r, 0.010, s);
    close_to("weights as before", s[TIME_DECODE_WEIGHTS], 0.005, 1e-12);
    close_to("sampling as before", s[TIME_SAMPLING], 0.001, 1e-12);
}

// Whatever a record says, nothing is lost, negative or counted twice.
static void any_record_is_divided_without_rest(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct time_split split = seed % 2 ? machine : (struct time_split){0};
        struct step_record r;
        const uint64_t key = rng_key(seed, 1, 2);
        for (uint32_t i = 0; i < 2; i++) {
            r = step_of((int32_t)(rng_u32(key, i) % 9), (int32_t)(rng_u32(key, 10 + i) % 400));
            r.n_draft_rows = (int32_t)(rng_u32(key, 20 + i) % 12) - 2;
            r.n_accepted = (int32_t)(rng_u32(key, 30 + i) % 12) - 2;
            r.n_recomputed_rows = (int32_t)(rng_u32(key, 40 + i) % 500);
            r.n_padding_rows = (int32_t)(rng_u32(key, 50 + i) % 40);
            r.host_gap_ns = rng_u32(key, 60 + i) % 3000000;
            r.draft_ns = rng_u32(key, 70 + i) % 5000000;
            r.times.total_ns = rng_u32(key, 80 + i) % 60000000;
            if (rng_u32(key, 90 + i) % 3 == 0) r.weight_bytes = r.kv_bytes = r.linear_flops = r.head_bytes = 0;
            for (uint32_t k = 0; k < OP_KINDS; k++)
                r.times.op_ns[k] = rng_u32(key, 100 + i) % 2 ? rng_u32(key, 200 + k) % 20000000 : 0;
            double s[TIME_LINES] = {0};
            const double step_s = rng_u32(key, 300 + i) % 50000000 * 1e-9;
            time_split_step(&split, &r, step_s, s);
            for (int line = 0; line < TIME_LINES; line++)
                if (!(s[line] >= -1e-15)) fail_msg("seed %d: %s is %g", (int)seed, time_line_name(line), s[line]);
            close_to("sum", sum_of(s), step_s + (double)r.host_gap_ns * 1e-9, 1e-12);
        }
    }
}

static void held_back_time_comes_from_steps(void **state) {
    (void)state;
    double s[TIME_LINES] = {[TIME_IDLE] = 2, [TIME_HOST_GAP] = 1, [TIME_PROMPT] = 3, [TIME_DECODE_WEIGHTS] = 4};
    struct time_ledger ledger;
    time_ledger_make(&ledger, s, 10, 0.35);
    close_to("idle", ledger.share[TIME_IDLE], 0.2, 1e-12);
    close_to("throttled", ledger.share[TIME_THROTTLED], 0.35, 1e-12);
    close_to("prompt", ledger.share[TIME_PROMPT], 0.15, 1e-12);
    close_to("sum", ledger.sum, 1, 1e-12);
    time_ledger_make(&ledger, s, 10, 0.95); // more than steps took
    close_to("throttled", ledger.share[TIME_THROTTLED], 0.7, 1e-12);
    time_ledger_make(&ledger, s, 12.5, 0); // what is missing is not hidden
    close_to("sum", ledger.sum, 0.8, 1e-12);
}

static uint64_t draw(uint64_t *counter, uint64_t most) {
    return rng_u32(rng_key(17, 3, 5), (*counter)++) % (most + 1);
}

// Servers that rest, wait for the host, keep one or two steps in flight, take milliseconds or seconds a step and
// sometimes lose records: over any window the lines sum to one, and the large lines are true.
static void lines_sum_to_all_of_the_time(void **state) {
    (void)state;
    static struct synthetic s;
    uint64_t counter = 0;
    double worst = 0;
    for (int world = 0; world < 60; world++) {
        synthetic_open(&s);
        const uint64_t ms = 1000000, step_most = (uint64_t[]){2, 30, 400, 2500}[world % 4] * ms;
        const uint64_t gap_most = (uint64_t[]){0, 1, 40}[world % 3] * ms;
        const bool overlaps = world % 5 == 1, loses = world % 7 == 2, rests = world % 2;
        while (s.now_ns - s.origin_ns < 40 * 1000 * ms) {
            const struct step_record r = step_of((int32_t)draw(&counter, 8), (int32_t)draw(&counter, 1) * 64);
            if (rests && draw(&counter, 20) == 0) synthetic_rest(&s, draw(&counter, 3000) * ms);
            const uint64_t step = ms / 5 + draw(&counter, step_most);
            synthetic_step(&s, &r, draw(&counter, gap_most), step, overlaps ? draw(&counter, ms / 5) : 0);
            if (loses && draw(&counter, 200) == 0) synthetic_lose(&s, draw(&counter, 30));
        }
        synthetic_tell(&s);
        for (int w = 10; w <= 30; w += 10) {
            struct tally_window window;
            assert_true(tally_window(s.tally, w, &window));
            struct time_ledger ledger;
            time_ledger_make(&ledger, window.sums.seconds, window.sums.wall_s - window.sums.lost_s, 0);
            if (fabs(ledger.sum - 1) > worst) worst = fabs(ledger.sum - 1);
            if (!(fabs(ledger.sum - 1) <= 0.02)) fail_msg("world %d, %d s: sum %.4f", world, w, ledger.sum);
        }
        synthetic_close(&s);
    }
    printf("the sum is within %.4f of 1\n", worst);
}

// A third of the time resting, a sixth gap, half steps.
static void lines_are_true(void **state) {
    (void)state;
    static struct synthetic s;
    synthetic_open(&s);
    const struct step_record r = sampled(step_of(4, 0), 20, 10, 0, 0);
    for (int i = 0; i < 400; i++) {
        synthetic_rest(&s, 20000000);
        synthetic_step(&s, &r, 10000000, 30000000, 0);
    }
    synthetic_tell(&s);
    struct tally_window window;
    assert_true(tally_window(s.tally, 20, &window));
    struct time_ledger ledger;
    time_ledger_make(&ledger, window.sums.seconds, window.sums.wall_s, 0);
    close_to("idle", ledger.share[TIME_IDLE], 2.0 / 6, 0.01);
    close_to("gap", ledger.share[TIME_HOST_GAP], 1.0 / 6, 0.01);
    close_to("weights", ledger.share[TIME_DECODE_WEIGHTS], 2.0 / 6, 0.01);
    close_to("KV", ledger.share[TIME_DECODE_KV], 1.0 / 6, 0.01);
    close_to("sum", ledger.sum, 1, 0.01);
    synthetic_close(&s);
}

// A stretch whose records are lost is known to be missing, and is not taken for idle time.
static void lost_time_is_left_out(void **state) {
    (void)state;
    static struct synthetic s;
    synthetic_open(&s);
    const struct step_record r = sampled(step_of(4, 0), 20, 10, 0, 0);
    for (int i = 0; i < 3000; i++) {
        synthetic_step(&s, &r, 0, 10000000, 0);
        if (i % 10 == 9) synthetic_lose(&s, 5);
    }
    synthetic_tell(&s);
    struct tally_window window;
    assert_true(tally_window(s.tally, 20, &window));
    assert_true(window.sums.lost_s > 1);
    struct time_ledger ledger;
    time_ledger_make(&ledger, window.sums.seconds, window.sums.wall_s - window.sums.lost_s, 0);
    close_to("sum", ledger.sum, 1, 0.02);
    close_to("idle", ledger.share[TIME_IDLE], 0, 1e-9);
    synthetic_close(&s);
}

static void every_line_has_names(void **state) {
    (void)state;
    for (int line = 0; line < TIME_LINES; line++) {
        assert_true(strlen(time_line_name((enum time_line)line)) > 2);
        assert_true(strlen(time_line_title((enum time_line)line)) > 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_decoding_step_is_its_operations),
        cmocka_unit_test(shared_steps_divide_as_each_would_need_alone),
        cmocka_unit_test(rejected_drafts_take_what_they_add),
        cmocka_unit_test(steps_that_were_not_sampled_divide_like_others),
        cmocka_unit_test(any_record_is_divided_without_rest),
        cmocka_unit_test(held_back_time_comes_from_steps),
        cmocka_unit_test(lines_sum_to_all_of_the_time),
        cmocka_unit_test(lines_are_true),
        cmocka_unit_test(lost_time_is_left_out),
        cmocka_unit_test(every_line_has_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
