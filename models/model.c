#include "models/model.h"

#include "base/file_map.h"
#include "base/log.h"
#include "models/chat_template.h"
#include "models/checkpoint.h"
#include "models/config.h"
#include "models/family.h"
#include "models/text_files.h"
#include "models/tokenizer.h"
#include "models/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct model_private {
    struct arena arena;
    struct checkpoint *checkpoint;
    struct file_map gguf_file;
    struct gguf gguf;
    struct model_config config;
    struct model_text text;
    bool is_demo;
};

static bool is_demo(const char *path) {
    return !path || strcmp(path, "demo") == 0;
}

// The draft of the demo: its files without the folder's name, in the arena. It has no tokenizer of its own.
static struct folder demo_draft_folder(struct arena *arena) {
    static const char prefix[] = "draft/";
    struct folder demo = folder_of_demo();
    struct embedded_file *files = arena_alloc(arena, (demo.n_files + 1) * sizeof *files);
    size_t n = 0;
    for (size_t i = 0; i < demo.n_files; i++) {
        if (strncmp(demo.files[i].name, prefix, sizeof prefix - 1) != 0) continue;
        files[n] = demo.files[i];
        files[n++].name += sizeof prefix - 1;
    }
    return folder_of_embedded("embedded draft", files, n);
}

static bool has_suffix(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n > m && strcmp(text + n - m, suffix) == 0;
}

// The last part of a path without the suffix of a file. A snapshot in a Hugging Face cache has a hash for a name; there
// the repository gives it: ".../models--OWNER--NAME/snapshots/HASH".
static const char *name_of(struct arena *arena, const char *path) {
    char *resolved = realpath(path, NULL);
    char *name = arena_copy_string(arena, resolved ? resolved : path, strlen(resolved ? resolved : path));
    free(resolved);
    char *snapshots = strstr(name, "/snapshots/"), *repository = strstr(name, "/models--");
    if (snapshots && repository && repository < snapshots) {
        *snapshots = 0;
        for (char *next; (next = strstr(repository, "--"));) repository = next + strlen("--");
        return repository;
    }
    char *slash = strrchr(name, '/'), *last = slash && slash[1] ? slash + 1 : name;
    size_t n = strlen(last);
    if (has_suffix(last, ".gguf") || has_suffix(last, ".json")) last[n - strlen(".gguf")] = 0;
    return last;
}

// Older writers of AWQ and GPTQ have a file of their own.
static int read_quantization(struct model_private *private, const struct folder *folder, struct err *err) {
    static const char *const names[] = {"quantize_config.json", "quant_config.json"};
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof names / sizeof *names; i++) {
        cJSON *root = NULL;
        rc = folder_read_json_optional(folder, names[i], &root, err);
        if (rc) break;
        rc = config_read_quantization(&private->config, root, err);
        if (rc) err_prefix(err, "%s/%s", folder->path, names[i]);
        cJSON_Delete(root);
    }
    return rc;
}

static int read_config(struct model_private *private, const struct folder *folder, struct err *err) {
    struct folder_file file, generation;
    int rc = folder_file_open(folder, "config.json", &file, err);
    if (rc) return rc;
    rc = config_read_json(&private->config, &private->arena, folder_file_text(&file), err);
    if (rc) err_prefix(err, "%s/config.json", folder->path);
    folder_file_close(&file);
    if (!rc) rc = read_quantization(private, folder, err);
    if (!rc) rc = folder_file_open_optional(folder, "generation_config.json", &generation, err);
    if (rc) return rc;
    if (generation.data) {
        rc = config_read_generation(&private->config, folder_file_text(&generation), err);
        if (rc) err_prefix(err, "%s/generation_config.json", folder->path);
    }
    folder_file_close(&generation);
    return rc;
}

static int open_folder(struct model *model, const struct folder *folder, struct err *err) {
    struct model_private *private = model->private_data;
    model->source_format = "safetensors";
    int rc = read_config(private, folder, err);
    if (!rc) rc = checkpoint_open_folder(&private->checkpoint, folder, err);
    if (!rc) checkpoint_expect_quantised(private->checkpoint, &private->config.quantization);
    return rc ? rc : text_open_folder(&private->text, folder, false, err);
}

static int open_gguf_file(struct file_map *file, struct gguf *gguf, const char *path, struct err *err) {
    int rc = file_map_open(file, path, err);
    if (rc) return rc;
    rc = gguf_open(gguf, file->data, file->n_bytes, err);
    return rc ? err_prefix(err, "%s", path) : 0;
}

static int open_gguf(struct model *model, const char *path, struct err *err) {
    struct model_private *private = model->private_data;
    model->source_format = "gguf";
    int rc = open_gguf_file(&private->gguf_file, &private->gguf, path, err);
    if (rc) return rc;
    madvise((void *)(uintptr_t) private->gguf_file.data, private->gguf_file.n_bytes, MADV_WILLNEED);
    rc = config_read_gguf(&private->config, &private->arena, &private->gguf, err);
    if (rc) return err_prefix(err, "%s", path);
    checkpoint_open_gguf(&private->checkpoint, &private->gguf, true, path);
    return text_open_gguf(&private->text, &private->gguf, path, false, err);
}

static int open_random(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    model->source_format = "random";
    struct file_map file;
    int rc = file_map_open(&file, options->random_weights_path, err);
    if (rc) return rc;
    rc = config_read_json(&private->config, &private->arena, file_map_text(&file), err);
    file_map_close(&file);
    if (rc) return err_prefix(err, "%s", options->random_weights_path);
    checkpoint_open_random(&private->checkpoint, private->config.weight_format, options->random_seed,
                           options->random_weights_path);
    struct folder demo = folder_of_demo();
    return text_open_folder(&private->text, &demo, false, err);
}

static int open_source(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    const char *path = options->random_weights_path ? options->random_weights_path : options->path;
    if (is_demo(path)) {
        struct folder demo = folder_of_demo();
        private->is_demo = true;
        model->path = demo.path;
        model->name = "optima-demo";
        return open_folder(model, &demo, err);
    }
    if (strcmp(path, "demo/draft") == 0) {
        struct folder draft = demo_draft_folder(&private->arena);
        model->path = draft.path;
        model->name = "optima-demo-draft";
        return open_folder(model, &draft, err);
    }
    model->path = arena_copy_string(&private->arena, path, strlen(path));
    model->name = name_of(&private->arena, path);
    if (options->random_weights_path) return open_random(model, options, err);
    if (has_suffix(path, ".gguf")) return open_gguf(model, path, err);
    struct folder folder;
    int rc = folder_open(&folder, model->path, err);
    if (rc) return rc;
    rc = open_folder(model, &folder, err);
    folder_close(&folder);
    return rc;
}

static void add_turn_end(const struct tokenizer *tokenizer, struct model_config *config) {
    if (!config->from_gguf || !config->family->turn_end) return;
    for (int32_t id = 0; id < tokenizer_vocab(tokenizer); id++)
        if (tokenizer_is_special(tokenizer, id) &&
            str_view_equal(tokenizer_token_text(tokenizer, id), str_view_of(config->family->turn_end)))
            config_add_stop_token(config, id);
}

// The configuration's and the tokenizer's, as far as the tokenizer can produce them: random weights come with a
// tokenizer that their configuration does not know.
static void take_stop_tokens(struct model *model, struct model_config *config) {
    int32_t n_ids = config->vocab;
    if (model->tokenizer) {
        config_add_stop_token(config, tokenizer_eos(model->tokenizer));
        add_turn_end(model->tokenizer, config);
        int32_t n_known = tokenizer_vocab(model->tokenizer);
        if (n_known > n_ids)
            log_warning("%s: the tokenizer has %d ids, the model %d; texts with the others are refused", model->path,
                        n_known, n_ids);
        else
            n_ids = n_known;
    }
    for (int32_t i = 0; i < config->n_stop_tokens; i++)
        if (config->stop_tokens[i] < n_ids) model->stop_tokens[model->n_stop_tokens++] = config->stop_tokens[i];
}

static int load(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    int rc = open_source(model, options, err);
    if (!rc) rc = weights_bind(&model->spec, &private->arena, &private->config, private->checkpoint, err);
    if (rc) return rc;
    model->tokenizer = private->text.tokenizer;
    model->chat_template = private->text.chat_template;
    take_stop_tokens(model, &private->config);
    model->defaults = private->config.defaults;
    return 0;
}

int model_open(struct model **out, const struct model_options *options, struct err *err) {
    struct model *model = mem_alloc_zero(1, sizeof *model);
    model->private_data = mem_alloc_zero(1, sizeof(struct model_private));
    int rc = load(model, options, err);
    if (rc)
        model_close(model);
    else
        *out = model;
    return rc;
}

struct tensor *layer_matrix(const struct model_spec *spec, struct layer_spec *layer, size_t i) {
    struct tensor *const attention[] = {&layer->wq, &layer->wk, &layer->wv, &layer->wo};
    struct tensor *const dense[] = {&layer->gate, &layer->up, &layer->down};
    if (i < 4) return attention[i];
    i -= 4;
    if (!layer->experts) return i < 3 ? dense[i] : NULL;
    if (i == 0) return &layer->router;
    i--;
    if (i / 3 >= (size_t)spec->n_experts) return NULL;
    struct expert *expert = &layer->experts[i / 3];
    return i % 3 == 0 ? &expert->gate : i % 3 == 1 ? &expert->up : &expert->down;
}

const struct stored_tensor *model_stored_tensors(const struct model *model, size_t *n) {
    const struct model_private *private = model->private_data;
    return checkpoint_tensors(private->checkpoint, n);
}

const struct gguf *model_gguf(const struct model *model) {
    const struct model_private *private = model->private_data;
    return private->gguf_file.data ? &private->gguf : NULL;
}

int model_folder_open(const struct model *model, struct folder *out, struct err *err) {
    const struct model_private *private = model->private_data;
    if (!private->is_demo) return folder_open(out, model->path, err);
    *out = folder_of_demo();
    return 0;
}

bool model_shipped_text(const struct model *model, struct str_view *out) {
    const struct model_private *private = model->private_data;
    const struct folder demo = folder_of_demo();
    struct folder_file file;
    if (!private->is_demo || folder_file_open(&demo, "heldout.txt", &file, NULL)) return false;
    *out = folder_file_text(&file); // embedded: it stays
    return true;
}

void model_release_weights(struct model *model) {
    struct model_private *private = model->private_data;
    checkpoint_release(private->checkpoint);
    const struct file_map *gguf = &private->gguf_file;
    if (gguf->data) madvise((void *)(uintptr_t)gguf->data, gguf->n_bytes, MADV_DONTNEED);
}

void model_close(struct model *model) {
    if (!model) return;
    struct model_private *private = model->private_data;
    model_text_close(&private->text);
    checkpoint_close(private->checkpoint);
    gguf_close(&private->gguf);
    file_map_close(&private->gguf_file);
    arena_close(&private->arena);
    free(private);
    free(model);
}

// Only the tokenizer of a file tokenizer.json, with the tokenizer_config.json beside it.
static int open_tokenizer_file(struct model_text *out, const char *path, struct err *err) {
    const char *slash = strrchr(path, '/');
    char *parent = slash ? mem_copy_string(path, (size_t)(slash - path) + 1) : mem_copy_string(".", 1);
    struct folder folder;
    int rc = folder_open(&folder, parent, err);
    if (!rc) {
        rc = text_open_tokenizer(out, &folder, slash ? slash + 1 : path, err);
        folder_close(&folder);
    }
    free(parent);
    return rc;
}

static int open_template_file(struct model_text *out, const char *path, struct err *err) {
    struct file_map file;
    int rc = file_map_open(&file, path, err);
    if (rc) return rc;
    rc = chat_template_open(&out->chat_template, file_map_text(&file), err);
    file_map_close(&file);
    return rc ? err_prefix(err, "%s", path) : 0;
}

static int open_gguf_text(struct model_text *out, const char *path, struct err *err) {
    struct file_map file = {0};
    struct gguf gguf;
    int rc = open_gguf_file(&file, &gguf, path, err);
    if (!rc) {
        rc = text_open_gguf(out, &gguf, path, true, err);
        gguf_close(&gguf);
    }
    file_map_close(&file);
    return rc;
}

int model_text_open(struct model_text *out, const char *path, struct err *err) {
    *out = (struct model_text){0};
    if (is_demo(path)) {
        struct folder demo = folder_of_demo();
        return text_open_folder(out, &demo, true, err);
    }
    if (has_suffix(path, ".gguf")) return open_gguf_text(out, path, err);
    if (has_suffix(path, ".json")) return open_tokenizer_file(out, path, err);
    if (has_suffix(path, ".jinja")) return open_template_file(out, path, err);
    struct folder folder;
    int rc = folder_open(&folder, path, err);
    if (rc) return rc;
    rc = text_open_folder(out, &folder, true, err);
    folder_close(&folder);
    return rc;
}
