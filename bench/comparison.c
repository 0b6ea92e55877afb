#include "bench/comparison.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "bench/measurement.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// 2,000 draws make the smallest p 0.001: enough for a dozen rows.
enum { DRAWS = 2000, KINDS = 3, QUANTILES = 3 };
static const double quantiles[QUANTILES] = {0.5, 0.95, 0.99};
static const size_t quantile_least[QUANTILES] = {10, 100, 500};
static const char *const names[KINDS][1 + QUANTILES] = {{"TTFT mean", "TTFT p50", "TTFT p95", "TTFT p99"},
                                                        {"TPOT mean", "TPOT p50", "TPOT p95", "TPOT p99"},
                                                        {"E2E mean", "E2E p50", "E2E p95", "E2E p99"}};

const char *comparison_verdict_name(enum comparison_verdict verdict) {
    static const char *const texts[] = {"no difference shown", "B is better", "B is worse"};
    return texts[verdict];
}

// ---------------------------------------------------------------------------------------------------------- reading

struct item {
    double session, turn, due, latency[KINDS]; // NAN: none
    bool steady, failed;
};
struct sample {
    VEC_OF(struct item) items; // those of the steady part, in order of session and turn
    size_t n_failed;
};

static double value_of(const cJSON *node) {
    return cJSON_IsNumber(node) ? node->valuedouble : NAN;
}

static int by_session(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    if (x->session != y->session) return x->session < y->session ? -1 : 1;
    return (x->turn > y->turn) - (x->turn < y->turn);
}

static int by_due(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    return (x->due > y->due) - (x->due < y->due);
}

enum { SESSION, TURN, DUE, LATENCY, OUTCOME = LATENCY + KINDS, SLOW, STEADY, COLUMNS };

static int sample_read(struct sample *out, const cJSON *run, struct err *err) {
    static const char *const columns[COLUMNS] = {"session", "turn",    "due_s", "ttft_ms", "tpot_ms",
                                                 "e2e_ms",  "outcome", "slow",  "steady"};
    const cJSON *requests = cJSON_GetObjectItemCaseSensitive(run, "requests"), *at[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        const cJSON *column = cJSON_GetObjectItemCaseSensitive(requests, columns[c]);
        if (!cJSON_IsArray(column)) return err_set(err, ERR_FORMAT, "no requests.%s", columns[c]);
        at[c] = column->child;
    }
    while (at[0]) {
        double values[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) {
            if (!at[c]) return err_set(err, ERR_FORMAT, "requests.%s is too short", columns[c]);
            values[c] = value_of(at[c]);
            at[c] = at[c]->next;
        }
        const bool failed = values[OUTCOME] != 0;
        if (values[STEADY] != 1 || values[SLOW] != 0) continue;
        out->n_failed += failed;
        struct item item = {values[SESSION], values[TURN], values[DUE], {0}, true, failed};
        for (int k = 0; k < KINDS; k++) // nothing is a multiple of 0
            item.latency[k] = !failed && values[LATENCY + k] > 0 ? values[LATENCY + k] : NAN;
        vec_push(&out->items, item);
    }
    if (out->items.count) qsort(out->items.items, out->items.count, sizeof *out->items.items, by_due);
    return 0;
}

// ------------------------------------------------------------------------------------------------------------- rows

typedef VEC_OF(double) values;

static void add_row(struct comparison *out, const char *name, const char *unit, double a, double b,
                    struct interval log_ratio, double p, bool higher_is_better) {
    assert(out->n_rows < COMPARISON_ROWS_MAX);
    const struct interval change = {expm1(log_ratio.mean), expm1(log_ratio.low), expm1(log_ratio.high)};
    // Until p is corrected, `verdict` says in which direction B lies.
    const bool better = higher_is_better ? b > a : b < a;
    out->rows[out->n_rows++] =
        (struct comparison_row){name, unit, a, b, change, p, better ? COMPARISON_BETTER : COMPARISON_WORSE};
}

// Two-sided, of draws of log(B / A).
static double p_of_draws(const double *draws) {
    size_t below = 1, above = 1;
    for (size_t d = 0; d < DRAWS; d++) below += draws[d] <= 0, above += draws[d] >= 0;
    return fmin(2.0 * (double)(below < above ? below : above) / (DRAWS + 1), 1);
}

static double statistic(const values *v, double *sorted, int column) {
    double sum = 0;
    if (column) return statistics_quantile_sorted(sorted, v->count, quantiles[column - 1]);
    for (size_t i = 0; i < v->count; i++) sum += v->items[i];
    return sum / (double)v->count;
}

// Mean and quantiles of one latency. Pairs: a and b are of one length and drawn together.
static void add_latency(struct comparison *out, int kind, const values *a, const values *b) {
    enum { WIDTH = 1 + QUANTILES };
    const bool paired = out->n_pairs > 0;
    if (!a->count || !b->count) return;
    double *draws = mem_alloc(2 * DRAWS * WIDTH * sizeof *draws), *of_b = draws + DRAWS * WIDTH, column[DRAWS];
    const bool drawn = statistics_bootstrap(a->items, a->count, quantiles, QUANTILES, DRAWS, 1, draws) &&
                       statistics_bootstrap(b->items, b->count, quantiles, QUANTILES, DRAWS, paired ? 1 : 2, of_b);
    double *sorted_a = mem_alloc(a->count * sizeof *sorted_a), *sorted_b = mem_alloc(b->count * sizeof *sorted_b);
    memcpy(sorted_a, a->items, a->count * sizeof *sorted_a), statistics_sort(sorted_a, a->count);
    memcpy(sorted_b, b->items, b->count * sizeof *sorted_b), statistics_sort(sorted_b, b->count);
    for (int c = paired ? 1 : 0; c < WIDTH && drawn; c++) {
        const size_t least = c ? quantile_least[c - 1] : 2;
        if (a->count < least || b->count < least) continue;
        for (int d = 0; d < DRAWS; d++) column[d] = log(of_b[d * WIDTH + c] / draws[d * WIDTH + c]);
        const double p = p_of_draws(column);
        const double value_a = statistic(a, sorted_a, c), value_b = statistic(b, sorted_b, c);
        const struct interval change = {log(value_b / value_a), statistics_quantile(column, DRAWS, 0.025),
                                        statistics_quantile_sorted(column, DRAWS, 0.975)};
        add_row(out, names[kind][c], "ms", value_a, value_b, change, p, false);
    }
    free(draws), free(sorted_a), free(sorted_b);
}

// The mean of log(B / A) over pairs. Neighbours are alike, so that the signs of whole blocks are flipped.
static void add_pairs(struct comparison *out, int kind, const values *a, const values *b) {
    enum { BLOCKS = 16 };
    if (a->count < COMPARISON_PAIRS_MIN) return;
    values ratios = {0};
    double blocks[BLOCKS] = {0};
    size_t n_blocks = a->count / 8 < BLOCKS ? a->count / 8 : BLOCKS;
    for (size_t i = 0; i < a->count; i++) {
        vec_push(&ratios, log(b->items[i] / a->items[i]));
        blocks[i * n_blocks / a->count] += ratios.items[i];
    }
    for (size_t k = 0; k < n_blocks; k++) { // sums become means
        const size_t first = (k * a->count + n_blocks - 1) / n_blocks;
        const size_t end = ((k + 1) * a->count + n_blocks - 1) / n_blocks;
        blocks[k] /= (double)(end - first);
    }
    add_row(out, names[kind][0], "ms", statistic(a, NULL, 0), statistic(b, NULL, 0),
            statistics_mean(ratios.items, ratios.count), statistics_sign_flip(blocks, n_blocks, 1), false);
    vec_free(&ratios);
}

static void add_rate(struct comparison *out, const char *name, const cJSON *a, const cJSON *b, const char *key) {
    double mean[2], error[2];
    for (int side = 0; side < 2; side++) {
        const cJSON *summary = cJSON_GetObjectItemCaseSensitive(side ? b : a, "summary");
        const cJSON *x = cJSON_GetObjectItemCaseSensitive(summary, key);
        mean[side] = value_of(cJSON_GetArrayItem(x, 0));
        error[side] =
            (value_of(cJSON_GetArrayItem(x, 2)) - value_of(cJSON_GetArrayItem(x, 1))) / (2 * 1.96) / mean[side];
    }
    const double ratio = log(mean[1] / mean[0]), apart = sqrt(error[0] * error[0] + error[1] * error[1]);
    if (!isfinite(ratio) || !isfinite(apart)) return;
    const double p = apart > 0 ? erfc(fabs(ratio) / apart / sqrt(2)) : ratio == 0;
    add_row(out, name, "/s", mean[0], mean[1], (struct interval){ratio, ratio - 1.96 * apart, ratio + 1.96 * apart}, p,
            true);
}

static double choose_log(double n, double k) {
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1);
}

// Fisher's exact test, two-sided: twice the smaller tail.
static double fisher(double n_a, double k_a, double n_b, double k_b) {
    const double all = k_a + k_b;
    double below = 0, above = 0;
    for (double k = fmax(all - n_a, 0); k <= fmin(all, n_b); k++) {
        const double p = exp(choose_log(n_b, k) + choose_log(n_a, all - k) - choose_log(n_a + n_b, all));
        if (k <= k_b) below += p;
        if (k >= k_b) above += p;
    }
    return fmin(2 * fmin(below, above), 1);
}

// ------------------------------------------------------------------------------------------------------------- make

// Latencies of one kind that both requests of a pair have, or of all.
static void collect(const struct sample *sample, int kind, values *out) {
    out->count = 0;
    for (size_t i = 0; i < sample->items.count; i++)
        if (isfinite(sample->items.items[i].latency[kind])) vec_push(out, sample->items.items[i].latency[kind]);
}

// What both have, in A's order of time.
static size_t match(struct sample *a, struct sample *b) {
    qsort(a->items.items, a->items.count, sizeof *a->items.items, by_session);
    qsort(b->items.items, b->items.count, sizeof *b->items.items, by_session);
    size_t kept = 0;
    for (size_t i = 0, k = 0; i < a->items.count && k < b->items.count;) {
        struct item *x = &a->items.items[i], *y = &b->items.items[k];
        const int order = by_session(x, y);
        if (order == 0) {
            for (int l = 0; l < KINDS; l++)
                if (isnan(x->latency[l]) || isnan(y->latency[l])) x->latency[l] = y->latency[l] = NAN;
            y->due = x->due;
            a->items.items[kept] = *x, b->items.items[kept] = *y, kept++;
        }
        i += order <= 0, k += order >= 0;
    }
    a->items.count = b->items.count = kept;
    qsort(a->items.items, kept, sizeof *a->items.items, by_due);
    qsort(b->items.items, kept, sizeof *b->items.items, by_due);
    return kept;
}

static bool same_member(const cJSON *a, const cJSON *b, const char *key) {
    return cJSON_Compare(cJSON_GetObjectItemCaseSensitive(a, key), cJSON_GetObjectItemCaseSensitive(b, key), true);
}

// Names the settings of the load that are not the same.
static void note_settings(struct comparison *out, const cJSON *a, const cJSON *b) {
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, "settings");
    const cJSON *y = cJSON_GetObjectItemCaseSensitive(b, "settings");
    const size_t begin = out->notes.n_bytes;
    for (int side = 0; side < 2; side++) {
        const cJSON *of = side ? y : x;
        for (const cJSON *item = cJSON_IsObject(of) ? of->child : NULL; item; item = item->next) {
            const bool elsewhere = side && cJSON_GetObjectItemCaseSensitive(x, item->string);
            if (elsewhere || same_member(x, y, item->string)) continue;
            str_printf(&out->notes, "%s--%s", out->notes.n_bytes == begin ? "the loads differ in " : ", ",
                       item->string);
        }
    }
    if (out->notes.n_bytes > begin) str_append_char(&out->notes, '\n');
}

static double summary_value(const cJSON *run, const char *key) {
    return value_of(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "summary"), key));
}

static void note_cache(struct comparison *out, const cJSON *a, const cJSON *b) {
    const double of_a = summary_value(a, "cached_tokens"), of_b = summary_value(b, "cached_tokens");
    if (fabs(of_a - of_b) > 0.05 * summary_value(a, "prompt_tokens"))
        str_printf(&out->notes, "the server's cache held %.1f tokens of each of A's prompts and %.1f of B's\n", of_a,
                   of_b);
}

static void decide(struct comparison *out) {
    double p[COMPARISON_ROWS_MAX];
    for (int i = 0; i < out->n_rows; i++) p[i] = out->rows[i].p;
    statistics_holm(p, (size_t)out->n_rows);
    for (int i = 0; i < out->n_rows; i++) {
        struct comparison_row *row = &out->rows[i];
        row->p = p[i];
        if (p[i] >= 0.05) row->verdict = COMPARISON_NONE;
        if (row->verdict > out->verdict) out->verdict = row->verdict;
    }
}

int comparison_make(struct comparison *out, const cJSON *a, const cJSON *b, struct err *err) {
    *out = (struct comparison){0};
    struct sample x = {0}, y = {0};
    int rc = sample_read(&x, a, err);
    if (!rc) rc = sample_read(&y, b, err);
    if (!rc && (!x.items.count || !y.items.count)) rc = err_set(err, ERR_FORMAT, "no request in the steady part");
    if (!rc) {
        const double n_a = (double)x.items.count, n_b = (double)y.items.count;
        const double failed_a = (double)x.n_failed, failed_b = (double)y.n_failed;
        const bool same = same_member(a, b, "workload");
        if (same) out->n_pairs = match(&x, &y);
        if (out->n_pairs < COMPARISON_PAIRS_MIN) {
            out->n_pairs = 0;
            vec_free(&x.items);
            vec_free(&y.items);
            x = y = (struct sample){0};
            rc = sample_read(&x, a, err);
            if (!rc) rc = sample_read(&y, b, err);
        }
        if (!same) str_append_text(&out->notes, "other requests were sent: compared as two samples\n");
        values of_a = {0}, of_b = {0};
        for (int k = 0; k < KINDS && !rc; k++) {
            collect(&x, k, &of_a), collect(&y, k, &of_b);
            if (out->n_pairs) add_pairs(out, k, &of_a, &of_b);
            add_latency(out, k, &of_a, &of_b);
        }
        add_rate(out, "requests", a, b, "request_rate");
        add_rate(out, "output tokens", a, b, "output_rate");
        if (failed_a + failed_b > 0)
            add_row(out, "failed requests", "%", failed_a / n_a * 100, failed_b / n_b * 100,
                    (struct interval){NAN, NAN, NAN}, fisher(n_a, failed_a, n_b, failed_b), false);
        vec_free(&of_a);
        vec_free(&of_b);
        note_settings(out, a, b);
        note_cache(out, a, b);
        decide(out);
    }
    vec_free(&x.items);
    vec_free(&y.items);
    return rc;
}

void comparison_close(struct comparison *comparison) {
    str_close(&comparison->notes);
}

// ------------------------------------------------------------------------------------------------------------- forms

static void print_percent(FILE *out, double value) {
    if (isfinite(value))
        fprintf(out, "%+9.1f", value * 100);
    else
        fprintf(out, "%9s", "-");
}

static void print_value(FILE *out, double value) {
    fprintf(out, "%11.*f", value < 10 ? 3 : value < 1000 ? 2 : 0, value);
}

void comparison_print(FILE *out, const struct comparison *c, const char *name_a, const char *name_b) {
    fprintf(out, "A  %s\nB  %s\n", name_a, name_b);
    if (c->n_pairs)
        fprintf(out, "%zu pairs of the same requests\n\n", c->n_pairs);
    else
        fputs("two samples\n\n", out);
    fprintf(out, "%-18s%11s%11s     %9s%20s\n", "", "A", "B", "change %", "95 %");
    double widest = 0;
    for (int i = 0; i < c->n_rows; i++) {
        const struct comparison_row *row = &c->rows[i];
        fprintf(out, "%-18s", row->name);
        print_value(out, row->a), print_value(out, row->b);
        fprintf(out, " %-4s", row->unit);
        print_percent(out, row->change.mean), print_percent(out, row->change.low), print_percent(out, row->change.high);
        fprintf(out, "   %s\n", comparison_verdict_name(row->verdict));
        if (strstr(row->name, "mean")) widest = fmax(widest, (row->change.high - row->change.low) / 2);
    }
    fputc('\n', out);
    for (const char *line = str_text(&c->notes); *line; line += strcspn(line, "\n") + 1)
        fprintf(out, "note: %.*s\n", (int)strcspn(line, "\n"), line);
    if (c->verdict == COMPARISON_NONE)
        fprintf(out, "No difference shown. Means would have to differ by some %.1f %% to be seen here.\n",
                widest * 100);
    else
        fprintf(out, "%s, in the rows that say so.\n", c->verdict == COMPARISON_WORSE ? "B is worse" : "B is better");
    fputs("A row differs when its p is below 5 % after Holm's correction for all rows. What else changed between the "
          "two\n"
          "runs is in the difference; \"optima bench ab\" takes it out.\n",
          out);
}

static void append_row(const struct comparison_row *row, struct str *out) {
    json_write_begin(out, NULL, '{');
    json_write_text(out, "name", row->name);
    json_write_text(out, "unit", row->unit);
    json_write_number(out, "a", row->a);
    json_write_number(out, "b", row->b);
    measurement_write_interval(out, "change", &row->change, 1);
    json_write_number(out, "p", row->p);
    json_write_text(out, "verdict", comparison_verdict_name(row->verdict));
    json_write_end(out, '}');
}

void comparison_json(const struct comparison *c, struct str *out) {
    json_write_begin(out, NULL, '{');
    json_write_int(out, "pairs", (int64_t)c->n_pairs);
    json_write_text(out, "verdict", comparison_verdict_name(c->verdict));
    json_write_text(out, "notes", str_text(&c->notes));
    json_write_begin(out, "rows", '[');
    for (int i = 0; i < c->n_rows; i++) append_row(&c->rows[i], out);
    json_write_end(out, ']');
    json_write_end(out, '}');
}
