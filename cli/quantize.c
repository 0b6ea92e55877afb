// optima quantize: a model's matrices in fewer bits, written as a folder, with a report of what that costs.
#include "cli/commands.h"

#include "base/file_map.h"
#include "base/mem.h"
#include "base/option.h"
#include "cli/command_line.h"
#include "cli/evaluated.h"
#include "cli/quantizing.h"
#include "models/quantized_folder.h"
#include "models/quantized_gguf.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct quantize_options {
    const char *weights, *calibrate, *eval, *group;
    int64_t tokens, eval_tokens;
    bool nearest, json;
};

#define FIELD(field) offsetof(struct quantize_options, field)
static const struct option_row rows[] = {
    {"weights", OPTION_CHOICE, FIELD(weights), NULL, "int4|int8|fp8", 0, 0, false, "format of the layers' matrices"},
    {"calibrate", OPTION_TEXT, FIELD(calibrate), "FILE", NULL, 0, 0, false,
     "a text like those that the model will read: errors are weighed by what the matrices see there"},
    {"group", OPTION_CHOICE, FIELD(group), NULL, "32|64|128", 0, 0, false,
     "inputs that share a scale (int4: 32; int8: all of an output; fp8: always all; GGUF: always 32)"},
    {"eval", OPTION_TEXT, FIELD(eval), "FILE", NULL, 0, 0, false,
     "text for the report (the last tenth of --calibrate; for the demo model one that comes with it)"},
    {"tokens", OPTION_INT, FIELD(tokens), "N", NULL, 64, 1e9, true, "calibrate with the first N tokens (32768)"},
    {"eval-tokens", OPTION_INT, FIELD(eval_tokens), "N", NULL, 64, 1e9, true, "report on the first N tokens (16384)"},
    {"nearest", OPTION_FLAG, FIELD(nearest), NULL, NULL, 0, 0, false,
     "round to the nearest without a search, for comparison"},
    {"json", OPTION_FLAG, FIELD(json), NULL, NULL, 0, 0, false, "print the report as one JSON object"},
};

static const struct option_table table = {
    .usage = "optima quantize PATH OUT --weights int4|int8|fp8 [options]",
    .summary =
        "Writes PATH (a model folder; \"demo\" is the embedded model) as a new folder OUT with quantised matrices\n"
        "in the format of compressed-tensors, or PATH (a GGUF file) as a new GGUF file OUT with matrices in Q4_0\n"
        "(int4) or Q8_0 (int8), and reports perplexity and divergence from the original.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 2,
};

enum { TOKENS_AUTO = 32768, EVAL_TOKENS_AUTO = 16384, WORST_SHOWN = 5 };

// Divergences up to which a format is called good.
static double bound_of(enum tensor_format format) {
    return format == TENSOR_INT4 ? 2e-2 : format == TENSOR_INT8 ? 1e-3 : 5e-3;
}

struct quantize {
    const struct quantize_options *options;
    const char *path, *out;
    struct model *model; // while it is quantised
    int32_t window;
    struct evaluated original, result;
    struct file_map calibrate_file, eval_file;
    token_vec calibrate_tokens, eval_tokens;
    struct str eval_name;
    struct quantizing quantizing;
};

// A place where nothing can be written is known before the work is done.
static int check_parent(const char *out, struct err *err) {
    char *copy = mem_copy_string(out, strlen(out));
    const char *parent = dirname(copy);
    int rc = access(parent, W_OK | X_OK);
    if (rc) rc = err_set(err, ERR_IO, "cannot create %s: %s: %s", out, parent, strerror(errno));
    free(copy);
    return rc;
}

static int check(const struct quantize *q, struct err *err) {
    const struct quantize_options *options = q->options;
    struct stat status;
    if (!q->out) return err_set(err, ERR_INVALID, "OUT is missing: where the new folder or GGUF file shall be");
    if (!options->weights) return err_set(err, ERR_INVALID, "a format is missing: --weights int4, int8 or fp8");
    if (strcmp(options->weights, "fp8") == 0 && options->group)
        return err_set(err, ERR_INVALID, "--group: fp8 has one scale for all inputs of an output");
    if (options->nearest && options->calibrate)
        return err_set(err, ERR_INVALID, "--nearest and --calibrate exclude each other");
    if (lstat(q->out, &status) == 0) return err_set(err, ERR_INVALID, "%s exists already", q->out);
    return check_parent(q->out, err);
}

static bool is_gguf(const struct model *model) {
    return strcmp(model->source_format, "gguf") == 0;
}

// Whether the model's matrices can be quantised, and written as its files are.
static int check_model(const struct quantize *q, struct err *err) {
    const struct model_spec *spec = &q->model->spec;
    const struct quantize_options *options = q->options;
    if (is_gguf(q->model) && strcmp(options->weights, "fp8") == 0)
        return err_set(err, ERR_UNSUPPORTED, "%s: GGUF has no form for fp8; int4 and int8 can be written", q->path);
    if (is_gguf(q->model) && options->group && strcmp(options->group, "32") != 0)
        return err_set(err, ERR_UNSUPPORTED, "--group %s: in GGUF 32 inputs share a scale", options->group);
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct tensor *matrix;
        for (size_t m = 0; (matrix = layer_matrix(spec, &spec->layers[i], m)); m++)
            if (tensor_format_is_quantised(matrix->format))
                return err_set(err, ERR_UNSUPPORTED, "%s: its weights are in %s already", q->path,
                               tensor_format_name(matrix->format));
    }
    return 0;
}

static int read_tokens(struct quantize *q, const char *path, struct file_map *file, token_vec *tokens,
                       struct err *err) {
    int rc = file_map_open(file, path, err);
    if (rc) return rc;
    rc = evaluated_tokens(q->model, NULL, file_map_text(file), tokens, err);
    return rc ? err_prefix(err, "%s", path) : 0;
}

// The text for the report, from what there is.
static int choose_eval_text(struct quantize *q, struct err *err) {
    const struct quantize_options *options = q->options;
    struct str_view shipped;
    if (options->eval) {
        str_append_text(&q->eval_name, options->eval);
        return read_tokens(q, options->eval, &q->eval_file, &q->eval_tokens, err);
    }
    if (options->calibrate) {
        const size_t n = q->calibrate_tokens.count, kept = n - n / 10;
        for (size_t i = kept; i < n; i++) vec_push(&q->eval_tokens, q->calibrate_tokens.items[i]);
        q->calibrate_tokens.count = kept;
        str_printf(&q->eval_name, "the last tenth of %s", options->calibrate);
        return 0;
    }
    if (!model_shipped_text(q->model, &shipped))
        return err_set(err, ERR_INVALID, "a text is missing for the report: --eval FILE, or --calibrate FILE");
    str_append_text(&q->eval_name, "held-out documents of the demo model");
    return evaluated_tokens(q->model, NULL, shipped, &q->eval_tokens, err);
}

static void cut(token_vec *tokens, int64_t wanted, size_t n_auto) {
    const size_t n = wanted ? (size_t)wanted : n_auto;
    if (tokens->count > n) tokens->count = n;
}

static int read_texts(struct quantize *q, struct err *err) {
    const struct quantize_options *options = q->options;
    int rc = 0;
    if (options->calibrate) rc = read_tokens(q, options->calibrate, &q->calibrate_file, &q->calibrate_tokens, err);
    if (!rc) rc = choose_eval_text(q, err);
    if (rc) return rc;
    cut(&q->calibrate_tokens, options->tokens, TOKENS_AUTO);
    cut(&q->eval_tokens, options->eval_tokens, EVAL_TOKENS_AUTO);
    if (q->eval_tokens.count < 16)
        return err_set(err, ERR_INVALID, "%s has %zu tokens, too few for a report", str_text(&q->eval_name),
                       q->eval_tokens.count);
    return 0;
}

static int quantize(struct quantize *q, struct err *err) {
    const struct quantize_options *options = q->options;
    struct quantizing_options how = {
        .method = options->nearest     ? QUANTIZER_NEAREST
                  : options->calibrate ? QUANTIZER_MEASURED
                                       : QUANTIZER_SEARCHED,
        .format = strcmp(options->weights, "int4") == 0   ? TENSOR_INT4
                  : strcmp(options->weights, "int8") == 0 ? TENSOR_INT8
                                                          : TENSOR_FP8,
        .calibrate_tokens = &q->calibrate_tokens,
        .eval_tokens = &q->eval_tokens,
        .window = q->window,
    };
    const bool gguf = is_gguf(q->model);
    if (options->group) how.group = (int32_t)strtol(options->group, NULL, 10);
    if (!how.group && (gguf || how.format == TENSOR_INT4)) how.group = TENSOR_GROUP;
    how.scales_f16 = gguf;
    int rc = quantizing_run(&q->quantizing, q->model, &how, err);
    if (rc) return rc;
    return (gguf ? quantized_gguf_write : quantized_folder_write)(q->model, q->quantizing.entries,
                                                                  q->quantizing.n_entries, q->out, err);
}

// -------------------------------------------------------------------------------------------------------------- report

static void print_worst(const struct quantize *q) {
    for (size_t i = 0; i < WORST_SHOWN && i < q->quantizing.n_entries; i++)
        printf("%-11s %s: outputs are off by %.2f %%\n", i ? "" : "worst", q->quantizing.errors[i].name,
               100 * q->quantizing.errors[i].error);
}

static void print_people(const struct quantize *q, const struct evaluated_report *report) {
    const struct quantizing *z = &q->quantizing;
    const struct quantized *first = &z->entries->quantized;
    struct evaluation_summary s;
    evaluation_summarise(report->evaluation, &s);
    const double bound = bound_of(first->format);
    printf("written     %s: %zu matrices in %s, ", q->out, z->n_entries, q->options->weights);
    if (first->group < first->n_cols)
        printf("%d inputs a scale", first->group);
    else
        printf("a scale an output");
    if (z->n_left) printf("; %zu matrices stay as they are, their inputs are no multiple of a group", z->n_left);
    printf("\nmethod      %s", q->options->nearest     ? "rounded to the nearest"
                               : q->options->calibrate ? "calibrated"
                                                       : "scales searched");
    if (q->options->calibrate) printf(" with %zu tokens of %s", q->calibrate_tokens.count, q->options->calibrate);
    printf("\n");
    evaluated_print(report);
    print_worst(q);
    if (s.divergence.mean <= bound)
        printf("verdict     good: a divergence of at most %g is good for %s\n", bound, q->options->weights);
    else
        printf("verdict     poor: a divergence of at most %g is good for %s%s\n", bound, q->options->weights,
               q->options->calibrate ? "" : "; --calibrate makes it smaller");
}

static void print_json(const struct quantize *q, const struct evaluated_report *report) {
    struct str json = STR_INIT;
    struct evaluation_summary s;
    evaluation_summarise(report->evaluation, &s);
    const double bound = bound_of(q->quantizing.entries->quantized.format);
    str_append_char(&json, '{');
    evaluated_append_json(report, &json);
    str_printf(&json, ", \"matrices\": %zu, \"matrices_left\": %zu, \"good\": %s, \"good_below\": %g, \"worst\": [",
               q->quantizing.n_entries, q->quantizing.n_left, s.divergence.mean <= bound ? "true" : "false", bound);
    for (size_t i = 0; i < WORST_SHOWN && i < q->quantizing.n_entries; i++)
        str_printf(&json, "%s{\"tensor\": \"%s\", \"error\": %.6g}", i ? ", " : "", q->quantizing.errors[i].name,
                   q->quantizing.errors[i].error);
    printf("%s]}\n", str_text(&json));
    str_close(&json);
}

static int report(struct quantize *q, struct err *err) {
    struct evaluated_options wanted = {.path = q->path, .device = "cpu", .window = q->window};
    struct evaluation_options windows;
    struct evaluation evaluation = {0};
    int rc = evaluated_open(&q->original, &wanted, err);
    wanted.path = q->out;
    if (!rc) rc = evaluated_open(&q->result, &wanted, err);
    if (!rc) rc = evaluated_windows(&q->result, &q->eval_tokens, EVALUATION_SLIDING, 0, &windows, err);
    if (rc) return rc;
    rc = evaluation_run(&evaluation, q->result.engine, q->original.engine, q->eval_tokens.items, q->eval_tokens.count,
                        &windows, err);
    if (rc) return rc;
    const struct evaluated_report report = {.model = &q->result,
                                            .reference = &q->original,
                                            .text_name = str_text(&q->eval_name),
                                            .tokens = &q->eval_tokens,
                                            .windows = &windows,
                                            .evaluation = &evaluation};
    if (q->options->json)
        print_json(q, &report);
    else
        print_people(q, &report);
    evaluation_close(&evaluation);
    return 0;
}

static int open_model(struct quantize *q, struct err *err) {
    const struct model_options options = {.path = q->path};
    int rc = model_open(&q->model, &options, err);
    if (rc) return rc;
    q->window = evaluated_window_auto(q->model);
    if (!q->model->tokenizer) return err_set(err, ERR_NOT_FOUND, "%s: there is no tokenizer", q->model->path);
    return check_model(q, err);
}

static int run(struct quantize *q, struct err *err) {
    int rc = check(q, err);
    if (!rc) rc = open_model(q, err);
    if (!rc) rc = read_texts(q, err);
    if (!rc) rc = quantize(q, err);
    return rc ? rc : report(q, err);
}

int quantize_main(int argc, char **argv) {
    struct quantize_options options = {0};
    struct option_result result;
    int status;
    if (!command_line_read_path("quantize", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    struct quantize q = {.options = &options, .path = result.positional[0], .out = result.positional[1]};
    int rc = run(&q, &err);
    quantizing_close(&q.quantizing);
    model_close(q.model);
    evaluated_close(&q.result);
    evaluated_close(&q.original);
    vec_free(&q.calibrate_tokens);
    vec_free(&q.eval_tokens);
    str_close(&q.eval_name);
    file_map_close(&q.calibrate_file);
    file_map_close(&q.eval_file);
    return command_line_end("quantize", rc, &err);
}
