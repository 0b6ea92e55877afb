// The prompt of POST /v1/chat/completions: messages through the model's chat template.
#include "server/completion.h"

#include "base/clock.h"
#include "base/json.h"
#include "models/chat_template.h"
#include "server/chat_messages.h"
#include "server/server_state.h"

#include <stdlib.h>
#include <string.h>

enum { LARGE_BYTES = 8 << 20 };

// Where the last occurrence of `part` begins in `text`; -1: nowhere. Knuth-Morris-Pratt: linear whatever clients send.
static ptrdiff_t find_last(struct str_view text, struct str_view part) {
    size_t *failure = mem_alloc_zero(part.n_bytes + 1, sizeof *failure);
    ptrdiff_t found = -1;
    for (size_t i = 1, k = 0; i < part.n_bytes; i++) {
        while (k && part.data[i] != part.data[k]) k = failure[k];
        if (part.data[i] == part.data[k]) k++;
        failure[i + 1] = k;
    }
    for (size_t i = 0, k = 0; i < text.n_bytes && part.n_bytes; i++) {
        if (k == part.n_bytes) k = failure[k];
        while (k && text.data[i] != part.data[k]) k = failure[k];
        if (text.data[i] == part.data[k]) k++;
        if (k == part.n_bytes) found = (ptrdiff_t)(i + 1 - part.n_bytes);
    }
    free(failure);
    return found;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Cuts the rendering behind the last message's text, as Hugging Face does: with the text's trailing blanks when the
// template kept them.
static int cut_behind(struct completion *c, struct prompt_text *rendered, struct str_view content) {
    struct str plain = STR_INIT;
    if (content.n_bytes && *content.data == '"') json_unescape(content, &plain);
    size_t begin = 0, end = plain.n_bytes;
    while (begin < end && is_blank(plain.data[begin])) begin++;
    while (end > begin && is_blank(plain.data[end - 1])) end--;
    struct str_view stripped = {str_text(&plain) + begin, end - begin};
    struct str_view text = {str_text(&rendered->text), rendered->text.n_bytes};
    ptrdiff_t at = find_last(text, stripped);
    if (at >= 0) {
        size_t n_trailing = plain.n_bytes - end, cut = (size_t)at + stripped.n_bytes;
        bool kept = text.n_bytes - cut >= n_trailing && !memcmp(text.data + cut, plain.data + end, n_trailing);
        prompt_text_cut(rendered, kept ? cut + n_trailing : cut);
    }
    str_close(&plain);
    if (at >= 0) return 0;
    return api_error_set(&c->error, 400, "invalid_value", "continue_final_message",
                         "The last message has no text that could be continued.");
}

static int render(struct completion *c, struct str_view context, struct prompt_text *out) {
    const struct model *model = c->server->engine.model;
    struct chat_template_input input = {.context_json = context, .now_s = clock_wall_s()};
    input.limits.output_bytes = context.n_bytes + LARGE_BYTES;
    struct err err = {0};
    int rc = chat_template_render(model->chat_template, &input, out, &err);
    if (rc == ERR_LIMIT)
        api_error_set(&c->error, 400, "invalid_value", "messages", "The messages need too much work.");
    else if (rc)
        api_error_set(&c->error, 400, "invalid_value", "messages", "The chat template refused the messages: %s",
                      err.text);
    return rc ? -1 : 0;
}

static int encode_messages(struct completion *c, struct str *context) {
    struct str_view final_content;
    if (chat_messages_context(&c->request, context, &final_content, &c->error)) return -1;
    if (!c->server->engine.model->chat_template)
        return api_error_set(&c->error, 400, "unsupported_parameter", "messages",
                             "This model has no chat template; use /v1/completions.");
    // An escape takes at most six bytes for one: a large text that is surely too long is not rendered first.
    size_t n_bytes = c->request.messages.n_bytes;
    size_t n_least = tokenizer_tokens_min(c->server->engine.model->tokenizer, n_bytes / 6);
    if (n_bytes > LARGE_BYTES && n_least > (size_t)c->server->engine.context)
        return text_work_too_long(c, (int64_t)n_least, "messages");
    struct prompt_text rendered = PROMPT_TEXT_INIT;
    int rc = render(c, (struct str_view){context->data, context->n_bytes}, &rendered);
    if (!rc && c->request.continue_final_message) rc = cut_behind(c, &rendered, final_content);
    if (!rc) rc = text_work_encode(c, &rendered, "messages", &c->prompts[0]);
    prompt_text_close(&rendered);
    return rc;
}

int chat_read_prompt(struct completion *c) {
    c->n_prompts = 1;
    c->prompts = arena_alloc_zero(&c->arena, 1, sizeof *c->prompts);
    struct str context = STR_INIT;
    int rc = encode_messages(c, &context);
    str_close(&context);
    return rc;
}
