// What a completion sends: chunks of a stream, the usage, the whole answer.
//
// A chunk is one event: "data: {...}\n\n". Everything that is equal in all chunks of a stream is prepared once.
#include "server/completion.h"

#include "base/json.h"
#include "server/server_state.h"

#include <string.h>

static bool is_chat(const struct completion *c) {
    return c->endpoint == ENDPOINT_CHAT;
}

static void append_head(const struct completion *c, const char *object, struct str *out) {
    str_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", c->id, object,
               (long long)c->created_s);
    json_append_string(out, c->server->model_name, strlen(c->server->model_name));
    str_append_text(out, ",\"system_fingerprint\":\"fp_optima_" OPTIMA_VERSION "\",\"choices\":[");
}

void completion_json_head(struct completion *c) {
    str_append_text(&c->chunk_head, "data: ");
    append_head(c, is_chat(c) ? "chat.completion.chunk" : "text_completion", &c->chunk_head);
}

static const char *finish_text(enum finish_reason finish) {
    return finish == FINISH_STOP ? "\"stop\"" : finish == FINISH_LENGTH ? "\"length\"" : "null";
}

static void append_index(const struct completion *c, const struct choice *choice, struct str *out) {
    char digits[12], *at = digits + sizeof digits;
    size_t index = (size_t)(choice - c->choices);
    do *--at = (char)('0' + index % 10);
    while (index /= 10);
    str_append_text(out, "\"index\":");
    str_append(out, at, (size_t)(digits + sizeof digits - at));
}

static void append_logprobs(const struct completion *c, struct choice *choice, bool wanted, struct str *out) {
    str_append_text(out, ",\"logprobs\":");
    if (wanted && c->request.n_top_logprobs >= 0)
        logprobs_json_write(&choice->logprobs, out);
    else
        str_append_text(out, "null");
}

static void append_usage(const struct completion *c, struct str *out) {
    int64_t n_prompt = 0, n_cached = 0, n_generated = 0;
    for (int32_t i = 0; i < c->n_prompts; i++) {
        n_prompt += (int64_t)c->prompts[i].ids.count;
        n_cached += c->prompts[i].n_cached;
    }
    for (int32_t i = 0; i < c->n_choices; i++) n_generated += c->choices[i].n_generated;
    str_printf(
        out,
        "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
        "\"prompt_tokens_details\":{\"cached_tokens\":%lld},\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
        (long long)n_prompt, (long long)n_generated, (long long)(n_prompt + n_generated), (long long)n_cached);
}

static void append_chunk_end(const struct completion *c, struct str *out) {
    str_append_char(out, ']');
    if (c->request.continuous_usage) {
        str_append_char(out, ',');
        append_usage(c, out);
    }
    str_append_text(out, "}\n\n");
}

static void append_chat_delta(const struct completion *c, struct choice *choice, bool role, bool finish,
                              struct str *out) {
    str_append_text(out, ",\"delta\":{");
    if (role) {
        str_append_text(out, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    } else if (!finish) {
        str_append_text(out, "\"content\":");
        json_append_string(out, str_text(&choice->text), choice->text.n_bytes);
        str_clear(&choice->text);
    }
    str_append_char(out, '}');
    // The tokens that came with the role belong to the chunk of their text.
    if (role && c->request.n_top_logprobs >= 0)
        str_append_text(out, ",\"logprobs\":{\"content\":[],\"refusal\":null}");
    else
        append_logprobs(c, choice, !role && (!finish || choice->logprobs.n_tokens), out);
}

void completion_json_chunk(const struct completion *c, struct choice *choice, bool role, bool finish, struct str *out) {
    str_append(out, str_text(&c->chunk_head), c->chunk_head.n_bytes);
    str_append_char(out, '{');
    if (is_chat(c)) {
        append_index(c, choice, out);
        append_chat_delta(c, choice, role, finish, out);
    } else {
        str_append_text(out, "\"text\":");
        json_append_string(out, str_text(&choice->text), choice->text.n_bytes);
        str_clear(&choice->text);
        str_append_char(out, ',');
        append_index(c, choice, out);
        append_logprobs(c, choice, choice->logprobs.n_tokens, out);
    }
    str_append_text(out, ",\"finish_reason\":");
    str_append_text(out, finish ? finish_text(choice->finish) : "null");
    str_append_char(out, '}');
    append_chunk_end(c, out);
}

void completion_json_usage_chunk(const struct completion *c, struct str *out) {
    str_append(out, str_text(&c->chunk_head), c->chunk_head.n_bytes);
    str_append_text(out, "],");
    append_usage(c, out);
    str_append_text(out, "}\n\n");
}

// vLLM's extension: null for the first token, then one object a token.
static void append_prompt_logprobs(const struct completion *c, const struct prompt *prompt, struct str *out) {
    if (c->request.n_prompt_top_logprobs < 0) return;
    str_append_text(out, ",\"prompt_logprobs\":[null");
    for (size_t i = 0; i < prompt->logprobs.count; i++) {
        str_append_char(out, ',');
        prompt_logprobs_append(out, c->server->engine.model->tokenizer, &prompt->logprobs.items[i],
                               (int32_t)c->request.n_prompt_top_logprobs);
    }
    str_append_char(out, ']');
}

static void append_choice(const struct completion *c, struct choice *choice, struct str *out) {
    str_append_char(out, '{');
    if (is_chat(c)) {
        append_index(c, choice, out);
        str_append_text(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
        json_append_string(out, str_text(&choice->text), choice->text.n_bytes);
        str_append_text(out, ",\"refusal\":null}");
    } else {
        str_append_text(out, "\"text\":");
        json_append_string(out, str_text(&choice->text), choice->text.n_bytes);
        str_append_char(out, ',');
        append_index(c, choice, out);
    }
    append_logprobs(c, choice, true, out);
    str_printf(out, ",\"finish_reason\":%s", finish_text(choice->finish));
    if (!is_chat(c)) append_prompt_logprobs(c, &c->prompts[(choice - c->choices) / c->request.n_choices], out);
    str_append_char(out, '}');
}

void completion_json_answer(struct completion *c, struct str *out) {
    append_head(c, is_chat(c) ? "chat.completion" : "text_completion", out);
    for (int32_t i = 0; i < c->n_choices; i++) {
        if (i) str_append_char(out, ',');
        append_choice(c, &c->choices[i], out);
    }
    str_append_text(out, "],");
    append_usage(c, out);
    if (is_chat(c)) append_prompt_logprobs(c, &c->prompts[0], out);
    str_append_char(out, '}');
}
