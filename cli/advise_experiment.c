// optima advise URL --experiment: begins an experiment on the server's live traffic, follows it, and says how it ended.
#include "cli/advise.h"

#include "advisor/words.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/benching.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 500000, STATUS_WORSE = 3, STATUS_NO_DIFFERENCE = 4, STATUS_STOPPED = 130 };

// ------------------------------------------------------------------------------------------------------------ request

// "R1", or "sequences=8".
static int write_what(const char *what, struct str *body, struct err *err) {
    const char *equals = strchr(what, '=');
    if (!equals) {
        json_write_text(body, "finding", what);
        return 0;
    }
    char *end;
    const long long value = strtoll(equals + 1, &end, 10);
    if (equals == what || end == equals + 1 || *end)
        return err_set(err, ERR_INVALID,
                       "--experiment \"%s\" is neither a finding such as R1 nor a setting such as sequences=8", what);
    str_append_text(body, "\"setting\":");
    json_append_string(body, what, (size_t)(equals - what));
    str_append_char(body, ',');
    json_write_int(body, "value", value);
    return 0;
}

static int write_guards(const char *text, struct str *body, struct err *err) {
    struct objectives guards = {0};
    int rc = benching_objectives(&guards, text, err);
    if (rc) return err_prefix(err, "--guard");
    if (guards.e2e > 0) return err_set(err, ERR_INVALID, "--guard knows itl and ttft");
    if (guards.itl > 0) json_write_number(body, "guard_itl_p99_s", guards.itl);
    if (guards.ttft > 0) json_write_number(body, "guard_ttft_p99_s", guards.ttft);
    return 0;
}

static int write_plan(const struct advise_options *options, struct str *body, struct err *err) {
    json_write_begin(body, NULL, '{');
    int rc = write_what(options->experiment, body, err);
    if (options->pairs) json_write_int(body, "pairs", options->pairs);
    if (options->block_s > 0) json_write_number(body, "block_s", options->block_s);
    if (options->min_effect > 0) json_write_number(body, "min_effect", options->min_effect / 100);
    if (options->metric) json_write_text(body, "metric", options->metric);
    if (!rc && options->guard) rc = write_guards(options->guard, body, err);
    json_write_end(body, '}');
    json_write_close(body);
    return rc;
}

// ------------------------------------------------------------------------------------------------------------- answer

static double number_of(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text ? text : "";
}

// The experiment with this id, or the newest; it lives in *tree, which the caller deletes.
static const cJSON *find_experiment(const struct str *answer, const char *id, cJSON **tree, struct err *err) {
    if (json_parse(tree, str_text(answer), answer->n_bytes, &JSON_LIMITS_CLIENT, err)) return NULL;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(*tree, "experiments"), *item;
    cJSON_ArrayForEach(item, list) if (!id || strcmp(text_of(item, "id"), id) == 0) return item;
    err_set(err, ERR_FORMAT, "the server does not tell of the experiment");
    return NULL;
}

static void print_factor(FILE *out, const cJSON *e) {
    const cJSON *factor = cJSON_GetObjectItemCaseSensitive(e, "factor");
    const double low = number_of(factor, "low"), high = number_of(factor, "high");
    if (!isfinite(number_of(factor, "value"))) return;
    fprintf(out, "x%.3f", number_of(factor, "value"));
    if (isfinite(low) && isfinite(high)) fprintf(out, " (%.3f to %.3f)", low, high);
}

static void print_what(FILE *out, const cJSON *e) {
    fprintf(out, "%s, %s %.0f against %.0f", text_of(e, "id"), text_of(e, "setting"), number_of(e, "value_new"),
            number_of(e, "value_now"));
}

// On a terminal one line that changes, elsewhere a line a pair.
static void print_progress(const cJSON *e, int *n_shown) {
    const bool is_terminal = isatty(STDERR_FILENO);
    const int n = (int)number_of(e, "pairs");
    if (!is_terminal && n == *n_shown) return;
    *n_shown = n;
    fputs(is_terminal ? "\r\033[K" : "", stderr);
    print_what(stderr, e);
    fprintf(stderr, ": %d of at most %.0f pairs", n, number_of(e, "pairs_max"));
    if (n) fprintf(stderr, ", %s ", text_of(e, "metric")), print_factor(stderr, e);
    fputs(is_terminal ? "" : "\n", stderr);
    fflush(stderr);
}

static void print_prediction(const cJSON *e) {
    const cJSON *predicted = cJSON_GetObjectItemCaseSensitive(e, "predicted");
    const double low = number_of(predicted, "low"), high = number_of(predicted, "high");
    const double value = number_of(cJSON_GetObjectItemCaseSensitive(e, "factor"), "value");
    if (!isfinite(low) || !isfinite(high)) {
        puts("predicted             nothing");
        return;
    }
    printf("predicted             x%.3f to x%.3f", low, high);
    if (isfinite(value))
        printf(": the measured effect lies %s", value < low ? "below it" : value > high ? "above it" : "within it");
    putchar('\n');
}

static int print_verdict(const cJSON *e, const char *url) {
    const char *phase = text_of(e, "phase");
    const double p = number_of(e, "sign_flip_p"), worse = number_of(e, "regression_chance");
    const bool is_kept = strcmp(phase, "kept") == 0;
    const bool is_worse = strcmp(phase, "worse") == 0 || strcmp(phase, "guarded") == 0;
    char named[24] = "";
    snprintf(named, sizeof named, "%s", strcmp(phase, "no_difference") == 0 ? "no difference" : phase);
    print_what(stdout, e);
    printf(": %s (%s)\n", named, text_of(e, "reason"));
    printf("%-20s  ", text_of(e, "metric"));
    print_factor(stdout, e);
    printf(" after %.0f pairs, %.0f s\n", number_of(e, "pairs"), number_of(e, "ended_s") - number_of(e, "began_s"));
    print_prediction(e);
    if (isfinite(worse))
        printf("worse than %-9s  with a probability of %s\n", words_percent(number_of(e, "min_effect")).text,
               words_percent(worse).text);
    if (isfinite(p))
        printf("as far by chance      with a probability of %s (test of the signs)\n", words_percent(p).text);
    printf("%s is now %.0f.", text_of(e, "setting"), number_of(e, is_kept ? "value_new" : "value_now"));
    if (is_kept) printf(" To take it back: optima advise %s --rollback %s", url, text_of(e, "id"));
    putchar('\n');
    return is_kept ? 0 : is_worse ? STATUS_WORSE : STATUS_NO_DIFFERENCE;
}

// --------------------------------------------------------------------------------------------------------------- run

static int ask_for(const struct advise *advise, const char *path, const char *body, const char *id, cJSON **tree,
                   const cJSON **out, struct err *err) {
    struct str answer = STR_INIT;
    int rc = advise_ask(advise, path, body, &answer, err);
    if (!rc) {
        *out = find_experiment(&answer, id, tree, err);
        rc = *out ? 0 : err->code;
    }
    str_close(&answer);
    return rc;
}

int advise_rollback(const struct advise *advise, const char *id, struct err *err) {
    struct advise patient = *advise;
    patient.ignores_stop = true; // Ctrl-C is why it may be called
    char path[64];
    snprintf(path, sizeof path, "/advisor/rollback/%.30s", id);
    cJSON *tree = NULL;
    const cJSON *e = NULL;
    int rc = ask_for(&patient, path, "{}", NULL, &tree, &e, err);
    if (!rc) printf("%s is back at %.0f.\n", text_of(e, "setting"), number_of(e, "value_now"));
    cJSON_Delete(tree);
    return rc;
}

// Until it has ended.
static int follow(const struct advise *advise, const char *id, const char *url, int *status, struct err *err) {
    int n_shown = -1, rc = 0;
    bool runs = true;
    while (!rc && runs && !*advise_stop) {
        cJSON *tree = NULL;
        const cJSON *e = NULL;
        rc = ask_for(advise, "/advisor/experiments", NULL, id, &tree, &e, err);
        if (!rc) {
            runs = strcmp(text_of(e, "phase"), "running") == 0;
            print_progress(e, &n_shown);
            if (!runs && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
            if (!runs) *status = print_verdict(e, url);
        }
        cJSON_Delete(tree);
        if (!rc && runs && !*advise_stop) usleep(POLL_US); // a signal ends it
    }
    if (!*advise_stop || !runs) return rc;
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    *status = STATUS_STOPPED;
    err->code = 0;
    return advise_rollback(advise, id, err);
}

int advise_experiment(const struct advise *advise, const char *url, int *status, struct err *err) {
    struct str body = STR_INIT;
    cJSON *tree = NULL;
    const cJSON *e = NULL;
    char id[32] = "";
    int rc = write_plan(&advise->options, &body, err);
    if (!rc) rc = ask_for(advise, "/advisor/experiments", str_text(&body), NULL, &tree, &e, err);
    if (!rc) snprintf(id, sizeof id, "%s", text_of(e, "id"));
    cJSON_Delete(tree);
    str_close(&body);
    return rc ? rc : follow(advise, id, url, status, err);
}
