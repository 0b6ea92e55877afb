// How much load one core of the client makes and how right its times are, against a stub of known times in a process of
// its own: requests and events a second of the client's processor time, many streams at once, how late requests start
// in an open loop, and what it says of waits that the stub makes on purpose. Beside each: what was asked.
#include "base/clock.h"
#include "bench/load.h"
#include "bench/summary.h"
#include "tests/bench/stub_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct trial {
    const char *name;
    struct stub_options stub;
    int64_t n_users, n_requests;
    double duration_s;
    const char *rate;
    bool constant;
    void (*print)(const struct run_record *run, const struct summary *summary);
};

static struct workload workload = {.options = {.model = "stub",
                                               .stream = true,
                                               .prompt_tokens = {AMOUNT_FIXED, 16, 0},
                                               .output_tokens = {AMOUNT_FIXED, 16, 0},
                                               .n_turns = 1},
                                   .tokens_per_word = 1};

static double seconds_of(uint64_t ns) {
    return (double)ns / 1e9;
}

static double events_of(const struct run_record *run) {
    double n = 0;
    for (size_t i = 0; i < run->requests.count; i++) n += run->requests.items[i].n_events;
    return n;
}

// -------------------------------------------------------------------------------------------------------------- prints

static void print_requests(const struct run_record *run, const struct summary *summary) {
    const double n = (double)run->requests.count, cpu = seconds_of(run->client_cpu_ns);
    printf("%.0f a second of the client's processor (asked: 20,000); %.0f of wall time; %zu failed\n", n / cpu,
           n / seconds_of(run->duration_ns), summary->n_requests - summary->n_by_outcome[OUTCOME_OK]);
}

static void print_events(const struct run_record *run, const struct summary *summary) {
    (void)summary;
    printf("%.0f a second of the client's processor (asked: 300,000); %.0f of wall time\n",
           events_of(run) / seconds_of(run->client_cpu_ns), events_of(run) / seconds_of(run->duration_ns));
}

static void print_streams(const struct run_record *run, const struct summary *summary) {
    printf("%zu of %zu completed (asked: 10,000 at once); %.0f events/s, %.0f %% of a processor\n",
           summary->n_by_outcome[OUTCOME_OK], run->requests.count, events_of(run) / seconds_of(run->duration_ns),
           summary->client_share * 100);
}

static void print_dispatch(const struct run_record *run, const struct summary *summary) {
    const struct latency_summary *lag = &summary->latency[LATENCY_DISPATCH];
    printf("p50 %.3f ms, p99 %.3f ms of %zu requests (asked: p99 of 1 ms); %.0f %% of a processor\n",
           lag->percentile[0].mean * 1e3, lag->percentile[3].mean * 1e3, run->requests.count,
           summary->client_share * 100);
}

enum { FIRST_MS = 20, GAP_MS = 5 };

static void print_times(const struct run_record *run, const struct summary *summary) {
    (void)run;
    printf("TTFT p50 %+.3f ms, ITL p50 %+.3f ms from those of the server (asked: 0.2 ms)\n",
           summary->latency[LATENCY_TTFT].percentile[0].mean * 1e3 - FIRST_MS,
           summary->latency[LATENCY_ITL].percentile[0].mean * 1e3 - GAP_MS);
}

// A tenth of the requests waits for the rest of a second: 50 ms on average, half of it at p95, 0.9 s at p99.
static void print_stalls(const struct run_record *run, const struct summary *summary) {
    const struct latency_summary *ttft = &summary->latency[LATENCY_TTFT];
    (void)run;
    printf("mean %+.1f %%, p95 %+.1f %%, p99 %+.1f %% from the truth (asked: 2 %%)\n",
           (ttft->mean.mean / 0.05 - 1) * 100, (ttft->percentile[2].mean / 0.5 - 1) * 100,
           (ttft->percentile[3].mean / 0.9 - 1) * 100);
}

// ---------------------------------------------------------------------------------------------------------------- run

// The stub in a process of its own, so that its processor time is not the client's. Returns its port.
static int stub_process(const struct stub_options *options, pid_t *pid) {
    int ends[2], port = 0;
    if (pipe(ends)) abort();
    *pid = fork();
    if (*pid < 0) abort();
    if (*pid == 0) {
        const int own = stub_port(stub_open(options));
        if (write(ends[1], &own, sizeof own) != sizeof own) _exit(1);
        for (;;) pause();
    }
    if (read(ends[0], &port, sizeof port) != sizeof port) abort();
    close(ends[0]), close(ends[1]);
    return port;
}

static void run_trial(const struct trial *trial) {
    pid_t stub;
    struct run_record run;
    struct summary summary;
    struct arrival arrival;
    struct err err = {0};
    struct load_options options = {.url = {.host = "127.0.0.1"},
                                   .workload = &workload,
                                   .n_users = trial->n_users,
                                   .n_requests = trial->n_requests,
                                   .duration_s = trial->duration_s,
                                   .timeout_s = 60};
    snprintf(options.url.port, sizeof options.url.port, "%d", stub_process(&trial->stub, &stub));
    if (trial->rate) {
        if (arrival_parse(&arrival, trial->rate, 0, 1, trial->constant, 1, &err)) fprintf(stderr, "%s\n", err.text);
        options.arrival = &arrival;
    }
    if (load_run(&run, &options, &err)) fprintf(stderr, "%s\n", err.text);
    summary_make(&summary, &run, &(struct objectives){0}, trial->rate != NULL, 0);
    double load = 0;
    getloadavg(&load, 1);
    printf("%-20s (load %.1f) ", trial->name, load);
    trial->print(&run, &summary);
    run_record_close(&run);
    summary_close(&summary);
    kill(stub, SIGKILL);
    waitpid(stub, NULL, 0);
}

#define EVENTS(n) .n_events = (n), .tokens_per_event = 1, .words_per_token_percent = 100
static const struct trial trials[] = {
    {"requests", {EVENTS(1)}, 32, 60000, 0, NULL, false, print_requests},
    {"events", {EVENTS(256)}, 16, 8000, 0, NULL, false, print_events},
    {"streams", {EVENTS(100), .first_ns = 1000000000, .gap_ns = 60000000}, 10000, 10000, 0, NULL, false, print_streams},
    {"dispatch at 1,000/s", {EVENTS(2)}, 0, 0, 5, "1000", false, print_dispatch},
    {"times",
     {EVENTS(32), .first_ns = FIRST_MS * 1000000u, .gap_ns = GAP_MS * 1000000u},
     0,
     0,
     5,
     "60",
     false,
     print_times},
    {"stalls",
     {EVENTS(1), .stall_every_ns = 10000000000u, .stall_ns = 1000000000u},
     0,
     0,
     20,
     "100",
     true,
     print_stalls},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++)
        if (argc < 2 || strncmp(argv[1], trials[i].name, strlen(argv[1])) == 0) run_trial(&trials[i]);
    return 0;
}
