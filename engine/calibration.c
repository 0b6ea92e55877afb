#include "engine/calibration.h"

#include "base/mem.h"
#include "engine/evaluation.h"
#include "engine/memory_plan.h"
#include "kernels/offline.h"

#include <stdlib.h>

static int n_inputs_of(const struct model_spec *spec) {
    return CALIBRATION_DOWN + (spec->n_experts > 1 ? spec->n_experts : 1);
}

// A matrix that has this input; NULL: the layer has none.
static const struct tensor *matrix_of(const struct model_spec *spec, const struct layer_spec *layer, int input) {
    switch (input) {
    case CALIBRATION_ATTENTION:
        return &layer->wq;
    case CALIBRATION_OUT:
        return &layer->wo;
    case CALIBRATION_MLP:
        return layer->experts ? &layer->router : &layer->gate;
    default:
        break;
    }
    const int expert = input - CALIBRATION_DOWN;
    if (layer->experts) return expert < spec->n_experts ? &layer->experts[expert].down : NULL;
    return expert == 0 ? &layer->down : NULL;
}

int calibration_input_of(const struct layer_spec *layer, size_t i) {
    if (i < 3) return CALIBRATION_ATTENTION;
    if (i == 3) return CALIBRATION_OUT;
    if (!layer->experts) return i < 6 ? CALIBRATION_MLP : CALIBRATION_DOWN;
    return i == 4 || (i - 5) % 3 < 2 ? CALIBRATION_MLP : CALIBRATION_DOWN + (int)((i - 5) / 3);
}

size_t calibration_layer_bytes(const struct model_spec *spec) {
    size_t most = 0;
    for (int32_t i = 0; i < spec->n_layers; i++) {
        size_t n_bytes = 0;
        for (int input = 0; input < n_inputs_of(spec); input++) {
            const struct tensor *matrix = matrix_of(spec, &spec->layers[i], input);
            if (matrix) n_bytes += (size_t)matrix->n_cols * (size_t)matrix->n_cols * sizeof(float);
        }
        if (n_bytes > most) most = n_bytes;
    }
    return most;
}

struct calibration_sums *calibration_sums_of(const struct calibration *calibration, int32_t layer, int input) {
    return &calibration->inputs[(layer - calibration->layer_first) * calibration->n_inputs + input];
}

static struct calibration_sums *find(const struct calibration *c, const void *handle) {
    for (int32_t i = c->layer_first; i < c->layer_first + c->n_layers; i++)
        for (int input = 0; input < c->n_inputs; input++) {
            const struct tensor *matrix = matrix_of(c->spec, &c->spec->layers[i], input);
            if (matrix && matrix->handle == handle) return calibration_sums_of(c, i, input);
        }
    return NULL;
}

static void see(void *context, const void *handle, const float *rows, int32_t n_rows, int32_t n, int worker,
                int n_workers) {
    const struct calibration *c = context;
    struct calibration_sums *sums = find(c, handle);
    if (!sums) return;
    offline_add_products(c->kernels, sums->sums, rows, n_rows, n, worker, n_workers);
    if (worker == 0) sums->n_rows += (size_t)n_rows;
}

static int reserve(struct calibration *c, struct err *err) {
    c->inputs = mem_alloc_zero((size_t)c->n_layers * (size_t)c->n_inputs, sizeof *c->inputs);
    for (int32_t i = c->layer_first; i < c->layer_first + c->n_layers; i++)
        for (int input = 0; input < c->n_inputs; input++) {
            const struct tensor *matrix = matrix_of(c->spec, &c->spec->layers[i], input);
            if (!matrix) continue;
            struct calibration_sums *sums = calibration_sums_of(c, i, input);
            sums->n = matrix->n_cols;
            sums->sums = calloc((size_t)sums->n * (size_t)sums->n, sizeof *sums->sums);
            if (!sums->sums) return err_set(err, ERR_LIMIT, "no memory for the sums of %d inputs", sums->n);
        }
    return 0;
}

static int read_text(struct calibration *c, struct model *model, const int32_t *tokens, size_t n_tokens, int32_t window,
                     struct err *err) {
    const struct input_observer observer = {.see = see, .context = c};
    const struct backend_options backend_options = {.device = "cpu", .observer = &observer};
    const struct engine_options engine_options = {.context = window,
                                                  .kv_bytes = memory_plan_kv_bytes(&model->spec, window)};
    const struct evaluation_options windows = {.rule = EVALUATION_SLIDING, .window = window, .stride = window};
    struct backend *backend = NULL;
    struct engine *engine = NULL;
    struct evaluation evaluation = {0};
    int rc = backend_open(&backend, &backend_options, err);
    if (!rc) rc = engine_open(&engine, model, backend, &engine_options, err);
    if (!rc) rc = evaluation_run(&evaluation, engine, NULL, tokens, n_tokens, &windows, err);
    evaluation_close(&evaluation);
    engine_close(engine);
    if (backend) backend_close(backend);
    return rc;
}

int calibration_run(struct calibration *out, struct model *model, int32_t layer_first, int32_t n_layers,
                    const int32_t *tokens, size_t n_tokens, int32_t window, struct err *err) {
    *out = (struct calibration){.spec = &model->spec,
                                .layer_first = layer_first,
                                .n_layers = n_layers,
                                .n_inputs = n_inputs_of(&model->spec),
                                .kernels = offline_kernels()};
    int rc = reserve(out, err);
    if (!rc) rc = read_text(out, model, tokens, n_tokens, window, err);
    if (rc) calibration_close(out);
    return rc;
}

void calibration_close(struct calibration *calibration) {
    for (int32_t i = 0; calibration->inputs && i < calibration->n_layers * calibration->n_inputs; i++)
        free(calibration->inputs[i].sums);
    free(calibration->inputs);
    *calibration = (struct calibration){0};
}
