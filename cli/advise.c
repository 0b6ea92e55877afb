// optima advise: what limits a running server, what to change, and how to prove it.
#include "cli/advise.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/terminal_text.h"
#include "bench/http_call.h"
#include "cli/api_key.h"
#include "cli/command_line.h"
#include "cli/commands.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIELD(field) offsetof(struct advise_options, field)
static const struct option_row rows[] = {
    {"window", OPTION_INT, FIELD(window_s), "SECONDS", NULL, 10, 600, false, "how far to look back (300)"},
    {"watch", OPTION_DOUBLE, FIELD(watch_s), "SECONDS", NULL, 1, 3600, false, "show it again every so many seconds"},
    {"json", OPTION_FLAG, FIELD(json), NULL, NULL, 0, 0, false, "the report as JSON"},
    {"experiment", OPTION_TEXT, FIELD(experiment), "ID|SETTING=VALUE", NULL, 0, 0, false,
     "try what a finding suggests (R1), or a value (sequences=16), on live traffic"},
    {"metric", OPTION_CHOICE, FIELD(metric), NULL, "output_tokens_per_s|itl_p50_s|itl_p99_s|ttft_p50_s|ttft_p95_s", 0,
     0, false, "what decides the experiment (the finding's, or output_tokens_per_s)"},
    {"pairs", OPTION_INT, FIELD(pairs), "N", NULL, 6, 60, false, "most pairs of blocks (40)"},
    {"block", OPTION_DOUBLE, FIELD(block_s), "SECONDS", NULL, 1, 600, false, "least length of a block (20)"},
    {"min-effect", OPTION_DOUBLE, FIELD(min_effect), "PERCENT", NULL, 0.1, 100, false,
     "changes below do not matter (2)"},
    {"guard", OPTION_TEXT, FIELD(guard), "LIST", NULL, 0, 0, false,
     "p99 that ends it at once: itl=50ms,ttft=1s (1.5 times what it is now, or the server's objectives)"},
    {"rollback", OPTION_TEXT, FIELD(rollback), "ID", NULL, 0, 0, false, "take back what an experiment has kept"},
    {"offline", OPTION_TEXT, FIELD(offline), "MODEL", NULL, 0, 0, false,
     "try options that need a restart, on two servers of its own: see optima advise --offline MODEL --help"},
    {"api-key", OPTION_TEXT, FIELD(api_key), "KEY", NULL, 0, 0, false, "sent as a bearer token"},
    {"api-key-file", OPTION_TEXT, FIELD(api_key_path), "FILE", NULL, 0, 0, false, "file that holds the API key"},
};
static const struct option_table table = {
    .usage = "optima advise [URL] [options]",
    .summary =
        "Asks the advisor of the Optima server at URL (http://127.0.0.1:8080): the diagnosis first, then what\n"
        "to change, with its computed effect, and how to prove it. An experiment needs --self-tune suggest or auto of\n"
        "the server and its admin key; it ends with 0 when the value was kept, 3 when it is worse, 4 without a\n"
        "difference or certainty.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

static volatile int interrupted;
const volatile int *const advise_stop = &interrupted;

static void on_interrupt(int signal_number) {
    interrupted = signal_number;
}

static int refuse(int status, const struct str *answer, struct err *err) {
    struct err ignored;
    cJSON *tree = NULL;
    const char *reason = NULL;
    if (!json_parse(&tree, answer->data, answer->n_bytes, &JSON_LIMITS_CLIENT, &ignored)) {
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
        reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
    }
    if (reason)
        err_set(err, ERR_INVALID, "the server answered %d: %s", status, reason);
    else
        err_set(err, ERR_INVALID, "the server answered %d; is it an Optima server?", status);
    cJSON_Delete(tree);
    return err->code;
}

int advise_ask(const struct advise *advise, const char *path, const char *body, struct str *answer, struct err *err) {
    struct http_call call = {.url = &advise->url,
                             .method = body ? "POST" : "GET",
                             .path = path,
                             .api_key = advise->api_key,
                             .body = body ? str_view_of(body) : (struct str_view){0},
                             .timeout_s = 30,
                             .stop = advise->ignores_stop ? NULL : &interrupted};
    int status = 0;
    int rc = http_call_run(&call, &status, answer, err);
    return rc || status == 200 ? rc : refuse(status, answer, err);
}

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

void advise_print(const char *markdown) {
    if (!isatty(STDOUT_FILENO)) {
        fputs(markdown, stdout);
        return;
    }
    struct str text = STR_INIT;
    int width = terminal_width();
    terminal_text_append(&text, markdown, width < 110 ? width : 110, true); // longer lines are hard to read
    fputs(str_text(&text), stdout);
    str_close(&text);
}

static int show_once(const struct advise *advise, struct err *err) {
    const struct advise_options *options = &advise->options;
    struct str answer = STR_INIT;
    char path[64];
    snprintf(path, sizeof path, "/advisor?window=%lld%s", (long long)options->window_s,
             options->json ? "" : "&format=md");
    int rc = advise_ask(advise, path, NULL, &answer, err);
    if (!rc && options->watch_s > 0 && isatty(STDOUT_FILENO)) fputs("\033[H\033[2J", stdout);
    if (!rc && options->json)
        printf("%s\n", str_text(&answer));
    else if (!rc)
        advise_print(str_text(&answer));
    fflush(stdout);
    str_close(&answer);
    return rc;
}

static int show(const struct advise *advise, struct err *err) {
    double watch_s = advise->options.watch_s;
    int rc = show_once(advise, err);
    while (!rc && watch_s > 0 && !interrupted) {
        usleep((useconds_t)(watch_s * 1e6)); // a signal ends it
        if (!interrupted) rc = show_once(advise, err);
    }
    if (interrupted) rc = 0;
    return rc;
}

static int run(const struct advise *advise, const char *url, int *status, struct err *err) {
    const struct advise_options *options = &advise->options;
    if (options->experiment && options->rollback)
        return err_set(err, ERR_INVALID, "--experiment and --rollback exclude each other");
    if (options->experiment) return advise_experiment(advise, url, status, err);
    return options->rollback ? advise_rollback(advise, options->rollback, err) : show(advise, err);
}

static bool is_offline(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--offline") == 0 || strncmp(argv[i], "--offline=", 10) == 0) return true;
    return false;
}

int advise_main(int argc, char **argv) {
    if (is_offline(argc, argv)) return advise_offline_main(argc, argv);
    struct advise advise = {.options = {.window_s = 300}};
    struct option_result result;
    int status;
    if (!command_line_read("advise", &table, argc, argv, &advise.options, &result, &status)) return status;
    struct err err = {0};
    const char *url = result.n_positional ? result.positional[0] : "http://127.0.0.1:8080";
    status = 0;
    int rc = url_parse(&advise.url, url, &err);
    if (!rc && advise.options.api_key)
        advise.api_key = mem_copy_string(advise.options.api_key, strlen(advise.options.api_key));
    if (!rc && !advise.api_key && advise.options.api_key_path)
        rc = api_key_read(&advise.api_key, advise.options.api_key_path, &err);
    if (!rc) {
        struct sigaction action = {.sa_handler = on_interrupt}; // without SA_RESTART: a read in progress ends
        sigaction(SIGINT, &action, NULL);
        rc = run(&advise, url, &status, &err);
    }
    free(advise.api_key);
    const int ended = command_line_end("advise", rc, &err);
    return ended ? ended : status;
}
