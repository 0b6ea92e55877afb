#include "server/chat_messages.h"

#include "base/json.h"
#include "server/request_readers.h"

#include <stdio.h>
#include <string.h>

// One message while it is read.
struct message {
    int index;
    struct str_view role, content, tool_calls; // raw values; empty: absent or null
    bool content_is_null;
    struct str *out;
    struct api_error *error;
};

static int fail(const struct message *m, const char *code, const char *member, const char *what) {
    char param[64];
    snprintf(param, sizeof param, *member ? "messages[%d].%s" : "messages[%d]%s", m->index, member);
    return api_error_set(m->error, 400, code, param, "'%s' %s.", param, what);
}

static bool is_null(struct str_view value) {
    return json_first(value) == 'n';
}

// Joins text parts into one literal: what stands between the quotes can be put together as it is.
static int append_parts(struct message *m) {
    struct json_cursor parts = json_enter(m->content);
    struct str_view part, type, text;
    str_append_char(m->out, '"');
    for (int i = 0; json_next_element(&parts, &part); i++) {
        char member[32];
        snprintf(member, sizeof member, "content[%d]", i);
        if (i == CHAT_PARTS_MAX) return fail(m, "array_above_max_length", "content", "has too many parts");
        if (json_first(part) != '{') return fail(m, "invalid_type", member, "must be an object with a type");
        if (!json_find_member(part.data, part.n_bytes, "type", &type) || json_first(type) != '"')
            return fail(m, "invalid_value", member, "must have a type");
        const char *key = json_string_is(type, "refusal") ? "refusal" : "text";
        bool is_text = json_string_is(type, "text") || json_string_is(type, "input_text") || *key == 'r';
        if (!is_text)
            return fail(m, "unsupported_value", member, "is of a type that this model cannot read; send text");
        if (!json_find_member(part.data, part.n_bytes, key, &text) || json_first(text) != '"')
            return fail(m, "invalid_type", member, "must have its text as a string");
        str_append(m->out, text.data + 1, text.n_bytes - 2);
    }
    str_append_char(m->out, '"');
    return 0;
}

static bool has_tool_calls(const struct message *m) {
    struct str_view call;
    struct json_cursor cursor = json_enter(m->tool_calls);
    return m->tool_calls.n_bytes && json_next_element(&cursor, &call);
}

static int append_content(struct message *m) {
    bool is_assistant = json_string_is(m->role, "assistant");
    switch (json_first(m->content)) {
    case '"':
        str_append(m->out, m->content.data, m->content.n_bytes);
        return 0;
    case '[':
        return append_parts(m);
    case 0:
        break;
    default:
        return fail(m, "invalid_type", "content", "must be a string or an array of content parts");
    }
    if (!is_assistant)
        return fail(m, m->content_is_null ? "invalid_type" : "missing_required_parameter", "content",
                    "must be a string or an array of content parts");
    str_append_text(m->out, has_tool_calls(m) ? "null" : "\"\"");
    return 0;
}

// Appends an object's members but one, and then that one with another value.
static void append_replaced(struct str *out, struct str_view object, const char *name, struct str_view value) {
    struct json_cursor cursor = json_enter(object);
    struct str_view key, member;
    bool first = true;
    str_append_char(out, '{');
    while (json_next_member(&cursor, &key, &member)) {
        if (!first) str_append_char(out, ',');
        first = false;
        if (json_string_is(key, name)) member = value;
        str_append(out, key.data, key.n_bytes);
        str_append_char(out, ':');
        str_append(out, member.data, member.n_bytes);
    }
    str_append_char(out, '}');
}

// Templates iterate over arguments, so a text that holds a JSON object becomes that object.
static void append_tool_call(struct str *out, struct str_view call) {
    struct str_view function, arguments;
    struct str plain = STR_INIT, replaced = STR_INIT;
    struct json_limits limits = JSON_LIMITS_CLIENT;
    bool has_text = json_first(call) == '{' && json_find_member(call.data, call.n_bytes, "function", &function) &&
                    json_first(function) == '{' &&
                    json_find_member(function.data, function.n_bytes, "arguments", &arguments) &&
                    json_first(arguments) == '"';
    if (has_text) json_unescape(arguments, &plain);
    if (has_text && *str_text(&plain) == '{' && !json_validate(str_text(&plain), plain.n_bytes, &limits, NULL)) {
        append_replaced(&replaced, function, "arguments", (struct str_view){plain.data, plain.n_bytes});
        append_replaced(out, call, "function", (struct str_view){replaced.data, replaced.n_bytes});
    } else {
        str_append(out, call.data, call.n_bytes);
    }
    str_close(&plain);
    str_close(&replaced);
}

static void append_tool_calls(struct message *m) {
    struct json_cursor cursor = json_enter(m->tool_calls);
    struct str_view call;
    str_append_char(m->out, '[');
    for (int i = 0; json_next_element(&cursor, &call); i++) {
        if (i) str_append_char(m->out, ',');
        append_tool_call(m->out, call);
    }
    str_append_char(m->out, ']');
}

static int check_role(struct message *m) {
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer", "function"};
    if (!m->role.n_bytes) return fail(m, "missing_required_parameter", "role", "is required");
    if (json_first(m->role) != '"') return fail(m, "invalid_type", "role", "must be a string");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (json_string_is(m->role, roles[i])) return 0;
    return fail(m, "invalid_value", "role", "must be system, developer, user, assistant or tool");
}

static void append_others(struct message *m, struct str_view object) {
    static const char *const done[] = {"role", "content", "tool_calls"};
    struct json_cursor cursor = json_enter(object);
    struct str_view key, value;
    while (json_next_member(&cursor, &key, &value)) {
        bool is_done = is_null(value);
        for (size_t i = 0; i < sizeof done / sizeof *done; i++) is_done |= json_string_is(key, done[i]);
        if (is_done) continue;
        str_append_char(m->out, ',');
        str_append(m->out, key.data, key.n_bytes);
        str_append_char(m->out, ':');
        str_append(m->out, value.data, value.n_bytes);
    }
}

static void find_members(struct message *m, struct str_view object) {
    struct json_cursor cursor = json_enter(object);
    struct str_view key, value;
    while (json_next_member(&cursor, &key, &value)) {
        if (json_string_is(key, "content")) m->content_is_null = is_null(value);
        if (is_null(value)) continue;
        if (json_string_is(key, "role"))
            m->role = value;
        else if (json_string_is(key, "content"))
            m->content = value;
        else if (json_string_is(key, "tool_calls"))
            m->tool_calls = value;
    }
}

// *content_begin, *content_end: where the content's literal stands in the output.
static int append_message(struct message *m, struct str_view object, size_t *content_begin, size_t *content_end) {
    if (json_first(object) != '{') return fail(m, "invalid_type", "", "must be an object");
    find_members(m, object);
    if (check_role(m)) return -1;
    if (m->tool_calls.n_bytes && json_first(m->tool_calls) != '[')
        return fail(m, "invalid_type", "tool_calls", "must be an array");
    struct str_view role = json_string_is(m->role, "developer") ? STR_VIEW("\"system\"") : m->role;
    str_append_text(m->out, "{\"role\":");
    str_append(m->out, role.data, role.n_bytes);
    str_append_text(m->out, ",\"content\":");
    *content_begin = m->out->n_bytes;
    if (append_content(m)) return -1;
    *content_end = m->out->n_bytes;
    if (m->tool_calls.n_bytes) {
        str_append_text(m->out, ",\"tool_calls\":");
        append_tool_calls(m);
    }
    append_others(m, object);
    str_append_char(m->out, '}');
    return 0;
}

static void append_variables(const struct request *request, struct str *out) {
    // As Hugging Face calls a template: what is not given is none, not undefined.
    str_printf(out, ",\"tools\":null,\"documents\":null,\"add_generation_prompt\":%s",
               request->add_generation_prompt ? "true" : "false");
    struct str_view given, key, value;
    struct str_view kwargs = request->template_kwargs.n_bytes ? request->template_kwargs : STR_VIEW("{}");
    if (request->reasoning_effort && !json_find_member(kwargs.data, kwargs.n_bytes, "reasoning_effort", &given))
        str_printf(out, ",\"reasoning_effort\":\"%s\"", request->reasoning_effort);
    if (request->reasoning_effort && !strcmp(request->reasoning_effort, "none") &&
        !json_find_member(kwargs.data, kwargs.n_bytes, "enable_thinking", &given))
        str_append_text(out, ",\"enable_thinking\":false");
    struct json_cursor cursor = json_enter(kwargs);
    while (json_next_member(&cursor, &key, &value)) {
        str_append_char(out, ',');
        str_append(out, key.data, key.n_bytes);
        str_append_char(out, ':');
        str_append(out, value.data, value.n_bytes);
    }
}

int chat_messages_context(const struct request *request, struct str *context, struct str_view *final_content,
                          struct api_error *error) {
    struct json_cursor cursor = json_enter(request->messages);
    struct str_view object;
    size_t content_begin = 0, content_end = 0;
    int n = 0;
    str_append_text(context, "{\"messages\":[");
    for (; json_next_element(&cursor, &object); n++) {
        struct message message = {.index = n, .out = context, .error = error};
        if (n == CHAT_MESSAGES_MAX)
            return api_error_set(error, 400, "array_above_max_length", "messages",
                                 "'messages' has more than %d entries.", CHAT_MESSAGES_MAX);
        if (n) str_append_char(context, ',');
        if (append_message(&message, object, &content_begin, &content_end)) return -1;
    }
    if (!n) return api_error_set(error, 400, "empty_array", "messages", "'messages' must have at least one message.");
    str_append_char(context, ']');
    append_variables(request, context);
    str_append_char(context, '}');
    *final_content = (struct str_view){context->data + content_begin, content_end - content_begin};
    return 0;
}
