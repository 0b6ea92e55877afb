#include "bench/trace.h"
#include "base/file_map.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Of a line or a whole file of conversations.
static const struct json_limits LIMITS = {
    .depth = 32, .elements = 50000000, .allow_nul = true, .allow_duplicates = true};

static int wrong(const char *path, size_t line, const char *what, struct err *err) {
    return err_set(err, ERR_FORMAT, "%s: line %zu: %s", path, line, what);
}

static struct trace_item *add_item(struct trace *trace) {
    vec_push(&trace->items, ((struct trace_item){.block_first = (uint32_t)trace->blocks.count,
                                                 .text_first = (uint32_t)trace->texts.count}));
    return &trace->items.items[trace->items.count - 1];
}

static void add_text(struct trace *trace, struct trace_item *item, const char *text, size_t n_bytes) {
    vec_push(&trace->texts, mem_copy_string(text, n_bytes));
    item->n_texts++;
}

static void add_literal(struct trace *trace, struct trace_item *item, struct str_view literal) {
    struct str text = STR_INIT;
    json_unescape(literal, &text);
    add_text(trace, item, str_text(&text), text.n_bytes);
    str_close(&text);
}

// ------------------------------------------------------------------------------------------------------------- Azure

// "2023-11-16 18:17:03.9799600,4808,10"
static int read_azure_line(struct trace *trace, const char *line, size_t n_bytes, const char **problem) {
    char text[96], rest[2];
    struct tm day = {0};
    double seconds;
    long prompt, output;
    if (n_bytes >= sizeof text) {
        *problem = "too long";
        return -1;
    }
    memcpy(text, line, n_bytes);
    text[n_bytes] = 0;
    const int n = sscanf(text, "%4d-%2d-%2d %2d:%2d:%lf,%ld,%ld%1[^\r]", &day.tm_year, &day.tm_mon, &day.tm_mday,
                         &day.tm_hour, &day.tm_min, &seconds, &prompt, &output, rest);
    if (n != 8 || prompt < 1 || output < 0 || !(seconds >= 0 && seconds < 61)) {
        *problem = "expected a time and two numbers of tokens";
        return -1;
    }
    day.tm_year -= 1900, day.tm_mon -= 1;
    struct trace_item *item = add_item(trace);
    item->at_s = (double)timegm(&day) + seconds;
    item->n_prompt = prompt;
    item->n_output = output > 0 ? output : 1;
    return 0;
}

// -------------------------------------------------------------------------------------------------------- JSON lines

static void read_texts(struct trace *trace, struct trace_item *item, struct str_view value) {
    struct str_view entry;
    if (value.data[0] == '"') add_literal(trace, item, value);
    if (value.data[0] != '[') return;
    for (struct json_cursor in = json_enter(value); json_next_element(&in, &entry);)
        if (entry.data[0] == '"') add_literal(trace, item, entry);
}

static bool read_length(struct str_view value, int64_t *out) {
    return json_read_int(value, out) == 0 && *out >= 0;
}

static int read_json_line(struct trace *trace, const char *line, size_t n_bytes, const char **problem) {
    struct err err;
    struct str_view key, value, entry, object = {line, n_bytes};
    *problem = "expected a JSON object";
    if (json_validate(line, n_bytes, &LIMITS, &err) || line[0] != '{') return -1;
    struct trace_item *item = add_item(trace);
    bool good = true;
    for (struct json_cursor at = json_enter(object); json_next_member(&at, &key, &value);) {
        int64_t block;
        if (json_string_is(key, "timestamp")) {
            item->at_s = json_read_double(value) / 1000;
            trace->is_timed = true;
        } else if (json_string_is(key, "input_length")) {
            good &= read_length(value, &item->n_prompt);
        } else if (json_string_is(key, "output_length")) {
            good &= read_length(value, &item->n_output);
        } else if (json_string_is(key, "hash_ids") && value.data[0] == '[') {
            for (struct json_cursor in = json_enter(value); json_next_element(&in, &entry);) {
                good &= json_read_int(entry, &block) == 0;
                vec_push(&trace->blocks, (uint64_t)block);
                item->n_blocks++;
            }
        } else if (json_string_is(key, "prompt") || json_string_is(key, "text") || json_string_is(key, "turns")) {
            read_texts(trace, item, value);
        }
    }
    *problem = "expected input_length, or a prompt, text or turns";
    good = good && isfinite(item->at_s) && (item->n_prompt > 0 || item->n_texts > 0);
    if (item->n_output == 0 && item->n_prompt) item->n_output = 1;
    return good ? 0 : -1;
}

// ---------------------------------------------------------------------------------------------------------- ShareGPT

static void read_conversation(struct trace *trace, struct str_view turns) {
    struct str_view turn, key, value;
    struct trace_item *item = add_item(trace);
    for (struct json_cursor at = json_enter(turns); json_next_element(&at, &turn);) {
        struct str_view said = {0};
        bool human = false;
        if (turn.data[0] != '{') continue;
        for (struct json_cursor in = json_enter(turn); json_next_member(&in, &key, &value);) {
            if (json_string_is(key, "from") || json_string_is(key, "role"))
                human = json_string_is(value, "human") || json_string_is(value, "user");
            if ((json_string_is(key, "value") || json_string_is(key, "content")) && value.data[0] == '"') said = value;
        }
        if (human && said.n_bytes > 2) add_literal(trace, item, said);
    }
    if (!item->n_texts) trace->items.count--;
}

static int read_conversations(struct trace *trace, const char *path, struct str_view text, struct err *err) {
    struct err reason;
    struct str_view conversation, key, value;
    if (json_validate(text.data, text.n_bytes, &LIMITS, &reason))
        return err_set(err, ERR_FORMAT, "%s: %s", path, reason.text);
    for (struct json_cursor at = json_enter(text); json_next_element(&at, &conversation);) {
        if (conversation.data[0] != '{') continue;
        for (struct json_cursor in = json_enter(conversation); json_next_member(&in, &key, &value);)
            if ((json_string_is(key, "conversations") || json_string_is(key, "messages")) && value.data[0] == '[')
                read_conversation(trace, value);
    }
    return 0;
}

// -------------------------------------------------------------------------------------------------------------- open

static int read_lines(struct trace *trace, const char *path, struct str_view text, struct err *err) {
    const bool azure = str_view_starts_with(text, STR_VIEW("TIMESTAMP"));
    const char *end = text.data + text.n_bytes, *problem = NULL;
    size_t number = 0;
    for (const char *line = text.data, *next; line < end; line = next) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        next = stop ? stop + 1 : end;
        size_t n = (size_t)((stop ? stop : end) - line);
        while (n && (line[n - 1] == '\r' || line[n - 1] == ' ')) n--;
        number++;
        if (n == 0 || (azure && number == 1)) continue;
        if (azure && read_azure_line(trace, line, n, &problem)) return wrong(path, number, problem, err);
        if (!azure && line[0] == '{' && read_json_line(trace, line, n, &problem))
            return wrong(path, number, problem, err);
        if (!azure && line[0] != '{') add_text(trace, add_item(trace), line, n);
    }
    trace->is_timed |= azure;
    return 0;
}

static int by_time(const void *a, const void *b) {
    const struct trace_item *x = a, *y = b;
    if (x->at_s != y->at_s) return x->at_s < y->at_s ? -1 : 1;
    return x->text_first < y->text_first ? -1 : x->text_first > y->text_first;
}

int trace_open(struct trace *out, const char *path, struct err *err) {
    *out = (struct trace){0};
    struct file_map file;
    int rc = file_map_open(&file, path, err);
    if (rc) return rc;
    struct str_view text = file_map_text(&file);
    while (text.n_bytes && strchr(" \t\r\n", *text.data)) text.data++, text.n_bytes--;
    rc = text.n_bytes && text.data[0] == '[' ? read_conversations(out, path, text, err)
                                             : read_lines(out, path, text, err);
    file_map_close(&file);
    if (!rc && out->items.count == 0) rc = err_set(err, ERR_FORMAT, "%s: nothing in it", path);
    if (rc) {
        trace_close(out);
        return rc;
    }
    qsort(out->items.items, out->items.count, sizeof *out->items.items, by_time);
    for (size_t i = out->items.count; i-- > 0;) out->items.items[i].at_s -= out->items.items[0].at_s;
    return 0;
}

void trace_close(struct trace *trace) {
    for (size_t i = 0; i < trace->texts.count; i++) free(trace->texts.items[i]);
    vec_free(&trace->texts);
    vec_free(&trace->blocks);
    vec_free(&trace->items);
}
