// The prompts of POST /v1/completions: a text, texts, or token ids. The whole text is the client's own, so markers of
// special tokens in it count.
#include "server/completion.h"

#include "base/json.h"
#include "server/request_readers.h"
#include "server/server_state.h"

enum { PROMPTS_MAX = 2048 };

static int wrong_prompt(struct completion *c) {
    return api_error_set(&c->error, 400, "invalid_type", "prompt",
                         "'prompt' must be a string, an array of strings, or one or more arrays of token ids.");
}

static int read_text(struct completion *c, struct str_view literal, struct prompt *prompt) {
    if (json_first(literal) != '"') return wrong_prompt(c);
    struct prompt_text text = PROMPT_TEXT_INIT;
    json_unescape(literal, &prompt->text);
    prompt_text_append(&text, str_text(&prompt->text), prompt->text.n_bytes, true);
    int rc = text_work_encode(c, &text, "prompt", prompt);
    prompt_text_close(&text);
    return rc;
}

static int read_ids(struct completion *c, struct str_view array, struct prompt *prompt) {
    const struct server *server = c->server;
    struct json_cursor cursor = json_enter(array);
    struct str_view element;
    while (json_next_element(&cursor, &element)) {
        int64_t id = -1;
        if (json_read_int(element, &id) == ERR_INVALID) return wrong_prompt(c);
        if (id < 0 || id >= server->vocab)
            return api_error_set(&c->error, 400, "invalid_value", "prompt",
                                 "'prompt' has a token id outside of 0 to %d.", server->vocab - 1);
        if (prompt->ids.count == (size_t)server->engine.context)
            return text_work_too_long(c, (int64_t)prompt->ids.count + 1, "prompt");
        vec_push(&prompt->ids, (int32_t)id);
    }
    if (!prompt->ids.count)
        return api_error_set(&c->error, 400, "empty_array", "prompt", "'prompt' has an empty array.");
    if (!c->request.echo) return 0;
    struct err err = {0};
    if (!tokenizer_decode(server->engine.model->tokenizer, prompt->ids.items, prompt->ids.count,
                          c->request.skip_special, &prompt->text, &err))
        return 0;
    return api_error_set(&c->error, 400, "invalid_value", "prompt", "'prompt' cannot be turned into text.");
}

static size_t count_elements(struct str_view array) {
    struct json_cursor cursor = json_enter(array);
    struct str_view element;
    size_t n = 0;
    while (json_next_element(&cursor, &element)) n++;
    return n;
}

int completions_read_prompts(struct completion *c) {
    struct str_view value = c->request.prompt, element = {0};
    struct json_cursor cursor = json_enter(value);
    bool is_list = json_first(value) == '[';
    if (is_list && !json_next_element(&cursor, &element))
        return api_error_set(&c->error, 400, "empty_array", "prompt", "'prompt' must not be empty.");
    bool is_batch = is_list && !json_is_number(element);
    size_t n = is_batch ? count_elements(value) : 1;
    if (n > PROMPTS_MAX)
        return api_error_set(&c->error, 400, "array_above_max_length", "prompt", "'prompt' has more than %d prompts.",
                             PROMPTS_MAX);
    c->n_prompts = (int32_t)n;
    c->prompts = arena_alloc_zero(&c->arena, n, sizeof *c->prompts);
    if (json_first(value) == 'n') return 0; // null: from the beginning of a text
    if (!is_list) return read_text(c, value, &c->prompts[0]);
    if (!is_batch) return read_ids(c, value, &c->prompts[0]);
    cursor = json_enter(value);
    for (size_t i = 0; json_next_element(&cursor, &element); i++) {
        bool is_ids = json_first(element) == '[';
        int rc = is_ids ? read_ids(c, element, &c->prompts[i]) : read_text(c, element, &c->prompts[i]);
        if (rc) return rc;
    }
    return 0;
}
