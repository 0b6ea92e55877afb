// What the tests of chat templates share: rendering in one call, and the given files.
#pragma once

#include "tests/test.h"

#include "base/file_map.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/chat_template.h"

// 2026-07-04T12:00:00 UTC, the time at which the expected texts were made.
enum { NOW_S = 1783166400 };

struct token {
    const char *name, *text;
};
__attribute__((unused)) static const struct token standard_tokens[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

struct file_text {
    struct file_map map;
    struct str_view text;
};

static inline struct file_text read_file(const char *path) {
    struct file_text file;
    struct err err;
    char full[512];
    snprintf(full, sizeof full, "%s/%s", TEST_SHARED_DIR, path);
    if (file_map_open(&file.map, full, &err)) fail_msg("%s", err.text);
    file.text = (struct str_view){file.map.data, file.map.n_bytes};
    return file;
}

// Renders a template once; 0 and *out, or the error's code.
static inline int render_once(struct str_view source, struct str_view context, const struct token *tokens,
                              size_t n_tokens, struct prompt_text *out, struct err *err) {
    struct chat_template *template;
    *out = (struct prompt_text)PROMPT_TEXT_INIT;
    int code = chat_template_open(&template, source, err);
    if (code) return code;
    for (size_t i = 0; i < n_tokens; i++)
        chat_template_add_token(template, tokens[i].name, str_view_of(tokens[i].text));
    struct chat_template_input input = {.context_json = context, .now_s = NOW_S};
    code = chat_template_render(template, &input, out, err);
    chat_template_close(template);
    return code;
}

static inline struct str_view member(struct str_view object, const char *key) {
    struct str_view value = {0};
    assert_true(json_find_member(object.data, object.n_bytes, key, &value));
    return value;
}

static inline cJSON *parse_json(struct str_view text) {
    struct json_limits limits = JSON_LIMITS_FILE;
    struct err err;
    cJSON *tree;
    if (json_parse(&tree, text.data, text.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    return tree;
}
