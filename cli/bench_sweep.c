// optima bench --sweep: the highest rate that still meets the objectives.
#include "cli/bench_commands.h"

#include "base/json_write.h"
#include "bench/sweep.h"

#include <math.h>
#include <string.h>

// By the share of requests within the objectives; an overloaded server fails even if the first requests were fast.
static bool holds(const struct measurement *m, double share) {
    return !m->run.interrupted && m->summary.goodput.mean >= share && !m->summary.overloaded;
}

// Without --rate it begins at what one user asks for, who waits for each answer: a server of many streams holds more.
// Where the objectives are missed even then, there is nothing to look for, and this run is the whole answer.
static int first_rate(struct benching *bench, double *rate, bool *hopeless, struct measurement *alone,
                      struct err *err) {
    enum { N = 10 };
    const struct load_options load = bench->load;
    bench->load.n_users = 1, bench->load.n_requests = N, bench->load.arrival = NULL, bench->load.duration_s = 0;
    int rc = benching_measure(bench, "one user", alone, err);
    *rate = N / fmax((double)alone->run.duration_ns / 1e9, 1e-3);
    *hopeless = !rc && !holds(alone, bench->options->slo_share / 100);
    if (!rc && alone->summary.n_by_outcome[OUTCOME_OK] == 0)
        rc = err_set(err, ERR_IO, "no request was completed: %s",
                     alone->run.examples[alone->run.requests.items[0].outcome]);
    bench->load = load;
    bench->load.first_session += N;
    return rc;
}

static void print_ms(FILE *out, const char *name, const struct interval *x) {
    if (isfinite(x->mean)) fprintf(out, "%s %.3g ms", name, x->mean * 1e3);
}

static void print_step(FILE *out, const struct sweep_step *step, const struct measurement *m) {
    const struct latency_summary *ttft = &m->summary.latency[LATENCY_TTFT], *itl = &m->summary.latency[LATENCY_ITL];
    fprintf(out, "%8.3g requests/s%s: %5.1f %% within the objectives", step->rate, step->confirms ? " again" : "",
            m->summary.goodput.mean * 100);
    print_ms(out, ", TTFT p95", &ttft->percentile[2]);
    print_ms(out, ", ITL p95", &itl->percentile[2]);
    fprintf(out, ": %s\n", step->met ? "holds" : "does not hold");
    const char *reason = str_text(&m->summary.invalid); // an overloaded server's, or the client's own
    if (*reason) fprintf(out, "%8s INVALID: %.*s\n", "", (int)strcspn(reason, "\n"), reason);
    fflush(out);
}

static void append_json(const struct sweep *sweep, double share, struct str *out) {
    json_write_begin(out, "sweep", '{');
    json_write_number(out, "rate", sweep->held > 0 ? sweep->held : NAN);
    json_write_number(out, "failed_rate", sweep->failed);
    json_write_number(out, "share", share);
    json_write_int(out, "confirmations", sweep->n_confirming);
    json_write_int(out, "confirmed", sweep->n_confirmed);
    json_write_begin(out, "steps", '[');
    for (int i = 0; i < sweep->n_steps; i++) {
        json_write_begin(out, NULL, '{');
        json_write_int(out, "run", i);
        json_write_number(out, "rate", sweep->steps[i].rate);
        json_write_bool(out, "met", sweep->steps[i].met);
        json_write_bool(out, "confirms", sweep->steps[i].confirms);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
}

static int run_steps(struct benching *bench, struct sweep *sweep, struct measurement *runs, FILE *people,
                     struct err *err) {
    const double share = bench->options->slo_share / 100;
    struct sweep_step step;
    int rc = 0;
    while (!rc && sweep_next(sweep, &step)) {
        struct measurement *m = &runs[sweep->n_steps];
        char name[48];
        bench->arrival.first_rate = bench->arrival.last_rate = step.rate;
        snprintf(name, sizeof name, "%.3g requests/s%s", step.rate, step.confirms ? " again" : "");
        rc = benching_measure(bench, name, m, err);
        if (rc || m->run.interrupted) {
            measurement_close(m);
            *m = (struct measurement){0};
            break;
        }
        bench->load.first_session += m->run.requests.count; // no prompt is sent twice
        step.met = holds(m, share);
        print_step(people, &step, m);
        sweep_tell(sweep, step);
    }
    return rc;
}

static void print_answer(FILE *out, const struct sweep *sweep) {
    if (sweep->held > 0)
        fprintf(out, "\nholds %.3g requests/s (%d of %d runs that repeat it)", sweep->held, sweep->n_confirmed,
                sweep->n_confirming);
    else
        fputs("\nno rate holds", out);
    if (isfinite(sweep->failed))
        fprintf(out, "; %.3g does not hold\n", sweep->failed);
    else
        fputs(sweep->held > 0 ? "; no limit was found\n" : "\n", out);
}

static int begin(struct benching *bench, struct sweep *sweep, struct measurement *runs, FILE *people, struct err *err) {
    const struct bench_options *options = bench->options;
    double rate = 0;
    bool hopeless = false;
    if (!objectives_given(&bench->objectives))
        return err_set(err, ERR_INVALID, "--sweep needs --slo: it looks for the highest rate that meets it");
    if (options->users) return err_set(err, ERR_INVALID, "--sweep and --users exclude each other");
    int rc = options->rate ? 0 : first_rate(bench, &rate, &hopeless, &runs[0], err);
    sweep_begin(sweep, options->rate ? bench->arrival.first_rate : rate);
    if (hopeless) {
        fputs("even one user, who waits for each answer, misses the objectives\n", people);
        sweep_tell(sweep, (struct sweep_step){.rate = rate});
        return rc;
    }
    measurement_close(&runs[0]);
    runs[0] = (struct measurement){0};
    if (!rc && !options->rate)
        rc = arrival_parse(&bench->arrival, "1", 0, options->burstiness, options->constant, (uint64_t)options->seed,
                           err);
    bench->load.arrival = &bench->arrival;
    bench->load.n_users = 0;
    return rc ? rc : run_steps(bench, sweep, runs, people, err);
}

int bench_sweep(struct benching *bench, struct bench_outputs *outputs, const char *command, struct err *err) {
    FILE *people = bench_outputs_people(outputs);
    struct measurement runs[SWEEP_RUNS_MAX] = {0};
    struct str more = STR_INIT;
    struct sweep sweep = {0};
    int rc = begin(bench, &sweep, runs, people, err);
    if (!rc) {
        print_answer(people, &sweep);
        append_json(&sweep, bench->options->slo_share / 100, &more);
        const struct measurement_document document = {.kind = "sweep",
                                                      .command = command,
                                                      .runs = runs,
                                                      .n_runs = (size_t)sweep.n_steps,
                                                      .with_requests = true,
                                                      .more = str_text(&more)};
        rc = bench_outputs_write(outputs, &document, err);
    }
    for (int i = 0; i < SWEEP_RUNS_MAX; i++) measurement_close(&runs[i]);
    str_close(&more);
    return rc;
}
