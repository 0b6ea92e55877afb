// optima eval: how well a model predicts a text, and how far it is from a reference.
#include "cli/commands.h"

#include "base/file_map.h"
#include "base/option.h"
#include "cli/command_line.h"
#include "cli/evaluated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct eval_options {
    const char *text, *reference, *weights, *reference_weights, *kv_format, *reference_kv_format, *device, *as;
    int64_t window, stride, tokens;
    bool json;
};

#define FIELD(field) offsetof(struct eval_options, field)
static const struct option_row rows[] = {
    {"text", OPTION_TEXT, FIELD(text), "FILE", NULL, 0, 0, false,
     "the text, UTF-8; special tokens in it count as such"},
    {"tokens", OPTION_INT, FIELD(tokens), "N", NULL, 2, 1e9, true, "read the first N tokens only (all)"},
    {"as", OPTION_CHOICE, FIELD(as), NULL, "transformers|llama.cpp", 0, 0, false,
     "transformers: overlapping windows score each token once; llama.cpp: second halves of windows that follow each "
     "other (transformers)"},
    {"window", OPTION_INT, FIELD(window), "N", NULL, 8, 1 << 24, true,
     "tokens of a window (the model's context, at most 2048)"},
    {"stride", OPTION_INT, FIELD(stride), "N", NULL, 1, 1 << 24, true,
     "from one window to the next; not as llama.cpp (half a window)"},
    {"weights", OPTION_CHOICE, FIELD(weights), NULL, "auto|bf16|fp8|int8|int4", 0, 0, false,
     "precision of the weights (auto: as the model has them); beside int8 and int4 the head is int8"},
    {"kv-format", OPTION_CHOICE, FIELD(kv_format), NULL, "auto|f32|bf16|int8|fp8", 0, 0, false,
     "precision of the KV cache (auto: f32 below 100 M parameters, bf16 above)"},
    {"reference", OPTION_TEXT, FIELD(reference), "MODEL", NULL, 0, 0, false,
     "compare with the predictions of this model, which has the same tokenizer"},
    {"reference-weights", OPTION_CHOICE, FIELD(reference_weights), NULL, "auto|bf16|fp8|int8|int4", 0, 0, false,
     "precision of the reference's weights (auto)"},
    {"reference-kv-format", OPTION_CHOICE, FIELD(reference_kv_format), NULL, "auto|f32|bf16|int8|fp8", 0, 0, false,
     "precision of the reference's KV cache (auto)"},
    {"device", OPTION_TEXT, FIELD(device), "DEVICE", NULL, 0, 0, false,
     "auto (cuda, else cpu), cpu, cuda, cuda:N or the path of a plugin (auto)"},
    {"json", OPTION_FLAG, FIELD(json), NULL, NULL, 0, 0, false, "print one JSON object instead of a table"},
};

static const struct option_table table = {
    .usage = "optima eval PATH --text FILE [options]",
    .summary = "Measures how well a model predicts a text: perplexity and bits a byte with intervals. PATH is a model\n"
               "folder or a GGUF file; \"demo\" is the embedded model. With --reference, also how far its predictions\n"
               "are from those of another model, or of the same one in other formats.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

// What is open, so that one place closes it.
struct evaluating {
    struct evaluated model, reference;
    struct file_map text;
    token_vec tokens;
    struct evaluation evaluation;
};

static void print_progress(void *context, size_t done, size_t total) {
    (void)context;
    fprintf(stderr, "\r%zu of %zu tokens", done, total);
}

static int check(const struct eval_options *options, struct err *err) {
    if (!options->text) return err_set(err, ERR_INVALID, "a text is missing: --text FILE");
    if (!options->reference && (options->reference_weights || options->reference_kv_format))
        return err_set(err, ERR_INVALID, "--reference-weights and --reference-kv-format need --reference");
    if (options->stride && strcmp(options->as, "llama.cpp") == 0)
        return err_set(err, ERR_INVALID, "--stride: as llama.cpp, windows do not overlap");
    return 0;
}

static int open_all(struct evaluating *e, const struct eval_options *options, const char *path, struct err *err) {
    int rc = check(options, err);
    if (!rc) rc = file_map_open(&e->text, options->text, err);
    struct evaluated_options wanted = {.path = path,
                                       .weights = options->weights,
                                       .kv_format = options->kv_format,
                                       .device = options->device,
                                       .window = (int32_t)options->window};
    if (!rc) rc = evaluated_open(&e->model, &wanted, err);
    if (rc || !options->reference) return rc;
    wanted = (struct evaluated_options){.path = options->reference,
                                        .weights = options->reference_weights,
                                        .kv_format = options->reference_kv_format,
                                        .device = options->device,
                                        .window = e->model.window};
    return evaluated_open(&e->reference, &wanted, err);
}

static void print(const struct evaluated_report *report, bool as_json) {
    if (!as_json) {
        evaluated_print(report);
        return;
    }
    struct str json = STR_INIT;
    str_append_char(&json, '{');
    evaluated_append_json(report, &json);
    printf("%s}\n", str_text(&json));
    str_close(&json);
}

static int evaluate(struct evaluating *e, const struct eval_options *options, const char *path, struct err *err) {
    int rc = open_all(e, options, path, err);
    if (rc) return rc;
    const struct evaluated *reference = options->reference ? &e->reference : NULL;
    rc =
        evaluated_tokens(e->model.model, reference ? reference->model : NULL, file_map_text(&e->text), &e->tokens, err);
    if (rc) return err_prefix(err, "%s", options->text);
    if (options->tokens && e->tokens.count > (size_t)options->tokens) e->tokens.count = (size_t)options->tokens;
    enum evaluation_rule rule = strcmp(options->as, "llama.cpp") == 0 ? EVALUATION_HALVES : EVALUATION_SLIDING;
    struct evaluation_options windows;
    rc = evaluated_windows(&e->model, &e->tokens, rule, options->stride, &windows, err);
    if (isatty(STDERR_FILENO)) windows.progress = print_progress;
    if (!rc)
        rc = evaluation_run(&e->evaluation, e->model.engine, reference ? reference->engine : NULL, e->tokens.items,
                            e->tokens.count, &windows, err);
    if (windows.progress) fputc('\n', stderr);
    if (rc) return rc;
    print(&(struct evaluated_report){.model = &e->model,
                                     .reference = reference,
                                     .text_name = options->text,
                                     .tokens = &e->tokens,
                                     .windows = &windows,
                                     .evaluation = &e->evaluation},
          options->json);
    return 0;
}

int eval_main(int argc, char **argv) {
    struct eval_options options = {.as = "transformers", .weights = "auto", .kv_format = "auto", .device = "auto"};
    struct option_result result;
    int status;
    if (!command_line_read_path("eval", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    struct evaluating e = {0};
    int rc = evaluate(&e, &options, result.positional[0], &err);
    evaluation_close(&e.evaluation);
    vec_free(&e.tokens);
    evaluated_close(&e.reference);
    evaluated_close(&e.model);
    file_map_close(&e.text);
    return command_line_end("eval", rc, &err);
}
