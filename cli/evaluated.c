#include "cli/evaluated.h"

#include "base/json.h"
#include "engine/memory_plan.h"
#include "models/prompt_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int32_t evaluated_window_auto(const struct model *model) {
    const int32_t context = model->spec.context_max;
    return context < EVALUATED_WINDOW_AUTO ? context : EVALUATED_WINDOW_AUTO;
}

static int open_all(struct evaluated *e, const struct evaluated_options *options, struct err *err) {
    struct model_options model_options = {.path = options->path};
    e->weights = options->weights ? options->weights : "auto";
    int rc = model_open(&e->model, &model_options, err);
    if (rc) return rc;
    const int32_t context = e->model->spec.context_max;
    e->window = options->window ? options->window : evaluated_window_auto(e->model);
    if (!e->model->tokenizer) return err_set(err, ERR_NOT_FOUND, "%s: there is no tokenizer", e->model->path);
    if (e->window > context)
        return err_set(err, ERR_INVALID, "%s: a window of %d tokens; the model was made for %d", e->model->path,
                       e->window, context);
    struct backend_options backend_options = {.device = options->device, .instruction_set = "auto"};
    struct engine_options engine_options = {.context = e->window,
                                            .kv_bytes = memory_plan_kv_bytes(&e->model->spec, e->window),
                                            .kv_format = options->kv_format,
                                            .weights = options->weights};
    rc = backend_open(&e->backend, &backend_options, err);
    return rc ? rc : engine_open(&e->engine, e->model, e->backend, &engine_options, err);
}

int evaluated_open(struct evaluated *out, const struct evaluated_options *options, struct err *err) {
    *out = (struct evaluated){0};
    int rc = open_all(out, options, err);
    if (rc) evaluated_close(out);
    return rc;
}

void evaluated_close(struct evaluated *evaluated) {
    engine_close(evaluated->engine);
    if (evaluated->backend) backend_close(evaluated->backend);
    model_close(evaluated->model);
    *evaluated = (struct evaluated){0};
}

// ---------------------------------------------------------------------------------------------------------------- text

static int check_tokenizers(const struct model *one, const struct model *other, struct err *err) {
    const struct tokenizer *a = one->tokenizer, *b = other->tokenizer;
    int32_t n = tokenizer_vocab(a);
    if (tokenizer_vocab(b) != n)
        return err_set(err, ERR_INVALID, "the models have different tokenizers: of %d and of %d tokens", n,
                       tokenizer_vocab(b));
    for (int32_t id = 0; id < n; id++)
        if (!str_view_equal(tokenizer_token_text(a, id), tokenizer_token_text(b, id)))
            return err_set(err, ERR_INVALID, "the models have different tokenizers: token %d is not the same", id);
    return 0;
}

int evaluated_tokens(const struct model *model, const struct model *other, struct str_view text, token_vec *out,
                     struct err *err) {
    int rc = other ? check_tokenizers(model, other, err) : 0;
    if (rc) return rc;
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    struct tokenizer_encode_options how = {.add_special = true};
    prompt_text_append(&prompt, text.data, text.n_bytes, true);
    rc = tokenizer_encode(model->tokenizer, &prompt, &how, out, err);
    prompt_text_close(&prompt);
    return rc;
}

int evaluated_windows(const struct evaluated *evaluated, const token_vec *tokens, enum evaluation_rule rule,
                      int64_t stride, struct evaluation_options *out, struct err *err) {
    const int32_t window = evaluated->window, bos = tokenizer_bos(evaluated->model->tokenizer);
    *out = (struct evaluation_options){.rule = rule, .window = window, .bos = -1};
    if (tokens->count > 0 && tokens->items[0] == bos) out->bos = bos;
    if (stride > window)
        return err_set(err, ERR_INVALID, "a stride of %lld tokens is longer than the window of %d", (long long)stride,
                       window);
    out->stride = stride ? (int32_t)stride : window / 2;
    return 0;
}

// -------------------------------------------------------------------------------------------------------------- report

static double scored_bytes(const struct evaluated_report *report) {
    struct str bytes = STR_INIT;
    double n = 0;
    for (size_t i = 0; i < report->evaluation->n_scored; i++) {
        str_clear(&bytes);
        tokenizer_token_bytes(report->model->model->tokenizer, report->tokens->items[report->evaluation->token[i]],
                              &bytes);
        n += (double)bytes.n_bytes;
    }
    str_close(&bytes);
    return n;
}

static struct interval bits_per_byte(const struct evaluated_report *report, const struct interval *perplexity) {
    double scale = (double)report->evaluation->n_scored / (scored_bytes(report) * log(2));
    return (struct interval){log(perplexity->mean) * scale, log(perplexity->low) * scale,
                             log(perplexity->high) * scale};
}

static void print_model(const char *role, const struct evaluated *e) {
    printf("%-11s %s (%s, %.1f M parameters), weights %s, KV cache %s\n", role, e->model->name, e->model->spec.family,
           (double)e->model->spec.n_parameters / 1e6, e->weights, kv_format_name(engine_kv(e->engine)->format));
}

static void print_windows(const struct evaluation_options *windows, size_t n_scored) {
    if (windows->rule == EVALUATION_HALVES)
        printf("windows     %d tokens, the second half of each is scored: %zu tokens (as llama.cpp's perplexity)\n",
               windows->window, n_scored);
    else
        printf("windows     %d tokens, each %d behind the one before, scoring what that has not: %zu tokens (as "
               "transformers' guide to perplexity)\n",
               windows->window, windows->stride, n_scored);
}

static void print_interval(const char *name, const struct interval *x, const char *format, const char *unit) {
    printf("%-11s ", name);
    printf(format, x->mean);
    if (isfinite(x->low) && isfinite(x->high)) {
        printf("  [");
        printf(format, x->low);
        printf(", ");
        printf(format, x->high);
        printf("]");
    }
    printf("%s%s\n", *unit ? "  " : "", unit);
}

void evaluated_print(const struct evaluated_report *report) {
    struct evaluation_summary s;
    evaluation_summarise(report->evaluation, &s);
    print_model("model", report->model);
    if (report->reference) print_model("reference", report->reference);
    printf("device      %s\n", backend_description(report->model->backend));
    printf("text        %s, %zu tokens\n", report->text_name, report->tokens->count);
    print_windows(report->windows, report->evaluation->n_scored);
    struct interval bits = bits_per_byte(report, &s.perplexity);
    print_interval("perplexity", &s.perplexity, "%.4f", "a token [95 %, from the means of neighbouring tokens]");
    print_interval("bits a byte", &bits, "%.4f", "");
    if (!report->reference) return;
    print_interval("reference", &s.reference_perplexity, "%.4f", "perplexity a token");
    print_interval("difference", &s.difference, "%+.4f", "of perplexities, token by token");
    print_interval("divergence", &s.divergence, "%.3g", "KL(reference, model), nats a token");
    printf("            median %.3g, 99 %% below %.3g, largest %.3g\n", s.divergence_median, s.divergence_p99,
           s.divergence_max);
    printf("agreement   %.2f %% of the most probable tokens\n", 100 * s.agreement);
}

static void append_number(struct str *out, double x) {
    if (isfinite(x))
        str_printf(out, "%.9g", x);
    else
        str_append_text(out, "null");
}

static void append_interval(struct str *out, const char *name, const struct interval *x) {
    str_printf(out, ", \"%s\": {\"mean\": ", name);
    append_number(out, x->mean);
    str_append_text(out, ", \"low\": ");
    append_number(out, x->low);
    str_append_text(out, ", \"high\": ");
    append_number(out, x->high);
    str_append_char(out, '}');
}

static void append_text(struct str *out, const char *name, const char *text) {
    str_printf(out, "\"%s\": ", name);
    json_append_string(out, text, strlen(text));
}

static void append_model(struct str *out, const char *role, const struct evaluated *e) {
    str_printf(out, "\"%s\": {", role);
    append_text(out, "name", e->model->name);
    str_append_text(out, ", ");
    append_text(out, "path", e->model->path);
    str_printf(out, ", \"weights\": \"%s\", \"kv_format\": \"%s\", ", e->weights,
               kv_format_name(engine_kv(e->engine)->format));
    append_text(out, "device", backend_description(e->backend));
    str_append_text(out, "}, ");
}

static void append_comparison(struct str *out, const struct evaluation_summary *s) {
    append_interval(out, "reference_perplexity", &s->reference_perplexity);
    append_interval(out, "perplexity_difference", &s->difference);
    append_interval(out, "divergence", &s->divergence);
    str_append_text(out, ", \"divergence_median\": ");
    append_number(out, s->divergence_median);
    str_append_text(out, ", \"divergence_p99\": ");
    append_number(out, s->divergence_p99);
    str_append_text(out, ", \"divergence_max\": ");
    append_number(out, s->divergence_max);
    str_printf(out, ", \"agreement\": %.9g", s->agreement);
}

void evaluated_append_json(const struct evaluated_report *report, struct str *out) {
    struct evaluation_summary s;
    const struct evaluation_options *windows = report->windows;
    const bool halves = windows->rule == EVALUATION_HALVES;
    evaluation_summarise(report->evaluation, &s);
    append_model(out, "model", report->model);
    if (report->reference) append_model(out, "reference", report->reference);
    append_text(out, "text", report->text_name);
    str_printf(out, ", \"windows\": {\"as\": \"%s\", \"window\": %d, \"stride\": %d}",
               halves ? "llama.cpp" : "transformers", windows->window, halves ? windows->window : windows->stride);
    str_printf(out, ", \"tokens\": %zu, \"tokens_scored\": %zu", report->tokens->count, report->evaluation->n_scored);
    struct interval bits = bits_per_byte(report, &s.perplexity);
    append_interval(out, "perplexity", &s.perplexity);
    append_interval(out, "bits_per_byte", &bits);
    if (report->reference) append_comparison(out, &s);
}
