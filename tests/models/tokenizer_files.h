// Opening tokenizers for tests, from memory or from the shared data.
#pragma once

#include "base/file_map.h"
#include "models/gguf.h"
#include "models/tokenizer.h"
#include "tests/test.h"

// Never fails quietly: a tokenizer that cannot be opened fails the test with the reason.
static inline struct tokenizer *open_json_text(const char *json, const char *config) {
    struct tokenizer *t = NULL;
    struct err err = {0};
    struct str_view config_view = config ? str_view_of(config) : (struct str_view){0};
    if (tokenizer_open_json(&t, str_view_of(json), config_view, &err)) fail_msg("%s", err.text);
    return t;
}

static inline struct tokenizer *open_json_folder(const char *folder) {
    char path[2048];
    struct file_map file, config;
    struct tokenizer *t = NULL;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    if (file_map_open(&file, path, &err)) fail_msg("%s", err.text);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    bool has_config = file_map_open(&config, path, NULL) == 0;
    struct str_view view = has_config ? (struct str_view){config.data, config.n_bytes} : (struct str_view){0};
    if (tokenizer_open_json(&t, (struct str_view){file.data, file.n_bytes}, view, &err))
        fail_msg("%s: %s", folder, err.text);
    file_map_close(&file);
    if (has_config) file_map_close(&config);
    return t;
}

static inline struct tokenizer *open_gguf_file(const char *path) {
    struct file_map file;
    struct gguf gguf;
    struct tokenizer *t = NULL;
    struct err err = {0};
    if (file_map_open(&file, path, &err) || gguf_open(&gguf, file.data, file.n_bytes, &err)) fail_msg("%s", err.text);
    if (tokenizer_open_gguf(&t, &gguf, &err)) fail_msg("%s: %s", path, err.text);
    gguf_close(&gguf);
    file_map_close(&file);
    return t;
}

// Encodes one text of one trust; the caller frees with vec_free.
static inline token_vec encode_text(const struct tokenizer *t, const char *text, size_t n_bytes, bool trusted,
                                    bool add_special) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    token_vec ids = {0};
    struct err err = {0};
    struct tokenizer_encode_options options = {.add_special = add_special};
    prompt_text_append(&prompt, text, n_bytes, trusted);
    if (tokenizer_encode(t, &prompt, &options, &ids, &err)) fail_msg("%s", err.text);
    prompt_text_close(&prompt);
    return ids;
}
