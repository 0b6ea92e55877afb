// How much load one core of the client makes: requests and events a second against a stub that answers at once, many
// streams at once, and how late requests start in an open loop. Beside each: what was asked.
#include "base/clock.h"
#include "bench/summary.h"
#include "tests/bench/stub_server.h"

#include "bench/load.h"

#include <stdio.h>

struct trial {
    const char *name;
    struct stub_options stub;
    int64_t n_users, n_requests;
    double duration_s;
    const char *rate;
};

static struct workload workload = {.options = {.model = "stub",
                                               .stream = true,
                                               .prompt_tokens = {AMOUNT_FIXED, 16, 0},
                                               .output_tokens = {AMOUNT_FIXED, 16, 0},
                                               .n_turns = 1},
                                   .tokens_per_word = 1};

static void run_trial(const struct trial *trial, struct run_record *run, struct summary *summary) {
    struct stub *stub = stub_open(&trial->stub);
    struct arrival arrival;
    struct err err = {0};
    struct load_options options = {.url = {.host = "127.0.0.1"},
                                   .workload = &workload,
                                   .n_users = trial->n_users,
                                   .n_requests = trial->n_requests,
                                   .duration_s = trial->duration_s,
                                   .timeout_s = 60};
    snprintf(options.url.port, sizeof options.url.port, "%d", stub_port(stub));
    if (trial->rate) {
        if (arrival_parse(&arrival, trial->rate, 0, 1, false, 1, &err)) fprintf(stderr, "%s\n", err.text);
        options.arrival = &arrival;
    }
    if (load_run(run, &options, &err)) fprintf(stderr, "%s\n", err.text);
    summary_make(summary, run, &(struct objectives){0}, trial->rate != NULL, 0);
    stub_close(stub);
}

int main(void) {
    static const struct trial trials[] = {
        {"requests", {.n_events = 1, .tokens_per_event = 1, .words_per_token_percent = 100}, 32, 60000, 0, NULL},
        {"events", {.n_events = 256, .tokens_per_event = 1, .words_per_token_percent = 100}, 16, 8000, 0, NULL},
        {"10,000 streams",
         {.n_events = 100,
          .first_ns = 1000000000,
          .gap_ns = 60000000,
          .tokens_per_event = 1,
          .words_per_token_percent = 100},
         10000,
         10000,
         0,
         NULL},
        {"1,000 requests/s", {.n_events = 2, .tokens_per_event = 1, .words_per_token_percent = 100}, 0, 0, 5, "1000"},
    };
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++) {
        struct run_record run;
        struct summary summary;
        run_trial(&trials[i], &run, &summary);
        uint64_t n_events = 0;
        for (size_t r = 0; r < run.requests.count; r++) n_events += run.requests.items[r].n_events;
        const double wall_s = (double)run.duration_ns / 1e9, processor_s = (double)run.client_cpu_ns / 1e9;
        printf("%-18s %7zu of %zu completed; %.0f requests and %.0f events a second of wall time\n", trials[i].name,
               summary.n_by_outcome[OUTCOME_OK], run.requests.count, (double)run.requests.count / wall_s,
               (double)n_events / wall_s);
        printf("%-18s processor with the stub: %.2f s of %.2f s; p99 of lag %.3f ms\n", "", processor_s, wall_s,
               summary.latency[LATENCY_DISPATCH].percentile[3].mean * 1e3);
        run_record_close(&run);
        summary_close(&summary);
    }
    return 0;
}
