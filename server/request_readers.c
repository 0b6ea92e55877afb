#include "server/request_readers.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

enum { TEMPLATE_KWARGS_MAX = 64, TEMPLATE_KWARGS_BYTES_MAX = 64 * 1024 };

char json_first(struct str_view value) {
    return value.n_bytes ? value.data[0] : 0;
}

bool json_is_number(struct str_view value) {
    char c = json_first(value);
    return c == '-' || (c >= '0' && c <= '9');
}

const char *arena_json_string(struct arena *arena, struct str_view literal, size_t *n_bytes) {
    struct str text = STR_INIT;
    json_unescape(literal, &text);
    *n_bytes = text.n_bytes;
    const char *copy = arena_copy_string(arena, str_text(&text), text.n_bytes);
    str_close(&text);
    return copy;
}

int field_wrong_type(const struct field_input *in, const char *expected) {
    return api_error_set(in->error, 400, "invalid_type", in->name, "'%s' must be %s.", in->name, expected);
}

static int wrong_value(const struct field_input *in, const char *expected) {
    return api_error_set(in->error, 400, "invalid_value", in->name, "'%s' must be %s.", in->name, expected);
}

static int unsupported_value(const struct field_input *in, const char *supported) {
    return api_error_set(in->error, 400, "unsupported_value", in->name, "Of '%s' this server supports only %s.",
                         in->name, supported);
}

static int add_stop(const struct field_input *in, struct str_view literal) {
    if (json_first(literal) != '"') return field_wrong_type(in, "a string or an array of strings");
    if (in->request->stops.n == STOP_STRINGS_MAX)
        return api_error_set(in->error, 400, "array_above_max_length", in->name, "'stop' has more than %d strings.",
                             STOP_STRINGS_MAX);
    size_t n_bytes;
    const char *text = arena_json_string(in->arena, literal, &n_bytes);
    if (n_bytes < 1 || n_bytes > STOP_STRING_BYTES_MAX)
        return api_error_set(in->error, 400, "invalid_value", in->name, "A stop string must have 1 to %d bytes.",
                             STOP_STRING_BYTES_MAX);
    stop_set_add(&in->request->stops, in->arena, text, n_bytes);
    return 0;
}

int read_stop(const struct field_input *in) {
    if (json_first(in->value) != '[') return add_stop(in, in->value);
    struct json_cursor cursor = json_enter(in->value);
    struct str_view element;
    while (json_next_element(&cursor, &element))
        if (add_stop(in, element)) return -1;
    return 0;
}

static int read_token(const struct field_input *in, struct str_view value, int64_t *token) {
    if (json_read_int(value, token) == ERR_INVALID) return field_wrong_type(in, "an array of token ids");
    if (*token < 0 || *token >= in->rules->vocab)
        return api_error_set(in->error, 400, "invalid_value", in->name, "'%s' has a token id outside of 0 to %d.",
                             in->name, in->rules->vocab - 1);
    return 0;
}

int read_stop_token_ids(const struct field_input *in) {
    if (json_first(in->value) != '[') return field_wrong_type(in, "an array of token ids");
    struct json_cursor cursor = json_enter(in->value);
    struct str_view element;
    while (json_next_element(&cursor, &element)) {
        int64_t token = -1;
        if (read_token(in, element, &token)) return -1;
        if (in->request->n_stop_tokens == REQUEST_STOP_TOKENS_MAX)
            return api_error_set(in->error, 400, "array_above_max_length", in->name,
                                 "'stop_token_ids' has more than %d ids.", REQUEST_STOP_TOKENS_MAX);
        in->request->stop_tokens[in->request->n_stop_tokens++] = (int32_t)token;
    }
    return 0;
}

int read_logit_bias(const struct field_input *in) {
    if (json_first(in->value) != '{') return field_wrong_type(in, "an object of token ids and numbers");
    struct request *r = in->request;
    r->bias = arena_alloc(in->arena, LOGIT_BIAS_MAX * sizeof *r->bias);
    struct json_cursor cursor = json_enter(in->value);
    struct str_view key, value;
    while (json_next_member(&cursor, &key, &value)) {
        struct str_view digits = {key.data + 1, key.n_bytes - 2};
        int64_t token = -1;
        bool plain = digits.n_bytes && (digits.data[0] != '0' || digits.n_bytes == 1);
        for (size_t i = 0; i < digits.n_bytes; i++) plain = plain && digits.data[i] >= '0' && digits.data[i] <= '9';
        if (!plain || json_read_int(digits, &token) || token >= in->rules->vocab)
            return api_error_set(in->error, 400, "invalid_value", in->name,
                                 "'logit_bias' has a key that is not a token id from 0 to %d.", in->rules->vocab - 1);
        if (!json_is_number(value)) return field_wrong_type(in, "an object of token ids and numbers");
        double add = json_read_double(value);
        if (!(add >= -100 && add <= 100)) return wrong_value(in, "an object with values between -100 and 100");
        if (r->n_bias == LOGIT_BIAS_MAX)
            return api_error_set(in->error, 400, "invalid_value", in->name, "'logit_bias' has more than %d entries.",
                                 LOGIT_BIAS_MAX);
        r->bias[r->n_bias++] = (struct logit_edit){(int32_t)token, add <= -100 ? -INFINITY : (float)add};
    }
    return 0;
}

static int read_option(const struct field_input *in, const char *name, bool *out) {
    struct str_view value;
    if (!json_find_member(in->value.data, in->value.n_bytes, name, &value) || json_first(value) == 'n') return 0;
    if (json_first(value) != 't' && json_first(value) != 'f')
        return api_error_set(in->error, 400, "invalid_type", in->name, "'stream_options.%s' must be true or false.",
                             name);
    *out = json_first(value) == 't';
    return 0;
}

int read_stream_options(const struct field_input *in) {
    if (json_first(in->value) != '{') return field_wrong_type(in, "an object");
    if (read_option(in, "include_usage", &in->request->include_usage)) return -1;
    return read_option(in, "continuous_usage_stats", &in->request->continuous_usage);
}

int read_response_format(const struct field_input *in) {
    struct str_view type;
    if (json_first(in->value) != '{') return field_wrong_type(in, "an object");
    if (!json_find_member(in->value.data, in->value.n_bytes, "type", &type) || json_first(type) != '"')
        return wrong_value(in, "an object with a type");
    if (!json_string_is(type, "text")) return unsupported_value(in, "{\"type\":\"text\"}");
    return 0;
}

// Without tools only the choices that call none are possible.
int read_tool_choice(const struct field_input *in) {
    if (json_string_is(in->value, "none") || json_string_is(in->value, "auto")) return 0;
    if (json_first(in->value) != '"' && json_first(in->value) != '{')
        return field_wrong_type(in, "a string or an object");
    return unsupported_value(in, "\"none\" and \"auto\"");
}

int read_modalities(const struct field_input *in) {
    if (json_first(in->value) != '[') return field_wrong_type(in, "an array of strings");
    struct json_cursor cursor = json_enter(in->value);
    struct str_view element;
    while (json_next_element(&cursor, &element))
        if (!json_string_is(element, "text")) return unsupported_value(in, "\"text\"");
    return 0;
}

int read_reasoning_effort(const struct field_input *in) {
    static const char *const words[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (json_string_is(in->value, words[i])) in->request->reasoning_effort = words[i];
    if (json_first(in->value) != '"') return field_wrong_type(in, "a string");
    if (!in->request->reasoning_effort)
        return wrong_value(in, "one of none, minimal, low, medium, high, xhigh and max");
    return 0;
}

int read_best_of(const struct field_input *in) {
    int64_t value = 0;
    if (json_read_int(in->value, &value) == ERR_INVALID) return field_wrong_type(in, "an integer");
    if (value != in->request->n_choices) return unsupported_value(in, "the value of 'n'");
    return 0;
}

int read_messages(const struct field_input *in) {
    if (json_first(in->value) != '[') return field_wrong_type(in, "an array of messages");
    in->request->messages = in->value;
    return 0;
}

int read_prompt(const struct field_input *in) {
    char c = json_first(in->value);
    if (c != '"' && c != '[' && c != 'n')
        return field_wrong_type(in, "a string, an array of strings, or one or more arrays of token ids");
    in->request->prompt = in->value;
    return 0;
}

// A name that a template can use as a variable and that does not replace one of ours.
static bool is_free_variable(struct str_view key) {
    static const char *const reserved[] = {"messages",
                                           "tools",
                                           "documents",
                                           "add_generation_prompt",
                                           "chat_template",
                                           "continue_final_message",
                                           "bos_token",
                                           "eos_token",
                                           "unk_token",
                                           "pad_token",
                                           "tokenize",
                                           "return_dict",
                                           "return_tensors",
                                           "conversation",
                                           "padding",
                                           "truncation",
                                           "max_length",
                                           "strftime_now",
                                           "raise_exception",
                                           "self",
                                           "loop"};
    size_t n = key.n_bytes - 2;
    if (n < 1 || n > 64) return false;
    for (size_t i = 1; i <= n; i++) {
        char c = key.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 1 && c >= '0' && c <= '9')) return false;
    }
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (json_string_is(key, reserved[i])) return false;
    return true;
}

int read_template_kwargs(const struct field_input *in) {
    if (json_first(in->value) != '{') return field_wrong_type(in, "an object");
    if (in->value.n_bytes > TEMPLATE_KWARGS_BYTES_MAX)
        return api_error_set(in->error, 400, "invalid_value", in->name, "'%s' has more than %d bytes.", in->name,
                             TEMPLATE_KWARGS_BYTES_MAX);
    struct json_cursor cursor = json_enter(in->value);
    struct str_view key, value;
    int n = 0;
    while (json_next_member(&cursor, &key, &value)) {
        if (++n > TEMPLATE_KWARGS_MAX) return wrong_value(in, "an object of at most 64 members");
        if (!is_free_variable(key)) return wrong_value(in, "an object whose names are not reserved");
        if (json_first(value) == '{' || json_first(value) == '[')
            return wrong_value(in, "an object of strings, numbers, true, false and null");
    }
    in->request->template_kwargs = in->value;
    return 0;
}
