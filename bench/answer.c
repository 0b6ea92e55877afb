#include "bench/answer.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static const struct json_limits LIMITS = {
    .depth = 64, .elements = 4000000, .allow_nul = true, .allow_duplicates = true};
enum { PROBLEM_BYTES = 300 };

void answer_begin(struct answer *answer, bool keep_text) {
    str_clear(&answer->held), str_clear(&answer->text), str_clear(&answer->problem);
    *answer = (struct answer){.keep_text = keep_text,
                              .held = answer->held,
                              .text = answer->text,
                              .problem = answer->problem,
                              .usage = {-1, -1, -1}};
}

void answer_close(struct answer *answer) {
    str_close(&answer->held), str_close(&answer->text), str_close(&answer->problem);
}

static void blame(struct answer *answer, bool malformed, const char *text, size_t n_bytes) {
    if (answer->problem.n_bytes) return;
    answer->malformed = malformed;
    str_append(&answer->problem, text, n_bytes < PROBLEM_BYTES ? n_bytes : (size_t)PROBLEM_BYTES);
}

// -------------------------------------------------------------------------------------------------- JSON of the API

static bool is_text(struct str_view value) {
    return value.n_bytes > 2 && value.data[0] == '"';
}

static bool is_object(struct str_view value) {
    return value.n_bytes && value.data[0] == '{';
}

static void read_count(struct str_view value, int64_t *out) {
    int64_t count;
    if (json_read_int(value, &count) == 0 && count >= 0) *out = count;
}

static void read_usage(struct answer *answer, struct str_view usage) {
    struct str_view key, value, inner;
    if (!is_object(usage)) return;
    for (struct json_cursor at = json_enter(usage); json_next_member(&at, &key, &value);) {
        if (json_string_is(key, "prompt_tokens")) read_count(value, &answer->usage.prompt);
        if (json_string_is(key, "completion_tokens")) read_count(value, &answer->usage.output);
        if (!json_string_is(key, "prompt_tokens_details") || !is_object(value)) continue;
        for (struct json_cursor in = json_enter(value); json_next_member(&in, &key, &inner);)
            if (json_string_is(key, "cached_tokens")) read_count(inner, &answer->usage.cached);
    }
}

// A message, or the part of one that an event adds: true when it holds text, thoughts or arguments of a tool call.
static bool read_message(struct answer *answer, struct str_view message) {
    struct str_view key, value;
    bool brings = false;
    if (!is_object(message)) return false;
    for (struct json_cursor at = json_enter(message); json_next_member(&at, &key, &value);) {
        if (json_string_is(key, "content") && is_text(value)) {
            brings = true;
            if (answer->keep_text) json_unescape(value, &answer->text);
        }
        if ((json_string_is(key, "reasoning_content") || json_string_is(key, "reasoning")) && is_text(value))
            brings = true;
        if (json_string_is(key, "tool_calls") && value.data[0] == '[' && value.n_bytes > 2) brings = true;
    }
    return brings;
}

static bool read_choice(struct answer *answer, struct str_view choice) {
    struct str_view key, value;
    bool brings = false;
    if (!is_object(choice)) return false;
    for (struct json_cursor at = json_enter(choice); json_next_member(&at, &key, &value);) {
        if (json_string_is(key, "delta") || json_string_is(key, "message")) brings |= read_message(answer, value);
        if (json_string_is(key, "text") && is_text(value)) {
            brings = true;
            if (answer->keep_text) json_unescape(value, &answer->text);
        }
        if (json_string_is(key, "finish_reason") && is_text(value)) answer->n_choices++;
    }
    return brings;
}

static bool read_document(struct answer *answer, const char *text, size_t n_bytes) {
    struct err err;
    if (json_validate(text, n_bytes, &LIMITS, &err)) {
        blame(answer, true, err.text, strlen(err.text));
        return false;
    }
    while (n_bytes && strchr(" \t\r\n", *text)) text++, n_bytes--;
    struct str_view document = {text, n_bytes}, key, value, choice;
    if (!is_object(document)) {
        blame(answer, true, "not a JSON object", 17);
        return false;
    }
    bool brings = false, known = false;
    for (struct json_cursor at = json_enter(document); json_next_member(&at, &key, &value);) {
        if (json_string_is(key, "usage")) read_usage(answer, value), known = true;
        if (json_string_is(key, "error") && !str_view_equal(value, STR_VIEW("null"))) {
            blame(answer, false, value.data, value.n_bytes);
            return false;
        }
        if (!json_string_is(key, "choices") || value.data[0] != '[') continue;
        known = true;
        for (struct json_cursor in = json_enter(value); json_next_element(&in, &choice);)
            brings |= read_choice(answer, choice);
    }
    if (!known) blame(answer, true, "neither choices nor usage nor an error in it", 44);
    return brings;
}

// ------------------------------------------------------------------------------------------------------------ stream

static bool read_line(struct answer *answer, const char *line, size_t n) {
    if (n && line[n - 1] == '\r') n--;
    if (n == 0 || line[0] == ':') return false;
    if (n < 5 || memcmp(line, "data:", 5) != 0) {
        const bool field = (n >= 6 && memcmp(line, "event:", 6) == 0) || (n >= 3 && memcmp(line, "id:", 3) == 0) ||
                           (n >= 6 && memcmp(line, "retry:", 6) == 0);
        if (!field) blame(answer, true, "a line of the event stream that is no field", 43);
        return false;
    }
    line += 5, n -= 5;
    if (n && *line == ' ') line++, n--;
    if (n == 6 && memcmp(line, "[DONE]", 6) == 0) {
        answer->ended = true;
        return false;
    }
    return read_document(answer, line, n);
}

static void hold(struct answer *answer, const char *bytes, size_t n_bytes) {
    if (answer->held.n_bytes + n_bytes > ANSWER_BYTES_MAX) {
        blame(answer, true, "an answer without an end", 24);
        return;
    }
    str_append(&answer->held, bytes, n_bytes);
}

int answer_read(struct answer *answer, const char *bytes, size_t n_bytes) {
    int n_events = 0;
    if (!answer->is_stream) {
        hold(answer, bytes, n_bytes);
        return 0;
    }
    for (const char *end; n_bytes && (end = memchr(bytes, '\n', n_bytes));) {
        size_t n = (size_t)(end - bytes);
        if (answer->held.n_bytes) {
            hold(answer, bytes, n);
            n_events += read_line(answer, answer->held.data, answer->held.n_bytes);
            str_clear(&answer->held);
        } else {
            n_events += read_line(answer, bytes, n);
        }
        bytes += n + 1, n_bytes -= n + 1;
    }
    if (n_bytes) hold(answer, bytes, n_bytes);
    return n_events;
}

int answer_end(struct answer *answer) {
    if (answer->is_stream) {
        if (answer->held.n_bytes) blame(answer, true, "the event stream ends within a line", 35);
        return 0;
    }
    return read_document(answer, str_text(&answer->held), answer->held.n_bytes);
}
