#include "models/template_tokens.h"

#include "base/json.h"

#include <string.h>

// What transformers calls the special tokens map.
static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
enum { N_NAMES = sizeof names / sizeof *names };

// "<s>", or {"content": "<s>", ...}, or null: the model has none.
static void add_item(struct chat_template *chat_template, const char *name, const cJSON *item) {
    if (cJSON_IsObject(item)) item = cJSON_GetObjectItemCaseSensitive(item, "content");
    if (cJSON_IsString(item)) chat_template_add_token(chat_template, name, str_view_of(item->valuestring));
    if (cJSON_IsNull(item)) chat_template_add_token(chat_template, name, (struct str_view){0});
}

static void add_members(struct chat_template *chat_template, const cJSON *root) {
    for (size_t i = 0; i < N_NAMES; i++)
        add_item(chat_template, names[i], cJSON_GetObjectItemCaseSensitive(root, names[i]));
    const cJSON *extra = cJSON_GetObjectItemCaseSensitive(root, "extra_special_tokens"), *item;
    if (!cJSON_IsObject(extra)) return;
    cJSON_ArrayForEach(item, extra) add_item(chat_template, item->string, item);
}

static int add_file(struct chat_template *chat_template, const struct folder *folder, const char *name,
                    struct err *err) {
    cJSON *root;
    int rc = folder_read_json_optional(folder, name, &root, err);
    if (rc || !root) return rc;
    add_members(chat_template, root);
    cJSON_Delete(root);
    return 0;
}

static void add_id(struct chat_template *chat_template, const char *name, const struct tokenizer *tokenizer,
                   int64_t id) {
    if (!tokenizer || id < 0 || id >= tokenizer_vocab(tokenizer)) return;
    struct str text = STR_INIT;
    tokenizer_token_bytes(tokenizer, (int32_t)id, &text);
    chat_template_add_token(chat_template, name, (struct str_view){str_text(&text), text.n_bytes});
    str_close(&text);
}

static void add_ends(struct chat_template *chat_template, const struct tokenizer *tokenizer) {
    if (!tokenizer) return;
    add_id(chat_template, "bos_token", tokenizer, tokenizer_bos(tokenizer));
    add_id(chat_template, "eos_token", tokenizer, tokenizer_eos(tokenizer));
}

int template_tokens_read_folder(struct chat_template *chat_template, const struct folder *folder,
                                const struct tokenizer *tokenizer, struct err *err) {
    int rc = add_file(chat_template, folder, "tokenizer_config.json", err);
    if (!rc) rc = add_file(chat_template, folder, "special_tokens_map.json", err);
    if (!rc) add_ends(chat_template, tokenizer);
    return rc;
}

int template_tokens_read_gguf(struct chat_template *chat_template, const struct gguf *gguf,
                              const struct tokenizer *tokenizer, struct err *err) {
    int64_t unknown = -1, padding = -1;
    int rc = gguf_get_int(gguf, "tokenizer.ggml.unknown_token_id", 0, INT32_MAX, &unknown, err);
    if (!rc) rc = gguf_get_int(gguf, "tokenizer.ggml.padding_token_id", 0, INT32_MAX, &padding, err);
    if (rc) return rc;
    add_ends(chat_template, tokenizer);
    add_id(chat_template, "unk_token", tokenizer, unknown);
    add_id(chat_template, "pad_token", tokenizer, padding);
    return 0;
}
