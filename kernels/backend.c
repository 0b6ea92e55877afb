// The door: what every device needs checked, then the device's own table.
#include "base/plugin.h"
#include "kernels/comm.h"
#include "kernels/plugin.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUDA_PLUGIN "liboptima_cuda.so"
#define CUDA_DRIVER "libcuda.so.1"
enum { STEPS_SUBMITTED_MAX = 2, DEVICE_INDEX_MAX = 255 };

// ---------------------------------------------------------------------------------------------- open and close

static int open_driver(struct backend **out, const struct backend_driver *driver, const struct backend_options *options,
                       struct err *err) {
    struct backend *backend;
    int rc = driver->open(&backend, options, err);
    if (rc) return rc;
    backend->driver = driver;
    assert(backend->steps_in_flight >= 1 && backend->steps_in_flight <= STEPS_SUBMITTED_MAX);
    *out = backend;
    return 0;
}

static int open_plugin(struct backend **out, const char *file, const struct backend_options *options, struct err *err) {
    const struct backend_driver *driver;
    int rc = plugin_open(&driver, file, err);
    return rc ? rc : open_driver(out, driver, options, err);
}

// The plugin brings libraries of hundreds of megabytes, which are of no use without a driver.
static int open_cuda(struct backend **out, const struct backend_options *options, struct err *err) {
    if (!plugin_library_exists(CUDA_DRIVER))
        return err_set(err, ERR_UNSUPPORTED, "there is no NVIDIA driver (%s)", CUDA_DRIVER);
    return open_plugin(out, CUDA_PLUGIN, options, err);
}

// "cuda" or "cuda:N"; false: neither.
static bool read_cuda_index(const char *device, int *index) {
    if (strncmp(device, "cuda", 4) != 0 || (device[4] && device[4] != ':')) return false;
    if (!device[4]) return true;
    char *end;
    long n = strtol(device + 5, &end, 10);
    *index = (int)n;
    return isdigit((unsigned char)device[5]) && !*end && n <= DEVICE_INDEX_MAX;
}

static int open_auto(struct backend **out, const struct backend_options *options, struct err *err) {
    struct err why = {0};
    if (open_cuda(out, options, &why) == 0) return 0;
    int rc = open_driver(out, &cpu_driver, options, err);
    if (rc) return rc;
    char *description = (*out)->description;
    size_t n = strlen(description);
    snprintf(description + n, sizeof(*out)->description - n, ", because %s", why.text);
    return 0;
}

int backend_open(struct backend **out, const struct backend_options *options, struct err *err) {
    const char *device = options->device ? options->device : "cpu";
    struct backend_options indexed = *options;
    if (options->beside) {
        (void)read_cuda_index(device, &indexed.device_index);
        return open_driver(out, options->beside->driver, &indexed, err);
    }
    if (strcmp(device, "cpu") == 0) return open_driver(out, &cpu_driver, options, err);
    if (strcmp(device, "auto") == 0) return open_auto(out, options, err);
    if (strchr(device, '/')) return open_plugin(out, device, options, err);
    if (read_cuda_index(device, &indexed.device_index)) return open_cuda(out, &indexed, err);
    return err_set(err, ERR_UNSUPPORTED, "no device \"%s\"; there are auto, cpu, cuda, cuda:N and ./FILE.so", device);
}

void backend_close(struct backend *backend) {
    if (backend) backend->driver->close(backend);
}

const char *backend_description(const struct backend *backend) {
    return backend->description;
}

int backend_steps_in_flight(const struct backend *backend) {
    return backend->steps_in_flight;
}

bool backend_holds_weights(const struct backend *backend) {
    return backend->holds_weights;
}

uint64_t backend_memory_available(const struct backend *backend) {
    return backend->driver->memory_available(backend);
}

const char *weight_format_name(enum weight_format format) {
    static const char *const names[] = {"auto", "bf16", "fp8", "int8", "int4"};
    return names[format];
}

bool backend_keeps_int8(const struct backend *backend) {
    return backend->driver->keeps_int8;
}

uint64_t backend_weight_bytes(const struct backend *backend, const struct tensor *tensor, enum weight_format format) {
    return backend->driver->weight_bytes(tensor, format);
}

int backend_weight_load(struct backend *backend, struct tensor *tensor, enum weight_format format, struct err *err) {
    assert(tensor_present(tensor) && tensor->n_rows > 0 && tensor->n_cols > 0);
    int rc = backend->driver->weight_load(backend, tensor, format, err);
    assert(rc || tensor->handle);
    return rc;
}

void backend_memory(const struct backend *backend, struct backend_memory *out) {
    *out = (struct backend_memory){0};
    backend->driver->memory(backend, out);
}

void backend_measure_peaks(struct backend *backend, struct backend_peaks *out) {
    *out = (struct backend_peaks){0};
    backend->driver->measure_peaks(backend, out);
}

// ---------------------------------------------------------------------------------------------------- KV cache

const char *kv_format_name(enum kv_format format) {
    static const char *const names[] = {[KV_F32] = "f32", [KV_BF16] = "bf16", [KV_FP8] = "fp8", [KV_INT8] = "int8"};
    return names[format];
}

uint64_t kv_bytes_per_block(const struct kv_shape *shape) {
    static const uint64_t element_bytes[] = {[KV_F32] = 4, [KV_BF16] = 2, [KV_FP8] = 1, [KV_INT8] = 1};
    uint64_t row_bytes = (uint64_t)shape->head_dim * element_bytes[shape->format];
    if (kv_has_scales(shape->format)) row_bytes += sizeof(float);
    uint64_t n_rows = 2 * (uint64_t)shape->n_layers * (uint64_t)shape->n_kv_heads * (uint64_t)shape->block_tokens;
    return n_rows * row_bytes;
}

int backend_kv_open(struct backend *backend, const struct kv_shape *shape, struct err *err) {
    assert(!backend->kv.n_blocks && shape->n_layers > 0 && shape->n_kv_heads > 0 && shape->n_blocks > 0);
    assert(shape->head_dim > 0 && shape->block_tokens > 0);
    int rc = backend->driver->kv_open(backend, shape, err);
    if (!rc) backend->kv = *shape;
    return rc;
}

bool backend_touch_kv(struct backend *backend, int32_t n_blocks) {
    assert(n_blocks >= 0 && n_blocks <= backend->kv.n_blocks && backend->n_in_flight == 0);
    return backend->driver->touch_kv && backend->driver->touch_kv(backend, n_blocks);
}

// --------------------------------------------------------------------------------------------------- programs

const char *op_kind_name(enum op_kind kind) {
    static const char *const names[OP_KINDS] = {"embed",  "attention_in", "attention", "linear_add",
                                                "mlp_in", "moe",          "head",      "sample"};
    return names[kind];
}

int program_open(struct program **out, struct backend *backend, const struct program_shape *shape, struct err *err) {
    assert(backend->kv.n_blocks > 0 && shape->n_ropes >= 0 && shape->n_ropes <= 2);
    assert(shape->rows_max > 0 && shape->sequences_max > 0 && shape->logit_rows_max > 0);
    struct program_shape own = *shape;
    if (!own.comm) own.vocab_first = 0, own.vocab_rows = own.vocab;
    assert(own.n_experts >= 0 && own.n_experts <= EXPERTS_MAX && own.n_hit >= 0 && own.n_hit <= own.n_experts);
    assert(own.vocab_first >= 0 && own.vocab_rows > 0 && own.vocab_first + own.vocab_rows <= own.vocab);
    int rc = backend->driver->program_open(out, backend, &own, err);
    assert(rc || ((*out)->backend == backend && (*out)->shape.ropes == (*out)->ropes));
    return rc;
}

static void check_weight(const struct tensor *weight, int32_t n_rows, int32_t n_cols) {
    assert(weight->handle && weight->n_rows == n_rows && weight->n_cols == n_cols);
}

static void check_attention_in(const struct program *program, const struct op_attention_in *op) {
    const struct program_shape *shape = &program->shape;
    const struct kv_shape *kv = &program->backend->kv;
    assert(op->layer >= 0 && op->layer < kv->n_layers);
    assert(op->head_dim == kv->head_dim && op->n_kv_heads == kv->n_kv_heads);
    assert(op->n_heads > 0 && op->n_heads % op->n_kv_heads == 0);
    assert(op->n_heads * op->head_dim == shape->q_width && op->n_kv_heads * op->head_dim == shape->kv_width);
    assert(op->rope >= -1 && op->rope < shape->n_ropes);
    assert(!op->norms_all_heads || (op->q_norm && op->k_norm && comm_n_ranks(shape->comm) == 1));
    assert(op->rope < 0 ||
           (program->ropes[op->rope].n_dims <= op->head_dim && program->ropes[op->rope].n_dims % 2 == 0));
    check_weight(&op->wq, shape->q_width, shape->hidden);
    check_weight(&op->wk, shape->kv_width, shape->hidden);
    check_weight(&op->wv, shape->kv_width, shape->hidden);
}

static void check_attention(const struct program *program, const struct op_attention *op) {
    const struct kv_shape *kv = &program->backend->kv;
    assert(op->layer >= 0 && op->layer < kv->n_layers && op->head_dim == kv->head_dim);
    assert(op->n_kv_heads == kv->n_kv_heads && op->n_heads > 0 && op->n_heads % op->n_kv_heads == 0);
    assert(op->n_heads * op->head_dim == program->shape.q_width);
}

// Whether rows prepared for one matrix serve the other.
static bool same_rows(const struct tensor *a, const struct tensor *b) {
    return a->format == b->format || (tensor_format_is_integer(a->format) && tensor_format_is_integer(b->format));
}

static void check_moe(const struct program *program, const struct op_moe *op) {
    const struct program_shape *shape = &program->shape;
    assert(op->n_experts == shape->n_experts && op->n_hit == shape->n_hit && op->n_hit > 0);
    check_weight(&op->router, op->n_experts, shape->hidden);
    for (int32_t e = 0; e < op->n_experts; e++) {
        const struct expert *expert = &op->experts[e], *first = &op->experts[0];
        check_weight(&expert->gate, shape->expert_width, shape->hidden);
        check_weight(&expert->up, shape->expert_width, shape->hidden);
        check_weight(&expert->down, shape->hidden, shape->expert_width);
        assert(same_rows(&expert->gate, &first->gate) && same_rows(&expert->up, &first->gate));
        assert(same_rows(&expert->down, &first->down));
    }
}

static void check_op(const struct program *program, const struct op *op) {
    const struct program_shape *shape = &program->shape;
    switch (op->kind) {
    case OP_EMBED:
        check_weight(&op->embed.table, shape->vocab_rows, shape->hidden);
        break;
    case OP_ATTENTION_IN:
        check_attention_in(program, &op->attention_in);
        break;
    case OP_ATTENTION:
        check_attention(program, &op->attention);
        break;
    case OP_LINEAR_ADD:
        check_weight(&op->linear_add.weight, shape->hidden,
                     op->linear_add.source == SOURCE_MLP ? shape->mlp_width : shape->q_width);
        break;
    case OP_MLP_IN:
        check_weight(&op->mlp_in.gate, shape->mlp_width, shape->hidden);
        check_weight(&op->mlp_in.up, shape->mlp_width, shape->hidden);
        break;
    case OP_MOE:
        check_moe(program, &op->moe);
        break;
    case OP_HEAD:
        check_weight(&op->head.weight, shape->vocab_rows, shape->hidden);
        break;
    case OP_SAMPLE:
        assert(op->sample.vocab > 0 && op->sample.vocab <= shape->vocab);
        break;
    case OP_KINDS:
        assert(false);
    }
}

void program_add(struct program *program, const struct op *op) {
    assert(!program->prepared);
    check_op(program, op);
    program->backend->driver->program_add(program, op);
}

int program_prepare(struct program *program, struct err *err) {
    assert(!program->prepared);
    int rc = program->backend->driver->program_prepare(program, err);
    program->prepared = !rc;
    return rc;
}

void program_close(struct program *program) {
    if (program) program->backend->driver->program_close(program);
}

// ------------------------------------------------------------------------------------------------------- run

void backend_submit(struct backend *backend, struct program *program, const struct step_input *input) {
    const struct program_shape *shape = &program->shape;
    assert(program->backend == backend && program->prepared && backend->n_in_flight < STEPS_SUBMITTED_MAX);
    assert(input->n_rows > 0 && input->n_rows <= shape->rows_max && input->n_sequences <= shape->sequences_max);
    assert(input->n_logit_rows >= 0 && input->n_logit_rows <= shape->logit_rows_max);
    assert(input->n_edits <= shape->edits_max && input->n_seen <= shape->seen_max);
    backend->n_in_flight++;
    backend->driver->submit(backend, program, input);
}

int backend_collect(struct backend *backend, struct sample_result *results, struct step_times *times, struct err *err) {
    assert(backend->n_in_flight > 0);
    backend->n_in_flight--;
    *times = (struct step_times){0};
    return backend->driver->collect(backend, results, times, err);
}

const float *backend_logits(struct backend *backend, int32_t logit_row) {
    return backend->driver->logits(backend, logit_row);
}

int backend_threads(const struct backend *backend) {
    return backend->n_threads;
}

void backend_limit_threads(struct backend *backend, int n) {
    assert(n >= 1);
    if (backend->driver->limit_threads) backend->driver->limit_threads(backend, n);
}
