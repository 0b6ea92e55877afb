#include "models/text_files.h"

#include "base/json.h"
#include "base/log.h"
#include "models/chat_template.h"
#include "models/template_tokens.h"
#include "models/tokenizer.h"

#include <string.h>

static int open_template(struct chat_template **out, struct str_view source, const char *path, const char *name,
                         bool strict, struct err *err) {
    struct err own = {0};
    int rc = chat_template_open(out, source, &own);
    if (!rc) return 0;
    *out = NULL;
    if (strict) return err_set(err, rc, "%s/%s: chat template: %s", path, name, own.text);
    log_warning("%s/%s: chat template: %s; chats are refused", path, name, own.text);
    return 0;
}

// "chat_template" is a text, or a list of named ones: "default" serves (and otherwise the first), and "tool_use" beside
// it when there are tools.
static const char *template_member(const cJSON *root, const char **tool_use) {
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(root, "chat_template"), *item;
    const char *first = NULL, *usual = NULL;
    *tool_use = NULL;
    if (cJSON_IsString(member)) return member->valuestring;
    if (!cJSON_IsArray(member)) return NULL;
    cJSON_ArrayForEach(item, member) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
        const char *source = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "template"));
        if (!source) continue;
        if (!first) first = source;
        if (name && strcmp(name, "default") == 0) usual = source;
        if (name && strcmp(name, "tool_use") == 0) *tool_use = source;
    }
    return usual ? usual : first;
}

static int add_tool_use(struct chat_template *chat_template, struct str_view source, const char *path,
                        const char *name, bool strict, struct err *err) {
    struct err own = {0};
    int rc = chat_template_add_tool_use(chat_template, source, &own);
    if (rc && strict) return err_set(err, rc, "%s/%s: chat template for tools: %s", path, name, own.text);
    if (rc) log_warning("%s/%s: chat template for tools: %s; the usual one serves", path, name, own.text);
    return 0;
}

// The template inside a JSON file of the folder; leaves *out NULL when there is none.
static int open_template_json(struct chat_template **out, const struct folder *folder, const char *name, bool strict,
                              struct err *err) {
    cJSON *root;
    int rc = folder_read_json_optional(folder, name, &root, err);
    if (rc || !root) return rc;
    const char *tool_use, *source = template_member(root, &tool_use);
    if (source) rc = open_template(out, str_view_of(source), folder->path, name, strict, err);
    if (!rc && *out && tool_use) rc = add_tool_use(*out, str_view_of(tool_use), folder->path, name, strict, err);
    cJSON_Delete(root);
    return rc;
}

static int open_folder_template(struct chat_template **out, const struct folder *folder, bool strict, struct err *err) {
    struct folder_file file;
    int rc = folder_file_open_optional(folder, "chat_template.jinja", &file, err);
    if (rc) return rc;
    if (file.data) {
        rc = open_template(out, folder_file_text(&file), folder->path, "chat_template.jinja", strict, err);
        folder_file_close(&file);
        return rc;
    }
    static const char *const names[] = {"tokenizer_config.json", "chat_template.json"};
    for (size_t i = 0; i < 2 && !*out && !rc; i++) rc = open_template_json(out, folder, names[i], strict, err);
    return rc;
}

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
    if (!rc) rc = open_folder_template(&out->chat_template, folder, strict, err);
    if (!rc && out->chat_template)
        rc = template_tokens_read_folder(out->chat_template, folder, out->tokenizer, err);
    if (rc) model_text_close(out);
    return rc;
}

int text_open_gguf(struct model_text *out, const struct gguf *gguf, const char *path, bool strict, struct err *err) {
    *out = (struct model_text){0};
    int rc = 0;
    if (gguf_find(gguf, "tokenizer.ggml.model")) rc = tokenizer_open_gguf(&out->tokenizer, gguf, err);
    struct str_view source = {0}, tool_use = {0};
    if (!rc) rc = gguf_get_string(gguf, "tokenizer.chat_template", &source, err);
    if (!rc) rc = gguf_get_string(gguf, "tokenizer.chat_template.tool_use", &tool_use, err);
    if (rc) err_prefix(err, "%s", path);
    if (!rc && source.n_bytes)
        rc = open_template(&out->chat_template, source, path, "tokenizer.chat_template", strict, err);
    if (!rc && out->chat_template && tool_use.n_bytes)
        rc = add_tool_use(out->chat_template, tool_use, path, "tokenizer.chat_template.tool_use", strict, err);
    if (!rc && out->chat_template) rc = template_tokens_read_gguf(out->chat_template, gguf, out->tokenizer, err);
    if (rc) model_text_close(out);
    return rc;
}

void model_text_close(struct model_text *text) {
    tokenizer_close(text->tokenizer);
    chat_template_close(text->chat_template);
    *text = (struct model_text){0};
}
