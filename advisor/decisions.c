#include "advisor/decisions.h"

#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_BYTES_MAX = 4 << 20,
    LINE_BYTES_MAX = 16 << 10,
    WIDENING_PREDICTIONS_MIN = 10,
    MISSES_MAX = 512,
    NUMBER_MAX = 1000000000
};
static const double coverage_wanted = 0.8, widening_most = 10;

struct decisions {
    int fd;         // -1: memory only
    bool is_torn;   // the file does not end with a whole line
    size_t n_added; // ever; the last ones are kept in a ring
    struct decision kept[DECISIONS_MAX];
    struct track_record track;
    int64_t n_unreadable;
    int32_t last_number;
    double misses[MISSES_MAX]; // distance from the middle of the range, in halves of the range before it was widened
    size_t n_misses;           // ever
};

// ------------------------------------------------------------------------------------------------------------- memory

static bool was_measured(const struct experiment_state *state) {
    const bool decided = state->phase == EXPERIMENT_KEPT || state->phase == EXPERIMENT_WORSE ||
                         state->phase == EXPERIMENT_NO_DIFFERENCE || state->phase == EXPERIMENT_UNDECIDED;
    return decided && state->n_pairs >= STATISTICS_PAIRS_MIN && isfinite(state->factor.mean);
}

static void count_prediction(struct decisions *d, const struct decision *decision) {
    const struct experiment_state *state = &decision->state;
    const struct range range = state->plan.predicted;
    if (!was_measured(state) || !(range.low > 0) || !(range.high >= range.low) || !isfinite(range.high)) return;
    const double measured = state->factor.mean;
    d->track.n_predictions++;
    d->track.n_covered += measured >= range.low && measured <= range.high;
    const double middle = sqrt(range.low * range.high), half = fmax(log(range.high / range.low) / 2, 1e-3);
    d->misses[d->n_misses++ % MISSES_MAX] = fabs(log(measured / middle)) / half * fmax(decision->widened, 1);
}

static void remember(struct decisions *d, const struct decision *decision) {
    const struct experiment_state *state = &decision->state;
    d->kept[d->n_added++ % DECISIONS_MAX] = *decision;
    d->track.n_kept += state->phase == EXPERIMENT_KEPT;
    d->track.n_rolled_back += state->phase == EXPERIMENT_WORSE || state->phase == EXPERIMENT_GUARDED;
    d->track.n_no_difference += state->phase == EXPERIMENT_NO_DIFFERENCE;
    const long number = state->plan.id[0] == 'x' ? strtol(state->plan.id + 1, NULL, 10) : 0;
    if (number > d->last_number && number <= NUMBER_MAX) d->last_number = (int32_t)number;
    count_prediction(d, decision);
}

size_t decisions_count(const struct decisions *d) {
    return d->n_added < DECISIONS_MAX ? d->n_added : DECISIONS_MAX;
}

const struct decision *decisions_at(const struct decisions *d, size_t i) {
    return &d->kept[(d->n_added - 1 - i) % DECISIONS_MAX];
}

int64_t decisions_n_unreadable(const struct decisions *d) {
    return d->n_unreadable;
}

int32_t decisions_last_number(const struct decisions *d) {
    return d->last_number;
}

void decisions_track(const struct decisions *d, struct track_record *out) {
    *out = d->track;
}

double decisions_widening(const struct decisions *d) {
    const size_t n = d->n_misses < MISSES_MAX ? d->n_misses : MISSES_MAX;
    if (n < WIDENING_PREDICTIONS_MIN) return 1;
    double sorted[MISSES_MAX];
    memcpy(sorted, d->misses, n * sizeof *sorted);
    return fmin(fmax(statistics_quantile(sorted, n, coverage_wanted), 1), widening_most);
}

// ------------------------------------------------------------------------------------------------------------ reading

static int phase_find(const char *name) {
    for (int i = 0; i <= EXPERIMENT_STOPPED; i++)
        if (strcmp(experiment_phase_name((enum experiment_phase)i), name) == 0) return i;
    return -1;
}

static double number_of(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text ? text : "";
}

static bool read_names(const cJSON *e, struct experiment_state *out) {
    const int knob = knob_find(text_of(e, "setting")), metric = experiment_metric_find(text_of(e, "metric"));
    const int phase = phase_find(text_of(e, "phase"));
    if (knob < 0 || metric < 0 || phase <= EXPERIMENT_RUNNING || !*text_of(e, "id")) return false;
    out->plan.knob = (enum knob_id)knob;
    out->plan.metric = (enum experiment_metric)metric;
    out->phase = (enum experiment_phase)phase;
    snprintf(out->plan.id, sizeof out->plan.id, "%s", text_of(e, "id"));
    snprintf(out->plan.finding, sizeof out->plan.finding, "%s", text_of(e, "finding"));
    snprintf(out->reason, sizeof out->reason, "%s", text_of(e, "reason"));
    return true;
}

static bool read_integers(const cJSON *e, struct experiment_state *out) {
    int64_t pairs = -1, pairs_max = 0;
    struct err ignored;
    int rc = json_get_int(e, "pairs", 0, EXPERIMENT_PAIRS_MAX, &pairs, &ignored);
    if (!rc) rc = json_get_int(e, "pairs_max", 0, EXPERIMENT_PAIRS_MAX, &pairs_max, &ignored);
    if (!rc) rc = json_get_int(e, "value_now", INT32_MIN, INT32_MAX, &out->plan.value_now, &ignored);
    if (!rc) rc = json_get_int(e, "value_new", INT32_MIN, INT32_MAX, &out->plan.value_new, &ignored);
    out->n_pairs = (int32_t)pairs;
    out->plan.pairs_max = (int32_t)pairs_max;
    return !rc && pairs >= 0;
}

// The numbers of an array of at most EXPERIMENT_PAIRS_MAX; `pair`: of [low, high] pairs, which one.
static void read_series(const cJSON *array, int32_t n, double *values, float *floats, int pair) {
    const cJSON *item;
    int32_t i = 0;
    cJSON_ArrayForEach(item, array) {
        if (i == n) return;
        const cJSON *number = pair < 0 ? item : cJSON_GetArrayItem(item, pair);
        const double value = cJSON_IsNumber(number) ? number->valuedouble : NAN;
        if (values) values[i] = value;
        if (floats) floats[i] = (float)value;
        i++;
    }
}

static bool read_decision(const cJSON *line, struct decision *out) {
    const cJSON *e = cJSON_GetObjectItemCaseSensitive(line, "experiment");
    struct experiment_state *state = &out->state;
    memset(out, 0, sizeof *out);
    if (number_of(line, "optima_decision") != 1 || !read_names(e, state) || !read_integers(e, state)) return false;
    state->plan.block_s = number_of(e, "block_s");
    state->plan.min_effect = number_of(e, "min_effect");
    const cJSON *predicted = cJSON_GetObjectItemCaseSensitive(e, "predicted");
    state->plan.predicted = (struct range){number_of(predicted, "low"), number_of(predicted, "high")};
    const cJSON *factor = cJSON_GetObjectItemCaseSensitive(e, "factor");
    state->factor = (struct interval){number_of(factor, "value"), number_of(factor, "low"), number_of(factor, "high")};
    state->sign_flip_p = number_of(e, "sign_flip_p");
    state->regression_chance = number_of(e, "regression_chance");
    state->began_s = number_of(e, "began_s");
    state->ended_s = number_of(e, "ended_s");
    state->exposure_s = fmax(number_of(line, "exposure_s"), 0);
    const cJSON *path = cJSON_GetObjectItemCaseSensitive(line, "path");
    read_series(cJSON_GetObjectItemCaseSensitive(e, "log_ratios"), state->n_pairs, state->log_ratio, NULL, -1);
    read_series(path, state->n_pairs, NULL, state->path_low, 0);
    read_series(path, state->n_pairs, NULL, state->path_high, 1);
    out->widened = fmax(number_of(line, "widened"), 1);
    out->by_itself = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "by_itself"));
    snprintf(out->confirms, sizeof out->confirms, "%s", text_of(line, "confirms"));
    return true;
}

static void read_line(struct decisions *d, const char *line, size_t n) {
    if (n == 0) return;
    cJSON *tree = NULL;
    struct err ignored;
    struct decision decision;
    const bool is_good = n <= LINE_BYTES_MAX && !json_parse(&tree, line, n, &JSON_LIMITS_CLIENT, &ignored) &&
                         read_decision(tree, &decision);
    if (is_good)
        remember(d, &decision);
    else
        d->n_unreadable++;
    cJSON_Delete(tree);
}

static void read_lines(struct decisions *d, const char *text, size_t n, bool from_the_middle) {
    const char *at = text, *end = text + n;
    if (from_the_middle) {
        const char *first = memchr(at, '\n', n);
        at = first ? first + 1 : end;
    }
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        read_line(d, at, (size_t)((stop ? stop : end) - at));
        at = stop ? stop + 1 : end;
    }
    d->is_torn = n > 0 && text[n - 1] != '\n';
}

static int read_file(struct decisions *d, const char *path, struct err *err) {
    struct stat status;
    if (fstat(d->fd, &status) != 0 || !S_ISREG(status.st_mode)) return err_set(err, ERR_IO, "%s: not a file", path);
    const size_t size = (size_t)status.st_size, n = size < READ_BYTES_MAX ? size : READ_BYTES_MAX;
    char *text = mem_alloc(n + 1);
    size_t got = 0;
    ssize_t part = 1;
    while (got < n && part > 0) {
        part = pread(d->fd, text + got, n - got, (off_t)(size - n + got));
        if (part > 0) got += (size_t)part;
    }
    if (part >= 0) read_lines(d, text, got, size > n);
    free(text);
    return part < 0 ? err_set(err, ERR_IO, "%s: %s", path, strerror(errno)) : 0;
}

int decisions_open(struct decisions **out, const char *path, struct err *err) {
    struct decisions *d = mem_alloc_zero(1, sizeof *d);
    int rc = 0;
    d->fd = path ? open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (path && d->fd < 0) rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (!rc && path) rc = read_file(d, path, err);
    if (rc)
        decisions_close(d);
    else
        *out = d;
    return rc;
}

void decisions_close(struct decisions *d) {
    if (d && d->fd >= 0) close(d->fd);
    free(d);
}

// ------------------------------------------------------------------------------------------------------------ writing

static void write_decision(const struct decision *decision, struct str *out) {
    const struct experiment_state *state = &decision->state;
    json_write_begin(out, NULL, '{');
    json_write_int(out, "optima_decision", 1);
    str_append_text(out, "\"experiment\":");
    experiment_json(state, out);
    json_write_number(out, "exposure_s", state->exposure_s);
    json_write_bool(out, "by_itself", decision->by_itself);
    json_write_text(out, "confirms", *decision->confirms ? decision->confirms : NULL);
    json_write_number(out, "widened", fmax(decision->widened, 1));
    json_write_begin(out, "path", '[');
    for (int32_t i = 0; i < state->n_pairs; i++) {
        json_write_begin(out, NULL, '[');
        json_write_number(out, NULL, (double)state->path_low[i]);
        json_write_number(out, NULL, (double)state->path_high[i]);
        json_write_end(out, ']');
    }
    json_write_end(out, ']');
    json_write_end(out, '}');
    json_write_close(out);
}

int decisions_add(struct decisions *d, const struct decision *decision, struct err *err) {
    remember(d, decision);
    if (d->fd < 0) return 0;
    struct str line = STR_INIT;
    if (d->is_torn) str_append_char(&line, '\n');
    write_decision(decision, &line);
    str_append_char(&line, '\n');
    const ssize_t n = write(d->fd, line.data, line.n_bytes);
    const bool is_whole = n == (ssize_t)line.n_bytes;
    const int reason = n < 0 ? errno : ENOSPC;
    d->is_torn = is_whole ? false : n > 0 || d->is_torn;
    str_close(&line);
    return is_whole ? 0 : err_set(err, ERR_IO, "the decision was not recorded: %s", strerror(reason));
}
