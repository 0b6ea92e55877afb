// What the advisor costs: notes of requests and gaps, taking step records, a report.
#include "advisor/advisor.h"
#include "advisor/step_model.h"
#include "advisor/tally.h"
#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NOTES = 2000000, STEPS = 200000, REPORTS = 20 };

struct source {
    uint64_t step_ns, opened_ns, n_taken;
};

static struct step_record record_of(uint64_t ticket, uint64_t begin_ns, uint64_t step_ns) {
    const bool has_prompt = ticket % 5 == 0;
    return (struct step_record){.ticket = ticket,
                                .submitted_ns = begin_ns + step_ns / 20,
                                .collected_ns = begin_ns + step_ns,
                                .host_gap_ns = step_ns / 20,
                                .n_rows = has_prompt ? 72 : 8,
                                .n_prompt_rows = has_prompt ? 64 : 0,
                                .n_sequences = 8 + has_prompt,
                                .n_decoding = 8,
                                .n_logit_rows = 8,
                                .n_running = 8,
                                .n_waiting = (int32_t)(ticket % 3),
                                .n_blocks_used = 100,
                                .decode_context = 4000,
                                .weight_bytes = 1e7,
                                .head_bytes = 1e6,
                                .kv_bytes = 2e6,
                                .kv_bytes_decode = 2e6,
                                .linear_flops = has_prompt ? 1.4e9 : 1.6e8,
                                .attention_flops = 1e7,
                                .attention_flops_decode = 1e7,
                                .head_flops = 1.6e7};
}

// A server whose steps follow each other without rest.
static size_t take_records(void *context, struct step_record *out, size_t n, uint64_t *n_lost) {
    struct source *source = context;
    (void)n_lost;
    const uint64_t done = (clock_now_ns() - source->opened_ns) / source->step_ns;
    size_t count = 0;
    for (; count < n && source->n_taken < done; count++, source->n_taken++)
        out[count] =
            record_of(source->n_taken + 1, source->opened_ns + source->n_taken * source->step_ns, source->step_ns);
    return count;
}

static void sample(void *context, struct advisor_sample *out) {
    (void)context;
    *out = (struct advisor_sample){.n_running = 8};
}

static bool measure_peaks(void *context, struct backend_peaks *out) {
    (void)context;
    *out = (struct backend_peaks){20e9, 3e11, 1e12, 4e12, 0, {0}};
    return true;
}

static void read_knobs(void *context, struct knobs *out) {
    (void)context;
    *out = (struct knobs){0};
}

static void set_knob(void *context, enum knob_id id, int64_t value) {
    (void)context, (void)id, (void)value;
}

static double ns_each(uint64_t begin_ns, int n) {
    return (double)(clock_now_ns() - begin_ns) / n;
}

static void bench_notes(struct advisor *advisor) {
    uint64_t begin = clock_now_ns();
    for (int i = 0; i < NOTES; i++) advisor_note_gap(advisor, 1000000 + (uint64_t)i, i % 2, 1);
    printf("advisor_note_gap        %8.1f ns\n", ns_each(begin, NOTES));
    const struct request_trace trace = {1, 2, 3, 4, 5, 100, 0, 50, 100, false};
    begin = clock_now_ns();
    for (int i = 0; i < NOTES / 10; i++) advisor_note_request(advisor, &trace);
    printf("advisor_note_request    %8.1f ns\n", ns_each(begin, NOTES / 10));
}

static void bench_steps(void) {
    struct tally *tally = tally_open(0);
    struct time_split split = {.read_bytes_per_s = 20e9, .flops_per_s = 1e12};
    const struct tally_limits limits = {8, NAN, NAN};
    struct step_model model;
    step_model_open(&model, 20e9, 1e12);
    double tally_ns = 0, model_ns = 0;
    for (int i = 0; i < STEPS; i++) {
        const struct step_record r = record_of((uint64_t)i + 1, (uint64_t)i * 1000000, 1000000);
        const struct step_work work = {
            r.weight_bytes, r.head_bytes, r.kv_bytes, r.linear_flops, r.attention_flops, r.head_flops, 72, 64, 8, 9};
        const uint64_t begin = clock_now_ns();
        const double step_s = tally_step(tally, &split, &r, 0, &limits);
        const uint64_t middle = clock_now_ns();
        step_model_learn(&model, &work, step_s);
        tally_ns += (double)(middle - begin);
        model_ns += (double)(clock_now_ns() - middle);
    }
    printf("a step into the tally   %8.1f ns\n", tally_ns / STEPS);
    printf("a step into the model   %8.1f ns\n", model_ns / STEPS);
    printf("memory of the tallies   %8.2f MiB\n", (double)tally_bytes() / 0x1p20);
    tally_close(tally);
}

static void bench_thread(struct advisor *advisor, uint64_t step_ns) {
    struct report *report = mem_alloc(sizeof *report);
    const struct timespec wait = {.tv_sec = 4};
    nanosleep(&wait, NULL);
    double worst = 0, sum = 0;
    for (int i = 0; i < REPORTS; i++) {
        const uint64_t begin = clock_now_ns();
        if (!advisor_report(advisor, 600, report)) break;
        const double ns = ns_each(begin, 1);
        sum += ns;
        if (ns > worst) worst = ns;
    }
    printf("a report                %8.2f ms, at most %.2f\n", sum / REPORTS / 1e6, worst / 1e6);
    printf("the thread, at a step in %.1f ms: %.3f %% of a processor\n", (double)step_ns / 1e6,
           100 * report->own_share);
    free(report);
}

int main(void) {
    static const uint64_t steps_ns[] = {1000000, 20000000};
    bench_steps();
    for (int i = 0; i < 2; i++) {
        struct source source = {.step_ns = steps_ns[i], .opened_ns = clock_now_ns()};
        struct advisor *advisor;
        struct err err;
        const struct advisor_options options = {
            .setup = {.model = "m", .device = "a device", .weights = "bf16", .n_blocks = 1000},
            .source = {&source, take_records, sample, measure_peaks, {&source, read_knobs, set_knob}},
            .peaks_path = ""};
        if (advisor_open(&advisor, &options, &err)) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        if (i == 0) bench_notes(advisor);
        bench_thread(advisor, steps_ns[i]);
        advisor_close(advisor);
    }
    return 0;
}
