// Text work of a request, on the worker pool: the body becomes checked values and token ids.
#include "server/completion.h"

#include "base/json.h"
#include "server/request_readers.h"
#include "server/server_state.h"

#include <string.h>

// Lists of token ids count each id as an element.
enum { BODY_ELEMENTS_MAX = 4000000, BODY_DEPTH_MAX = 128 };

static int check_model(struct completion *c) {
    const struct server *server = c->server;
    if (!c->request.model || server->options.any_model || !strcmp(c->request.model, server->model_name)) return 0;
    return api_error_set(&c->error, 404, "model_not_found", "model",
                         "The requested model does not exist or is not served here.");
}

static int read_body(struct completion *c) {
    const struct json_limits limits = {.depth = BODY_DEPTH_MAX, .elements = BODY_ELEMENTS_MAX};
    struct err err = {0};
    const char *text = str_text(&c->body);
    if (json_validate(text, c->body.n_bytes, &limits, &err))
        return api_error_set(&c->error, 400, "invalid_json", NULL,
                             "We could not parse the JSON body of your request: %s.", err.text);
    struct str_view body = {text, c->body.n_bytes};
    while (body.n_bytes && strchr(" \t\r\n", *body.data)) body.data++, body.n_bytes--;
    if (json_first(body) != '{')
        return api_error_set(&c->error, 400, "invalid_json", NULL,
                             "We could not parse the JSON body of your request: it must be an object.");
    const struct server_options *options = &c->server->options;
    const struct request_rules rules = {.endpoint = c->endpoint,
                                        .strict = options->strict,
                                        .n_choices_max = options->n_choices_max,
                                        .vocab = c->server->vocab};
    return request_read(&c->request, &c->arena, body, &rules, &c->error);
}

int text_work_too_long(struct completion *c, int64_t n_prompt, const char *param) {
    int32_t context = c->server->engine.context;
    int64_t n_wanted = c->request.max_tokens > 0 ? c->request.max_tokens : 1;
    return api_error_set(
        &c->error, 400, "context_length_exceeded", param,
        "This model's maximum context length is %d tokens. However, you requested at least %lld tokens "
        "(%lld in the %s, %lld in the completion). Please reduce the length of the %s or completion.",
        context, (long long)(n_prompt + n_wanted), (long long)n_prompt, param, (long long)n_wanted, param);
}

int text_work_encode(struct completion *c, const struct prompt_text *text, const char *param, struct prompt *prompt) {
    const struct tokenizer *tokenizer = c->server->engine.model->tokenizer;
    int32_t context = c->server->engine.context;
    size_t n_least = tokenizer_tokens_min(tokenizer, text->text.n_bytes);
    if (n_least > (size_t)context) return text_work_too_long(c, (int64_t)n_least, param);
    const struct tokenizer_encode_options options = {.add_special = c->request.add_special, .n_tokens_max = context};
    struct err err = {0};
    int rc = tokenizer_encode(tokenizer, text, &options, &prompt->ids, &err);
    if (rc == ERR_LIMIT) return text_work_too_long(c, (int64_t)context + 1, param);
    if (rc) return api_error_set(&c->error, 400, "invalid_value", param, "The text cannot be tokenised.");
    return 0;
}

// A model begins from at least one token.
static void begin_somewhere(struct completion *c, struct prompt *prompt) {
    const struct tokenizer *tokenizer = c->server->engine.model->tokenizer;
    int32_t start = tokenizer_bos(tokenizer) >= 0 ? tokenizer_bos(tokenizer) : tokenizer_eos(tokenizer);
    if (!prompt->ids.count && start >= 0) vec_push(&prompt->ids, start);
}

// Fits the answer behind the prompt, or refuses.
static int check_length(struct completion *c, struct prompt *prompt) {
    enum { COMPLETIONS_TOKENS_DEFAULT = 16 };
    const char *param = c->endpoint == ENDPOINT_CHAT ? "messages" : "prompt";
    begin_somewhere(c, prompt);
    if (!prompt->ids.count) return api_error_set(&c->error, 400, "invalid_value", param, "The prompt has no tokens.");
    int64_t n_prompt = (int64_t)prompt->ids.count, room = c->server->engine.context - n_prompt;
    int64_t wanted = c->request.max_tokens;
    if (room < (wanted < 0 ? 1 : wanted)) return text_work_too_long(c, n_prompt, param);
    if (wanted < 0) {
        wanted = c->endpoint == ENDPOINT_CHAT || room < COMPLETIONS_TOKENS_DEFAULT ? room : COMPLETIONS_TOKENS_DEFAULT;
        if (c->request.min_tokens > wanted)
            return api_error_set(&c->error, 400, "invalid_value", "min_tokens",
                                 "'min_tokens' must not be greater than the most tokens to generate.");
    }
    prompt->max_tokens = (int32_t)wanted;
    return 0;
}

void text_work(struct completion *c) {
    if (read_body(c) || check_model(c)) return;
    if (c->endpoint == ENDPOINT_CHAT ? chat_read_prompt(c) : completions_read_prompts(c)) return;
    for (int32_t i = 0; i < c->n_prompts; i++)
        if (check_length(c, &c->prompts[i])) return;
}
