#include "models/model.h"

#include "base/file_map.h"
#include "base/log.h"
#include "models/checkpoint.h"
#include "models/config.h"
#include "models/family.h"
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
};

static bool has_suffix(const char *text, const char *suffix) {
    size_t n = strlen(text), m = strlen(suffix);
    return n > m && strcmp(text + n - m, suffix) == 0;
}

// The last part of a path, without the suffix of a GGUF file. "." and ".." are resolved first.
static const char *name_of(struct arena *arena, const char *path) {
    char *resolved = realpath(path, NULL);
    const char *full = resolved ? resolved : path, *slash = strrchr(full, '/');
    const char *name = slash && slash[1] ? slash + 1 : full;
    size_t n = strlen(name);
    if (has_suffix(name, ".gguf")) n -= strlen(".gguf");
    char *copy = arena_copy_string(arena, name, n);
    free(resolved);
    return copy;
}

// Reads a file of the folder that may be absent; then it counts as empty.
static int open_optional(const struct folder *folder, const char *name, struct folder_file *out, struct err *err) {
    int rc = folder_file_open(folder, name, out, err);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int read_config(struct model_private *private, const struct folder *folder, struct err *err) {
    struct folder_file file, generation;
    int rc = folder_file_open(folder, "config.json", &file, err);
    if (rc) return rc;
    rc = config_read_json(&private->config, &private->arena,
                          (struct str_view){file.data ? file.data : "", file.n_bytes}, err);
    if (rc) err_prefix(err, "%s/config.json", folder->path);
    folder_file_close(&file);
    if (!rc) rc = open_optional(folder, "generation_config.json", &generation, err);
    if (rc) return rc;
    if (generation.data) {
        rc = config_read_generation(&private->config, (struct str_view){generation.data, generation.n_bytes}, err);
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
    return rc;
}

static int open_gguf(struct model *model, const char *path, struct err *err) {
    struct model_private *private = model->private_data;
    model->source_format = "gguf";
    int rc = file_map_open(&private->gguf_file, path, err);
    if (rc) return rc;
    if (private->gguf_file.data)
        madvise((void *)(uintptr_t) private->gguf_file.data, private->gguf_file.n_bytes, MADV_WILLNEED);
    rc = gguf_open(&private->gguf, private->gguf_file.data, private->gguf_file.n_bytes, err);
    if (!rc) rc = config_read_gguf(&private->config, &private->arena, &private->gguf, err);
    if (rc) return err_prefix(err, "%s", path);
    checkpoint_open_gguf(&private->checkpoint, &private->gguf, path);
    return 0;
}

static int open_random(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    model->source_format = "random";
    struct file_map file;
    int rc = file_map_open(&file, options->random_weights_path, err);
    if (rc) return rc;
    rc = config_read_json(&private->config, &private->arena,
                          (struct str_view){file.data ? file.data : "", file.n_bytes}, err);
    file_map_close(&file);
    if (rc) return err_prefix(err, "%s", options->random_weights_path);
    checkpoint_open_random(&private->checkpoint, private->config.weight_format, options->random_seed,
                           options->random_weights_path);
    return 0;
}

static int open_source(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    const char *path = options->random_weights_path ? options->random_weights_path : options->path;
    if (!path || strcmp(path, "demo") == 0) return err_set(err, ERR_NOT_FOUND, "no model is embedded in this program");
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

static int load(struct model *model, const struct model_options *options, struct err *err) {
    struct model_private *private = model->private_data;
    int rc = open_source(model, options, err);
    if (!rc) rc = weights_bind(&model->spec, &private->arena, &private->config, private->checkpoint, err);
    if (!rc) rc = checkpoint_load(private->checkpoint, options->progress, options->progress_context, err);
    if (rc) return rc;
    model->n_stop_tokens = private->config.n_stop_tokens;
    memcpy(model->stop_tokens, private->config.stop_tokens, sizeof model->stop_tokens);
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

void model_close(struct model *model) {
    if (!model) return;
    struct model_private *private = model->private_data;
    checkpoint_close(private->checkpoint);
    gguf_close(&private->gguf);
    file_map_close(&private->gguf_file);
    arena_close(&private->arena);
    free(private);
    free(model);
}
