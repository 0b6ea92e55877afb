// optima chat: a conversation in the terminal, with a running server or with a model served by this process.
#include "cli/commands.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option.h"
#include "cli/api_key.h"
#include "cli/command_line.h"
#include "bench/http_call.h"
#include "cli/serving.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat_options {
    const char *url, *key_path, *model, *system, *random_weights, *device, *weights;
    int64_t max_tokens;
    double temperature;
};

#define FIELD(field) offsetof(struct chat_options, field)
static const struct option_row rows[] = {
    {"url", OPTION_TEXT, FIELD(url), "URL", NULL, 0, 0, false, "a running server (http://127.0.0.1:8080)"},
    {"api-key-file", OPTION_TEXT, FIELD(key_path), "FILE", NULL, 0, 0, false, "file that holds the API key"},
    {"model", OPTION_TEXT, FIELD(model), "NAME", NULL, 0, 0, false, "model name to ask for (the server's own)"},
    {"system", OPTION_TEXT, FIELD(system), "TEXT", NULL, 0, 0, false, "system message"},
    {"temperature", OPTION_DOUBLE, FIELD(temperature), "X", NULL, 0, 2, false, "sampling temperature (the model's)"},
    {"max-tokens", OPTION_INT, FIELD(max_tokens), "N", NULL, 1, 1 << 24, true,
     "longest answer (to the end of the context)"},
    {"random-weights", OPTION_TEXT, FIELD(random_weights), "CONFIG", NULL, 0, 0, false,
     "random weights in the shape of this config.json instead of MODEL"},
    {"device", OPTION_TEXT, FIELD(device), "DEVICE", NULL, 0, 0, false,
     "what computes MODEL: auto (cuda, else cpu), cpu, cuda, cuda:N or the path of a plugin (auto)"},
    {"weights", OPTION_CHOICE, FIELD(weights), NULL, "auto|bf16|fp8|int8|int4", 0, 0, false,
     "precision of the layers' weights of MODEL (auto: as it has them)"},
};
static const struct option_table table = {
    .usage = "optima chat [MODEL] [options]",
    .summary = "Talks to MODEL (\"demo\", a Hugging Face folder or a GGUF file), served by this process, or, without "
               "MODEL, to\n"
               "a running server. Commands: /reset, /system TEXT, /quit. Ctrl-C stops an answer.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

struct chat {
    const struct chat_options *options;
    struct url url;
    char *api_key;      // or NULL
    struct str system;  // current system message
    struct str history; // the messages so far as JSON objects, each followed by a comma
    struct str answer;
    struct str error; // of an error event in the stream
};

static volatile int interrupted;
static void on_interrupt(int signal_number) {
    interrupted = signal_number;
}

static void append_message(struct str *out, const char *role, const char *text, size_t n_bytes) {
    str_printf(out, "{\"role\":\"%s\",\"content\":", role);
    json_append_string(out, text, n_bytes);
    str_append_text(out, "},");
}

static bool on_event(void *context, const char *data, size_t n_bytes) {
    struct chat *chat = context;
    cJSON *event = cJSON_ParseWithLength(data, n_bytes);
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(event, "choices"), 0);
    const cJSON *delta = cJSON_GetObjectItemCaseSensitive(choice, "delta");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(delta, "content"));
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(event, "error");
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
    if (text) {
        str_append_text(&chat->answer, text);
        fputs(text, stdout);
        fflush(stdout);
    }
    if (reason) str_append_text(&chat->error, reason);
    cJSON_Delete(event);
    return true;
}

static void build_request(const struct chat *chat, struct str *body) {
    const struct chat_options *options = chat->options;
    str_append_text(body, "{\"stream\":true,");
    if (options->model) {
        str_append_text(body, "\"model\":");
        json_append_string(body, options->model, strlen(options->model));
        str_append_char(body, ',');
    }
    if (options->temperature >= 0) str_printf(body, "\"temperature\":%g,", options->temperature);
    if (options->max_tokens) str_printf(body, "\"max_tokens\":%lld,", (long long)options->max_tokens);
    str_append_text(body, "\"messages\":[");
    if (chat->system.n_bytes) append_message(body, "system", chat->system.data, chat->system.n_bytes);
    str_append(body, str_text(&chat->history), chat->history.n_bytes - 1); // without the last comma
    str_append_text(body, "]}");
}

static void print_failure(int status, const struct str *answer, const struct err *err) {
    cJSON *tree = status ? cJSON_ParseWithLength(str_text(answer), answer->n_bytes) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
    if (err->code)
        fprintf(stderr, "optima chat: %s\n", err->text);
    else
        fprintf(stderr, "optima chat: the server answered %d: %s\n", status, reason ? reason : "without a reason");
    cJSON_Delete(tree);
}

// One turn: 0, or -1 when there was no answer (the question is then taken back).
static int ask(struct chat *chat, const char *question, size_t n_bytes) {
    size_t history_before = chat->history.n_bytes;
    append_message(&chat->history, "user", question, n_bytes);
    struct str body = STR_INIT, answer = STR_INIT;
    build_request(chat, &body);
    str_clear(&chat->answer);
    str_clear(&chat->error);
    interrupted = 0;
    struct http_call call = {.url = &chat->url,
                             .method = "POST",
                             .path = "/v1/chat/completions",
                             .api_key = chat->api_key,
                             .body = {body.data, body.n_bytes},
                             .on_event = on_event,
                             .context = chat,
                             .stop = &interrupted};
    int status = 0;
    struct err err = {0};
    int rc = http_call_run(&call, &status, &answer, &err);
    if (rc == ERR_CLOSED && interrupted) rc = 0, err.code = 0;
    bool failed = rc || status != 200 || chat->error.n_bytes;
    if (chat->answer.n_bytes || !failed) printf("\n");
    if (chat->error.n_bytes)
        fprintf(stderr, "optima chat: %s\n", str_text(&chat->error));
    else if (failed)
        print_failure(status, &answer, &err);
    if (failed) {
        chat->history.n_bytes = history_before;
        if (chat->history.data) chat->history.data[history_before] = 0;
    } else {
        append_message(&chat->history, "assistant", str_text(&chat->answer), chat->answer.n_bytes);
    }
    str_close(&body);
    str_close(&answer);
    return failed ? -1 : 0;
}

// Reads turns from standard input until its end or /quit. Returns how many turns failed.
static int converse(struct chat *chat) {
    bool terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t capacity = 0;
    int n_failed = 0;
    for (;;) {
        if (terminal) {
            printf("> ");
            fflush(stdout);
        }
        errno = 0;
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0 && errno == EINTR) {
            clearerr(stdin);
            printf("\n");
            continue;
        }
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (strcmp(line, "/quit") == 0) break;
        if (strcmp(line, "/reset") == 0) {
            str_clear(&chat->history);
        } else if (strncmp(line, "/system ", 8) == 0) {
            str_clear(&chat->system);
            str_append_text(&chat->system, line + 8);
        } else if (line[0] == '/') {
            fprintf(stderr, "optima chat: commands are /reset, /system TEXT and /quit\n");
        } else if (n > 0 && ask(chat, line, (size_t)n)) {
            n_failed++;
        }
    }
    free(line);
    return n_failed;
}

struct own_server {
    struct serving serving;
    struct chat *chat;
    pthread_t talker;
    bool talks; // the thread was started
    int n_failed;
};

static bool server_is_ready(const struct chat *chat, int *status) {
    struct http_call call = {.url = &chat->url, .method = "GET", .path = "/health"};
    struct str body = STR_INIT;
    struct err err;
    *status = 0; // for a server that has ended
    int rc = http_call_run(&call, status, &body, &err);
    str_close(&body);
    return !rc && *status == 200;
}

static void *talk_to_own_server(void *argument) {
    struct own_server *own = argument;
    int status = 0;
    while (!server_is_ready(own->chat, &status) && status == 503) usleep(2000);
    if (status == 200) own->n_failed = converse(own->chat);
    server_stop(own->serving.server);
    return NULL;
}

// The socket listens: from here on the conversation runs in a thread of its own.
static void start_talking(void *context, int port) {
    struct own_server *own = context;
    snprintf(own->chat->url.port, sizeof own->chat->url.port, "%d", port);
    own->talks = pthread_create(&own->talker, NULL, talk_to_own_server, own) == 0;
    if (!own->talks) server_stop(own->serving.server);
}

static int chat_with_model(struct chat *chat, const char *path, struct err *err) {
    struct own_server own = {.chat = chat};
    struct serving_options options = {
        .no_advisor = true,
        .quiet = true,
        .model = {.path = path, .random_weights_path = chat->options->random_weights},
        .backend = {.device = chat->options->device, .instruction_set = "auto"},
        .engine = {.weights = chat->options->weights},
        .server = {.http = {.host = "127.0.0.1"},
                   .any_model = true,
                   .keep_signals = true,
                   .on_ready = start_talking,
                   .on_ready_context = &own},
    };
    int rc = serving_open(&own.serving, &options, err);
    if (rc) return rc;
    rc = serving_run(&own.serving, err);
    if (own.talks)
        pthread_join(own.talker, NULL);
    else if (!rc)
        rc = err_set(err, ERR_IO, "cannot start a thread");
    serving_close(&own.serving);
    return rc ? rc : own.n_failed;
}

int chat_main(int argc, char **argv) {
    struct chat_options options = {.temperature = -1, .device = "auto", .weights = "auto"};
    struct option_result result;
    struct chat chat = {.options = &options};
    int status;
    if (!command_line_read("chat", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    int rc = 0;
    const char *path = result.positional[0];
    bool own_model = path || options.random_weights;
    if (!rc && own_model && options.url) rc = err_set(&err, ERR_INVALID, "give a model or --url, not both");
    if (!rc) rc = url_parse(&chat.url, options.url ? options.url : "http://127.0.0.1:8080", &err);
    if (!rc && options.key_path) rc = api_key_read(&chat.api_key, options.key_path, &err);
    if (!rc) {
        log_level_set(LOG_LEVEL_WARNING);
        signal(SIGPIPE, SIG_IGN);
        struct sigaction action = {.sa_handler = on_interrupt}; // without SA_RESTART: a read in progress ends
        sigaction(SIGINT, &action, NULL);
        if (options.system) str_append_text(&chat.system, options.system);
        rc = own_model ? chat_with_model(&chat, path, &err) : converse(&chat);
    }
    if (err.code) fprintf(stderr, "optima chat: %s\n", err.text);
    free(chat.api_key);
    str_close(&chat.system);
    str_close(&chat.history);
    str_close(&chat.answer);
    str_close(&chat.error);
    return rc ? 1 : 0;
}
