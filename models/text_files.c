#include "models/text_files.h"

#include "models/tokenizer.h"

#include <string.h>

int text_open_tokenizer(struct model_text *out, const struct folder *folder, const char *name, struct err *err) {
    struct folder_file tokens, config;
    int rc = folder_file_open(folder, name, &tokens, err);
    if (rc) return rc;
    rc = folder_file_open_optional(folder, "tokenizer_config.json", &config, err);
    if (!rc) rc = tokenizer_open_json(&out->tokenizer, folder_file_text(&tokens), folder_file_text(&config), err);
    if (rc) err_prefix(err, "%s/%s", folder->path, name);
    folder_file_close(&tokens);
    folder_file_close(&config);
    return rc;
}

int text_open_folder(struct model_text *out, const struct folder *folder, bool strict, struct err *err) {
    *out = (struct model_text){0};
    struct folder_file tokens;
    int rc = folder_file_open_optional(folder, "tokenizer.json", &tokens, err);
    bool has_tokenizer = tokens.data != NULL;
    folder_file_close(&tokens);
    if (!rc && has_tokenizer) rc = text_open_tokenizer(out, folder, "tokenizer.json", err);
    (void)strict;
    if (rc) model_text_close(out);
    return rc;
}

int text_open_gguf(struct model_text *out, const struct gguf *gguf, const char *path, bool strict, struct err *err) {
    *out = (struct model_text){0};
    int rc = 0;
    if (gguf_find(gguf, "tokenizer.ggml.model")) rc = tokenizer_open_gguf(&out->tokenizer, gguf, err);
    (void)strict;
    if (rc) err_prefix(err, "%s", path);
    if (rc) model_text_close(out);
    return rc;
}

void model_text_close(struct model_text *text) {
    tokenizer_close(text->tokenizer);
    *text = (struct model_text){0};
}
