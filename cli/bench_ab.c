// optima bench ab: which of two servers is faster, by pairs of blocks in random order.
#include "cli/bench_commands.h"

#include "base/rng.h"
#include "bench/ab.h"
#include "cli/command_line.h"

#include <math.h>
#include <string.h>

enum { STATUS_WORSE = 3, STATUS_INTERRUPTED = 130, USERS = 4, BLOCK_REQUESTS = 24 };

static const struct option_row own_rows[] = {
    {"a", OPTION_TEXT, BENCH_FIELD(a), "URL", NULL, 0, 0, false, "the server that is there"},
    {"b", OPTION_TEXT, BENCH_FIELD(b), "URL", NULL, 0, 0, false, "the server that may be better"},
    {"metric", OPTION_CHOICE, BENCH_FIELD(metric), NULL, "e2e|ttft|tpot|tokens", 0, 0, false,
     "what decides: the mean of a block's latencies, or its output tokens/s (e2e)"},
    {"pairs", OPTION_INT, BENCH_FIELD(pairs), "N", NULL, 6, 1000, false, "at most so many (40)"},
    {"least", OPTION_DOUBLE, BENCH_FIELD(least), "P", NULL, 0.01, 100, false,
     "percentage of change that matters: it ends when a smaller one is certain (2)"},
    {"json", OPTION_TEXT, BENCH_FIELD(json), "FILE", NULL, 0, 0, false,
     "pairs, decision and all requests; - is standard output"},
    {"html", OPTION_TEXT, BENCH_FIELD(html), "FILE", NULL, 0, 0, false, "a report in one file, with its pictures"},
};

struct side {
    struct benching bench;
    struct measurement all; // its blocks, one behind the other
};

// One block; the requests are those of the pair's number. `out` is NULL for a block that only warms the server up.
static int run_block(struct side *side, uint64_t first_session, struct ab_block *out, bool *interrupted,
                     struct err *err) {
    struct run_record run = {0};
    side->bench.load.first_session = first_session;
    int rc = load_run(&run, &side->bench.load, err);
    *interrupted |= run.interrupted;
    if (!rc && !run.interrupted && out) {
        ab_block_make(out, &run);
        run_record_append(&side->all.run, &run);
    }
    run_record_close(&run);
    return rc;
}

static void print_pair(const struct ab *ab, FILE *out) {
    const size_t n = ab->path.count;
    if (!n) return;
    const struct interval *x = &ab->path.items[n - 1];
    fprintf(out, "pair %2zu: %+6.1f %%; mean %+6.1f %%", n, (exp(ab->log_ratios.items[n - 1]) - 1) * 100,
            (exp(x->mean) - 1) * 100);
    if (isfinite(x->low)) fprintf(out, ", %+.1f to %+.1f %% at every look", expm1(x->low) * 100, expm1(x->high) * 100);
    fputc('\n', out);
    fflush(out);
}

static int run_pairs(struct side sides[2], struct ab *ab, FILE *people, bool *interrupted, struct err *err) {
    const struct bench_options *options = sides[0].bench.options;
    const uint64_t key = rng_key((uint64_t)options->seed, 0x6162, 0);
    // One server twice: other requests for B, or it would find A's in its cache.
    const bool same = strcmp(options->a, options->b) == 0;
    const uint64_t n_sessions = 1u << 20;
    int rc = 0;
    for (uint64_t pair = 0; !rc && !ab->done && !*interrupted; pair++) {
        struct ab_block blocks[2] = {0};
        const bool counts = pair > 0; // a server that has just started touches its memory first
        const int first = (int)(rng_u32(key, pair) & 1);
        for (int turn = 0; turn < 2 && !rc && !*interrupted; turn++) {
            const int s = first ^ turn;
            const uint64_t block = same ? 2 * pair + (uint64_t)s : pair;
            rc = run_block(&sides[s], block * n_sessions, counts ? &blocks[s] : NULL, interrupted, err);
        }
        if (rc || *interrupted || !counts) continue;
        ab_add(ab, &blocks[0], &blocks[1]);
        print_pair(ab, people);
    }
    return rc;
}

static int open_sides(struct side sides[2], const struct bench_options *options, const struct option_table *table,
                      struct err *err) {
    int rc = options->warm_up ? err_set(err, ERR_INVALID, "--warm-up: the first pair is the warm-up") : 0;
    for (int s = 0; s < 2 && !rc; s++) {
        struct benching *bench = &sides[s].bench;
        rc = benching_open(bench, options, table, s ? options->b : options->a, err);
        if (!options->users && !options->rate) bench->load.n_users = USERS;
        if (!options->requests && !(options->duration > 0)) bench->load.n_requests = BLOCK_REQUESTS;
        bench->load.on_progress = NULL;
        if (!rc) rc = benching_probe(bench, err);
        if (rc) err_prefix(err, s ? "B" : "A");
    }
    // The same texts for both, even when they count tokens differently.
    sides[1].bench.workload.tokens_per_word = sides[0].bench.workload.tokens_per_word;
    sides[1].bench.workload.frame_tokens = sides[0].bench.workload.frame_tokens;
    return rc;
}

static int write_documents(struct side sides[2], const struct ab *ab, struct bench_outputs *outputs,
                           const char *command, struct err *err) {
    struct measurement runs[2];
    struct str more = STR_INIT;
    for (int s = 0; s < 2; s++) {
        struct side *side = &sides[s];
        benching_describe(&side->bench, s ? "B" : "A", &side->all);
        summary_make(&side->all.summary, &side->all.run, &side->bench.objectives, false, 0);
        runs[s] = side->all;
    }
    ab_json(ab, &more);
    const struct measurement_document document = {
        .kind = "ab", .command = command, .runs = runs, .n_runs = 2, .with_requests = true, .more = str_text(&more)};
    int rc = bench_outputs_write(outputs, &document, err);
    str_close(&more);
    return rc;
}

static int decide(const struct bench_options *options, const struct option_table *table, const char *command,
                  int *status, struct err *err) {
    struct side sides[2] = {0};
    struct bench_outputs outputs = {0};
    bool interrupted = false;
    struct ab ab = {.metric = (enum ab_metric)ab_metric_find(options->metric),
                    .least = options->least / 100,
                    .pairs_max = (size_t)options->pairs};
    int rc = bench_outputs_open(&outputs, options->json, NULL, options->html, err);
    if (!rc) rc = open_sides(sides, options, table, err);
    if (!rc) rc = run_pairs(sides, &ab, bench_outputs_people(&outputs), &interrupted, err);
    if (!rc) {
        ab_print(bench_outputs_people(&outputs), &ab);
        rc = write_documents(sides, &ab, &outputs, command, err);
    }
    *status = ab.verdict == AB_WORSE || ab.verdict == AB_FAILING ? STATUS_WORSE : 0;
    if (interrupted) *status = STATUS_INTERRUPTED;
    bench_outputs_close(&outputs);
    for (int s = 0; s < 2; s++) {
        measurement_close(&sides[s].all);
        benching_close(&sides[s].bench);
    }
    ab_close(&ab);
    return rc;
}

int bench_ab_main(int argc, char **argv) {
    struct option_row rows[BENCH_ROWS_MAX];
    const struct option_table table =
        benching_table("optima bench ab --a URL --b URL [options]",
                       "Puts the same blocks of load on two servers in turn, in random order, until it is certain "
                       "which is\nfaster or that it does not matter. A block is --requests (24) of --users (4) or at "
                       "--rate; the first\npair warms up. Ends with 0, 3 when B is worse, 1 when a server cannot be "
                       "reached, 2 when the command\nline is wrong.",
                       own_rows, sizeof own_rows / sizeof *own_rows, 0, rows);
    struct bench_options options = BENCH_OPTIONS_DEFAULT;
    struct option_result result;
    struct str command = STR_INIT;
    struct err err = {0};
    int status, decided = 0;
    if (!command_line_read("bench ab", &table, argc, argv, &options, &result, &status)) return status;
    if (!options.a || !options.b) {
        fputs("optima bench ab: --a and --b are needed; see --help\n", stderr);
        return 2;
    }
    benching_command("optima bench ab", argc, argv, &command);
    int rc = decide(&options, &table, str_text(&command), &decided, &err);
    str_close(&command);
    status = command_line_end("bench ab", rc, &err);
    return status ? status : decided;
}
