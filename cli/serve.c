// optima serve: a model over an OpenAI-compatible HTTP API.
#include "cli/commands.h"

#include "base/log.h"
#include "base/option.h"
#include "base/url.h"
#include "cli/command_line.h"
#include "cli/serving.h"
#include "engine/memory_plan.h"

#include <stdio.h>
#include <string.h>

struct serve_options {
    const char *host, *keys, *admin_keys, *allowed_hosts, *name, *random_weights, *device, *instruction_set, *kv_format,
        *weights, *log_level, *speculate, *slo, *self_tune, *advisor_record, *peaks;
    int64_t port, threads, context, rows, sequences, steps_in_flight, chunk, queue, choices, random_seed, connections,
        draft_tokens, prompt_rows, admission;
    double kv_gib, drain, price_per_hour, power_price;
    bool insecure, any_model, strict, no_prefix_cache, deterministic, no_advisor;
};

#define FIELD(field) offsetof(struct serve_options, field)
static const struct option_row rows[] = {
    {"host", OPTION_TEXT, FIELD(host), "ADDRESS", NULL, 0, 0, false, "address to listen on (127.0.0.1)"},
    {"port", OPTION_INT, FIELD(port), "N", NULL, 0, 65535, false, "port to listen on (8080); 0 takes any free one"},
    {"api-keys", OPTION_TEXT, FIELD(keys), "FILE", NULL, 0, 0, false, "accept only the keys in FILE, one a line"},
    {"admin-keys", OPTION_TEXT, FIELD(admin_keys), "FILE", NULL, 0, 0, false,
     "keys that may also begin and end experiments, one a line"},
    {"insecure", OPTION_FLAG, FIELD(insecure), NULL, NULL, 0, 0, false, "allow a public address without keys"},
    {"allowed-hosts", OPTION_TEXT, FIELD(allowed_hosts), "NAMES", NULL, 0, 0, false,
     "further names for the Host header when bound to loopback, comma-separated"},
    {"name", OPTION_TEXT, FIELD(name), "NAME", NULL, 0, 0, false, "the model's id in the API (from its path)"},
    {"any-model", OPTION_FLAG, FIELD(any_model), NULL, NULL, 0, 0, false, "accept any model name in requests"},
    {"strict", OPTION_FLAG, FIELD(strict), NULL, NULL, 0, 0, false, "refuse request fields that are not known"},
    {"context", OPTION_INT, FIELD(context), "N", NULL, 1, 1 << 24, true, "longest sequence in tokens (the model's)"},
    {"kv-gib", OPTION_DOUBLE, FIELD(kv_gib), "GIB", NULL, 0.0001, 1e6, true,
     "memory for the KV cache (what all sequences need, at most half of the free memory)"},
    {"kv-format", OPTION_CHOICE, FIELD(kv_format), NULL, "auto|f32|bf16|int8|fp8", 0, 0, false,
     "precision of the KV cache (auto: f32 below 100 M parameters, bf16 above)"},
    {"weights", OPTION_CHOICE, FIELD(weights), NULL, "auto|bf16|fp8|int8|int4", 0, 0, false,
     "precision of the weights (auto: as the model has them); beside int8 and int4 the head is int8"},
    {"device", OPTION_TEXT, FIELD(device), "DEVICE", NULL, 0, 0, false,
     "auto (cuda, else cpu), cpu, cuda, cuda:N or the path of a plugin (auto)"},
    {"deterministic", OPTION_FLAG, FIELD(deterministic), NULL, NULL, 0, 0, false,
     "the same bits at any load on a GPU too, where that costs speed"},
    {"rows", OPTION_INT, FIELD(rows), "N", NULL, 1, 65536, true,
     "most token positions computed in one step (512; 2048 on a GPU)"},
    {"sequences", OPTION_INT, FIELD(sequences), "N", NULL, 1, 65536, true, "most sequences in one step (128)"},
    {"chunk", OPTION_INT, FIELD(chunk), "N", NULL, 1, 65536, true, "most tokens of one prompt in one step (auto)"},
    {"prompt-rows", OPTION_INT, FIELD(prompt_rows), "N", NULL, 1, 65536, true,
     "most tokens of all prompts in a step beside sequences that decode (as many as the next token bears)"},
    {"admission", OPTION_INT, FIELD(admission), "P", NULL, 0, 100, false,
     "percent of its max_tokens for which the KV cache must have room when a sequence begins (0)"},
    {"queue", OPTION_INT, FIELD(queue), "N", NULL, 1, 1 << 20, true, "most sequences that wait; more get 429 (auto)"},
    {"choices", OPTION_INT, FIELD(choices), "N", NULL, 1, GENERATION_CHOICES_MAX, false, "largest n of a request (8)"},
    {"connections", OPTION_INT, FIELD(connections), "N", NULL, 1, 1 << 20, true, "most open connections (1024)"},
    {"no-prefix-cache", OPTION_FLAG, FIELD(no_prefix_cache), NULL, NULL, 0, 0, false,
     "compute every prompt anew instead of reusing cached prefixes"},
    {"steps-in-flight", OPTION_INT, FIELD(steps_in_flight), "N", NULL, 1, 2, true,
     "steps planned ahead (1 on a CPU, 2 where a device works beside the host)"},
    {"speculate", OPTION_TEXT, FIELD(speculate), "HOW", NULL, 0, 0, false,
     "guess tokens and check several in a step, which changes no answer: off, auto (draft where a model has one "
     "beside it, else ngram), ngram (what followed the same words before), suffix (also in other answers for the same "
     "key), draft or draft:PATH (a small model) (off)"},
    {"draft-tokens", OPTION_INT, FIELD(draft_tokens), "N", NULL, 1, DRAFTS_MAX, true,
     "tokens to guess for each sequence and step (as many as pay)"},
    {"threads", OPTION_INT, FIELD(threads), "N", NULL, 1, 1024, true, "compute threads (one a physical core)"},
    {"instruction-set", OPTION_CHOICE, FIELD(instruction_set), NULL, "auto|ref|avx2|avx512", 0, 0, false,
     "kernels to use (auto: the best that the processor has)"},
    {"random-weights", OPTION_TEXT, FIELD(random_weights), "CONFIG", NULL, 0, 0, false,
     "serve random weights in the shape of this config.json, to measure a shape without a download"},
    {"random-seed", OPTION_INT, FIELD(random_seed), "N", NULL, 0, 9e15, false, "seed of the random weights (0)"},
    {"drain", OPTION_DOUBLE, FIELD(drain), "SECONDS", NULL, 0, 86400, false,
     "how long running requests may finish after SIGTERM (30)"},
    {"no-advisor", OPTION_FLAG, FIELD(no_advisor), NULL, NULL, 0, 0, false, "do not measure and advise"},
    {"price-per-hour", OPTION_DOUBLE, FIELD(price_per_hour), "X", NULL, 0.000001, 1e9, true,
     "what this machine costs, in any currency, for the cost of tokens"},
    {"power-price", OPTION_DOUBLE, FIELD(power_price), "X", NULL, 0.000001, 1e9, true,
     "what a kilowatt-hour costs, where it is not in the price of the machine"},
    {"slo", OPTION_TEXT, FIELD(slo), "LIST", NULL, 0, 0, false,
     "what users shall see, for the advisor: ttft=200ms,itl=50ms"},
    {"peaks", OPTION_TEXT, FIELD(peaks), "FILE", NULL, 0, 0, false,
     "where measured peaks of this machine are kept; \"\": nowhere (in ~/.cache/optima)"},
    {"self-tune", OPTION_CHOICE, FIELD(self_tune), NULL, "off|suggest|auto", 0, 0, false,
     "experiments on live traffic: none, those that an administrator asks for, or the advisor's own (off)"},
    {"advisor-record", OPTION_TEXT, FIELD(advisor_record), "FILE", NULL, 0, 0, false,
     "append what experiments decided, as JSON lines"},
    {"log-level", OPTION_CHOICE, FIELD(log_level), NULL, "debug|info|warning|error", 0, 0, false,
     "least level of log lines"},
};

static const struct option_table table = {
    .usage = "optima serve [MODEL] [options]",
    .summary = "Serves MODEL (a Hugging Face folder or a GGUF file; the embedded demo model when it is left out)\n"
               "over an OpenAI-compatible HTTP API.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

static void print_hint(void *context, int port) {
    const struct serve_options *options = context;
    char url[SERVING_URL_BYTES];
    url_of_server(url, sizeof url, options->host, port);
    printf("Optima %s listens on %s%s\n\ntry it:\n\n"
           "  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
           "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Tell me a story about a cat.\"}], \"stream\": "
           "true}'\n\n"
           "what limits it: %s in a browser, or optima advise %s\n",
           OPTIMA_VERSION, url, url_host_is_any(options->host) ? " and this machine's other addresses" : "", url, url,
           url);
    fflush(stdout);
}

static enum log_level log_level_of(const char *name) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) return (enum log_level)i;
    return LOG_LEVEL_INFO;
}

static enum self_tune self_tune_of(const char *name) {
    return strcmp(name, "auto") == 0      ? SELF_TUNE_AUTO
           : strcmp(name, "suggest") == 0 ? SELF_TUNE_SUGGEST
                                          : SELF_TUNE_OFF;
}

static struct serving_options serving_options_of(struct serve_options *o, const char *path) {
    return (struct serving_options){
        .model = {.path = path, .random_weights_path = o->random_weights, .random_seed = (uint64_t)o->random_seed},
        .backend = {.device = o->device,
                    .instruction_set = o->instruction_set,
                    .n_threads = (int)o->threads,
                    .deterministic = o->deterministic},
        .engine = {.context = (int32_t)o->context,
                   .rows_max = (int32_t)o->rows,
                   // A cap below what is usual can be raised while the server runs.
                   .sequences_max = o->sequences > MEMORY_PLAN_SEQUENCES ? (int32_t)o->sequences : 0,
                   .kv_bytes = (uint64_t)(o->kv_gib * 0x1p30),
                   .steps_in_flight = (int32_t)o->steps_in_flight,
                   .kv_format = o->kv_format,
                   .weights = o->weights},
        .no_advisor = o->no_advisor,
        .advising = {.price_per_hour = o->price_per_hour,
                     .power_price = o->power_price,
                     .objectives = o->slo,
                     .record_path = o->advisor_record,
                     .peaks_path = o->peaks,
                     .self_tune = self_tune_of(o->self_tune)},
        .step_loop = {.queue_max = (int32_t)o->queue,
                      .prompt_rows = (int32_t)o->prompt_rows,
                      .settings = {.no_prefix_cache = o->no_prefix_cache,
                                   .sequences_max = (int32_t)o->sequences,
                                   .chunk_max = (int32_t)o->chunk,
                                   .admission = (int32_t)o->admission,
                                   .draft_tokens = (int32_t)o->draft_tokens}},
        .server = {.http = {.host = o->host,
                            .port = (int)o->port,
                            .keys_path = o->keys,
                            .admin_keys_path = o->admin_keys,
                            .insecure = o->insecure,
                            .allowed_hosts = o->allowed_hosts,
                            .connections_max = (int)o->connections},
                   .model_name = o->name,
                   .any_model = o->any_model,
                   .strict = o->strict,
                   .n_choices_max = (int)o->choices,
                   .drain_s = o->drain,
                   .on_ready = print_hint,
                   .on_ready_context = o},
    };
}

int serve_main(int argc, char **argv) {
    struct serve_options options = {.host = "127.0.0.1",
                                    .port = 8080,
                                    .device = "auto",
                                    .instruction_set = "auto",
                                    .kv_format = "auto",
                                    .weights = "auto",
                                    .speculate = "off",
                                    .self_tune = "off",
                                    .log_level = "info",
                                    .drain = 30};
    struct option_result result;
    int status;
    if (!command_line_read("serve", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    log_level_set(log_level_of(options.log_level));
    struct serving_options serving_options = serving_options_of(&options, result.positional[0]);
    struct serving serving;
    int rc = speculate_read(&serving_options.speculate, options.speculate, &err);
    if (!rc) rc = advising_check(&serving_options.advising, &err);
    if (!rc) rc = serving_open(&serving, &serving_options, &err);
    if (!rc) {
        rc = serving_run(&serving, &err);
        serving_close(&serving);
    }
    return command_line_end("serve", rc, &err);
}
