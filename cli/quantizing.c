#include "cli/quantizing.h"

#include "base/mem.h"
#include "base/memory_available.h"
#include "engine/calibration.h"
#include "kernels/offline.h"
#include "models/stored_tensor.h"

#include <stdlib.h>

enum {
    ERROR_TOKENS = 2048, // of the report's text, for the errors of single matrices
    ROWS_MIN = 32        // of a text, that say something of an input
};

struct work {
    struct quantizing *out;
    struct model *model;
    const struct quantizing_options *options;
    struct pool *pool;
    const struct kernel_table *kernels;
    struct calibration calibrated, seen; // of the layers in work
};

static bool is_quantisable(const struct work *w, const struct layer_spec *layer, const struct tensor *matrix) {
    return matrix != &layer->router && (!w->options->group || matrix->n_cols % w->options->group == 0) &&
           matrix->n_cols % TENSOR_GROUP == 0;
}

// The name in the files of the tensor that the matrix is in.
static const char *name_of(const struct model *model, const struct tensor *matrix) {
    size_t n;
    const struct stored_tensor *stored = model_stored_tensors(model, &n);
    const char *data = matrix->data;
    for (size_t i = 0; i < n; i++)
        if (data >= stored[i].data && data < stored[i].data + stored[i].n_bytes) return stored[i].name;
    return "?";
}

static int quantize_matrix(struct work *w, const struct tensor *matrix, const struct quantizer_moments *moments,
                           const struct calibration_sums *seen, struct err *err) {
    struct quantizing *out = w->out;
    struct quantized_entry *entry = &out->entries[out->n_entries];
    struct quantizing_error *error = &out->errors[out->n_entries++];
    const struct quantizer_options how = {
        .method = moments                                   ? QUANTIZER_MEASURED
                  : w->options->method == QUANTIZER_NEAREST ? QUANTIZER_NEAREST
                                                            : QUANTIZER_SEARCHED,
        .format = w->options->format,
        .group = w->options->group,
        .scale_format = w->options->scales_f16 || matrix->format == TENSOR_F16 ? TENSOR_F16 : TENSOR_BF16};
    entry->matrix = matrix;
    quantizer_run(&entry->quantized, matrix, &how, moments, w->pool, w->kernels);
    *error = (struct quantizing_error){.name = name_of(w->model, matrix)};
    if (!quantized_is_finite(&entry->quantized))
        return err_set(err, ERR_FORMAT, "%s: tensor \"%.100s\" has a value that is not finite", w->model->path,
                       error->name);
    if (seen) error->error = quantizer_error(&entry->quantized, matrix, seen->sums, w->pool, w->kernels);
    return 0;
}

// What the text showed of an input. NULL: it was not read, or experts were hardly hit.
static const struct calibration_sums *sums_of(const struct calibration *c, int32_t layer, int input) {
    const struct calibration_sums *sums = c->inputs ? calibration_sums_of(c, layer, input) : NULL;
    return sums && sums->n_rows >= ROWS_MIN ? sums : NULL;
}

// What many matrices share is made once: the inputs of attention, or of all experts; an expert's own come between.
struct shared_moments {
    int input;
    struct quantizer_moments moments;
};

static const struct quantizer_moments *moments_of(struct work *w, struct shared_moments *shared,
                                                  const struct calibration_sums *sums, int input) {
    struct shared_moments *s = &shared[input >= CALIBRATION_DOWN];
    if (!sums) return NULL;
    if (s->input != input) {
        quantizer_moments_free(&s->moments);
        s->moments = quantizer_moments_make(sums->sums, sums->n, sums->n_rows, w->pool, w->kernels);
        s->input = input;
    }
    return &s->moments;
}

static int quantize_layer(struct work *w, int32_t i, struct err *err) {
    struct layer_spec *layer = &w->model->spec.layers[i];
    const struct tensor *matrix;
    struct shared_moments shared[2] = {{.input = -1}, {.input = -1}};
    int rc = 0;
    for (size_t m = 0; !rc && (matrix = layer_matrix(&w->model->spec, layer, m)); m++) {
        if (!is_quantisable(w, layer, matrix)) {
            w->out->n_left += matrix != &layer->router;
            continue;
        }
        const int input = calibration_input_of(layer, m);
        const struct calibration_sums *sums = sums_of(&w->calibrated, i, input);
        rc = quantize_matrix(w, matrix, moments_of(w, shared, sums, input), sums_of(&w->seen, i, input), err);
    }
    for (int s = 0; s < 2; s++) quantizer_moments_free(&shared[s].moments);
    return rc;
}

static int quantize_layers(struct work *w, int32_t first, int32_t n, struct err *err) {
    const struct quantizing_options *options = w->options;
    const token_vec *text = options->calibrate_tokens, *eval = options->eval_tokens;
    int rc = 0;
    if (options->method == QUANTIZER_MEASURED)
        rc = calibration_run(&w->calibrated, w->model, first, n, text->items, text->count, options->window, err);
    if (!rc)
        rc = calibration_run(&w->seen, w->model, first, n, eval->items,
                             eval->count < ERROR_TOKENS ? eval->count : ERROR_TOKENS, options->window, err);
    for (int32_t i = first; !rc && i < first + n; i++) rc = quantize_layer(w, i, err);
    calibration_close(&w->calibrated);
    calibration_close(&w->seen);
    return rc;
}

static int compare_errors(const void *a, const void *b) {
    const struct quantizing_error *x = a, *y = b;
    return (x->error < y->error) - (x->error > y->error);
}

// As many layers at once as a part of the free memory holds the sums of: each time the text is read again.
static int32_t layers_at_once(const struct work *w) {
    const uint64_t layer_bytes = 2 * calibration_layer_bytes(&w->model->spec);
    const uint64_t n = memory_available_bytes() / 4 / layer_bytes;
    const int32_t n_layers = w->model->spec.n_layers;
    return n < 1 ? 1 : n > (uint64_t)n_layers ? n_layers : (int32_t)n;
}

static void reserve(struct work *w) {
    size_t n = 0;
    for (int32_t i = 0; i < w->model->spec.n_layers; i++)
        for (size_t m = 0; layer_matrix(&w->model->spec, &w->model->spec.layers[i], m); m++) n++;
    w->out->entries = mem_alloc_zero(n, sizeof *w->out->entries);
    w->out->errors = mem_alloc_zero(n, sizeof *w->out->errors);
}

int quantizing_run(struct quantizing *out, struct model *model, const struct quantizing_options *options,
                   struct err *err) {
    *out = (struct quantizing){0};
    struct work w = {.out = out, .model = model, .options = options, .kernels = offline_kernels()};
    int rc = pool_open(&w.pool, pool_cores(), err);
    if (rc) return rc;
    reserve(&w);
    const int32_t n_layers = model->spec.n_layers, n_once = layers_at_once(&w);
    for (int32_t first = 0; !rc && first < n_layers; first += n_once)
        rc = quantize_layers(&w, first, n_layers - first < n_once ? n_layers - first : n_once, err);
    pool_close(w.pool);
    if (!rc && out->n_entries == 0)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: no matrix has a multiple of %d inputs", model->path,
                     options->group ? options->group : TENSOR_GROUP);
    if (!rc) qsort(out->errors, out->n_entries, sizeof *out->errors, compare_errors);
    if (rc) quantizing_close(out);
    return rc;
}

void quantizing_close(struct quantizing *quantizing) {
    for (size_t i = 0; i < quantizing->n_entries; i++) quantized_free(&quantizing->entries[i].quantized);
    free(quantizing->entries);
    free(quantizing->errors);
    *quantizing = (struct quantizing){0};
}
