// optima advise --offline: what a server would be like with other options, tried on two servers of its own.
#include "cli/advise.h"

#include "cli/bench_commands.h"
#include "cli/child_server.h"
#include "cli/command_line.h"
#include "cli/commands.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIES_MAX = 16, STATUS_WORSE = 3, STATUS_INTERRUPTED = 130 };

struct offline_options {
    const char *model, *present, *tried, *workload, *text, *metric;
    int64_t pairs;
    const char *tries[TRIES_MAX];
    int n_tries;
};

#define FIELD(field) offsetof(struct offline_options, field)
static const struct option_row rows[] = {
    {"offline", OPTION_TEXT, FIELD(model), "MODEL", NULL, 0, 0, false, "the model, as optima serve takes it"},
    {"try", OPTION_TEXT, FIELD(tried), "OPTIONS", NULL, 0, 0, false,
     "options of optima serve to try, as one argument (\"--weights int8\"); may be given several times"},
    {"present", OPTION_TEXT, FIELD(present), "OPTIONS", NULL, 0, 0, false,
     "options that the server has now, and keeps (none)"},
    {"workload", OPTION_TEXT, FIELD(workload), "W", NULL, 0, 0, false,
     "options of optima bench ab as one argument (\"--users 8 --prompt-tokens 500\"), or a file for --trace"},
    {"metric", OPTION_CHOICE, FIELD(metric), NULL, "e2e|ttft|tpot|tokens", 0, 0, false, "what decides (tokens)"},
    {"pairs", OPTION_INT, FIELD(pairs), "N", NULL, 6, 1000, false, "at most so many pairs of blocks (40)"},
    {"text", OPTION_TEXT, FIELD(text), "FILE", NULL, 0, 0, false,
     "where answers may change: how far predictions on this text are from those of now"},
};
static const struct option_table table = {
    .usage = "optima advise --offline MODEL --try OPTIONS [options]",
    .summary =
        "Starts two servers, one with the present options and one with those to try, and loads them in turn, in\n"
        "pairs of blocks in random order, until it is certain which is faster or that it does not matter. A is\n"
        "now, B is tried. Ends with 0, 3 when B is worse.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 0,
};

// -------------------------------------------------------------------------------------------------------------- words

// Words between blanks; *storage holds them.
static void split(const char *text, char **storage, words_vec *out) {
    *storage = mem_copy_string(text ? text : "", text ? strlen(text) : 0);
    char *rest = NULL;
    for (char *word = strtok_r(*storage, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest))
        vec_push(out, word);
}

// "--weights int8" or "--weights=int8"; NULL: it is not among them. The last one counts.
static const char *value_in(const words_vec *words, const char *name) {
    const char *value = NULL;
    const size_t n = strlen(name);
    for (size_t i = 0; i < words->count; i++) {
        const char *word = words->items[i];
        if (strcmp(word, name) == 0 && i + 1 < words->count) value = words->items[i + 1];
        if (strncmp(word, name, n) == 0 && word[n] == '=') value = word + n + 1;
    }
    return value;
}

static void push_pair(words_vec *out, const char *name, const char *value) {
    if (!value) return;
    vec_push(out, name);
    vec_push(out, value);
}

// ------------------------------------------------------------------------------------------------------------ servers

static int open_server(struct child_server *out, const char *model, const words_vec *present, const words_vec *tried,
                       struct err *err) {
    words_vec words = {0};
    vec_push(&words, model);
    push_pair(&words, "--port", "0");
    push_pair(&words, "--log-level", "warning");
    vec_push(&words, "--no-advisor");
    for (size_t i = 0; i < present->count; i++) vec_push(&words, present->items[i]);
    for (size_t i = 0; tried && i < tried->count; i++) vec_push(&words, tried->items[i]);
    int rc = child_server_open(out, &words, err);
    vec_free(&words);
    return rc;
}

static int load_both(const struct offline_options *options, const struct child_server servers[2],
                     const words_vec *workload) {
    words_vec words = {0};
    char pairs[24];
    snprintf(pairs, sizeof pairs, "%lld", (long long)options->pairs);
    push_pair(&words, "--a", servers[0].text);
    push_pair(&words, "--b", servers[1].text);
    push_pair(&words, "--metric", options->metric);
    push_pair(&words, "--pairs", pairs);
    if (workload->count == 1 && access(workload->items[0], R_OK) == 0) vec_push(&words, "--trace");
    for (size_t i = 0; i < workload->count; i++) vec_push(&words, workload->items[i]);
    char **arguments = mem_alloc_zero(words.count + 1, sizeof *arguments);
    for (size_t i = 0; i < words.count; i++) arguments[i] = mem_copy_string(words.items[i], strlen(words.items[i]));
    const int status = bench_ab_main((int)words.count, arguments);
    for (size_t i = 0; i < words.count; i++) free(arguments[i]);
    free(arguments);
    vec_free(&words);
    return status;
}

// ------------------------------------------------------------------------------------------------------------ answers

static const char *const numeric[] = {"--weights", "--kv-format"};

static bool may_change_answers(const words_vec *tried) {
    for (size_t i = 0; i < sizeof numeric / sizeof *numeric; i++)
        if (value_in(tried, numeric[i])) return true;
    return false;
}

// What a change of formats does to the predictions of a text.
static int judge_answers(const struct offline_options *options, const words_vec *present, const words_vec *tried) {
    words_vec words = {0};
    vec_push(&words, options->model);
    push_pair(&words, "--text", options->text ? options->text : "YOUR_TEXT");
    push_pair(&words, "--reference", options->model);
    for (size_t i = 0; i < sizeof numeric / sizeof *numeric; i++) {
        const char *now = value_in(present, numeric[i]), *then = value_in(tried, numeric[i]);
        push_pair(&words, numeric[i], then ? then : now);
        push_pair(&words, i == 0 ? "--reference-weights" : "--reference-kv-format", now);
    }
    int status = 0;
    printf(options->text ? "\nanswers: optima eval" : "\nAnswers may change. How far: optima eval");
    for (size_t i = 0; i < words.count; i++) printf(" %s", words.items[i]);
    puts(options->text ? "\n" : "");
    fflush(stdout);
    if (options->text) {
        char **arguments = mem_alloc_zero(words.count + 1, sizeof *arguments);
        for (size_t i = 0; i < words.count; i++) arguments[i] = mem_copy_string(words.items[i], strlen(words.items[i]));
        status = eval_main((int)words.count, arguments);
        for (size_t i = 0; i < words.count; i++) free(arguments[i]);
        free(arguments);
    }
    vec_free(&words);
    return status;
}

// ---------------------------------------------------------------------------------------------------------------- run

static volatile int interrupted;
static void on_interrupt(int signal_number) {
    interrupted = signal_number;
}

static int compare(const struct offline_options *options, const char *tried_text, int *status, struct err *err) {
    words_vec present = {0}, tried = {0}, workload = {0};
    char *storage[3];
    split(options->present, &storage[0], &present);
    split(tried_text, &storage[1], &tried);
    split(options->workload, &storage[2], &workload);
    struct child_server servers[2] = {{.output = -1}, {.output = -1}};
    int rc = open_server(&servers[0], options->model, &present, NULL, err);
    if (!rc) rc = open_server(&servers[1], options->model, &present, &tried, err);
    for (int s = 0; s < 2 && !rc; s++) {
        rc = child_server_wait(&servers[s], &interrupted, err);
        if (rc && !interrupted) err_prefix(err, s ? "tried" : "present");
    }
    if (!rc) {
        printf("A: optima serve %s %s\nB: the same with %s\n", options->model, options->present ? options->present : "",
               tried_text);
        fflush(stdout);
        *status = load_both(options, servers, &workload);
        if (*status == STATUS_INTERRUPTED) interrupted = SIGINT;
    }
    child_server_close(&servers[0]);
    child_server_close(&servers[1]);
    const bool has_verdict = *status == 0 || *status == STATUS_WORSE;
    if (!rc && has_verdict && may_change_answers(&tried)) {
        const int judged = judge_answers(options, &present, &tried);
        if (judged) *status = judged;
    }
    for (int i = 0; i < 3; i++) free(storage[i]);
    vec_free(&present);
    vec_free(&tried);
    vec_free(&workload);
    return rc;
}

static int run_all(const struct offline_options *options, int *status, struct err *err) {
    int rc = 0;
    for (int i = 0; i < options->n_tries && !rc && !interrupted; i++) {
        int one = 0;
        signal(SIGINT, on_interrupt);
        signal(SIGTERM, on_interrupt);
        rc = compare(options, options->tries[i], &one, err);
        if (one > *status) *status = one;
    }
    return rc;
}

int advise_offline_main(int argc, char **argv) {
    struct offline_options options = {.pairs = 40, .metric = "tokens"};
    struct option_result result;
    int status = 0;
    struct err err = {0};
    if (!command_line_read("advise", &table, argc, argv, &options, &result, &status)) return status;
    for (int i = 0; i + 1 < argc && options.n_tries < TRIES_MAX; i++)
        if (strcmp(argv[i], "--try") == 0) options.tries[options.n_tries++] = argv[++i];
    if (!options.n_tries && options.tried) options.tries[options.n_tries++] = options.tried; // --try=...
    if (!options.model || !options.n_tries) {
        fputs(
            "optima advise: --offline needs a model and --try what to try; see optima advise --offline MODEL --help\n",
            stderr);
        return 2;
    }
    int rc = run_all(&options, &status, &err);
    if (interrupted) return STATUS_INTERRUPTED;
    const int ended = command_line_end("advise", rc, &err);
    return ended ? ended : status;
}
