// Weights on their way to the device: pages of the mapped file are copied into two pinned buffers in turn, by several
// threads, while the device reads the other one; what is rounded or quantised is made there from a copy of the matrix.
#include "base/mem.h"
#include "base/number.h"
#include "base/pool.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quantize.h"
#include "kernels/random_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_BYTES = 8 << 20, COPY_THREADS_MAX = 8, COPY_PIECE_BYTES = 1 << 20 };

struct copy {
    char *to;
    const char *from;
    size_t n_bytes;
};

static void copy_piece(void *argument, int worker, int n_workers) {
    const struct copy *copy = argument;
    for (size_t at = (size_t)worker * COPY_PIECE_BYTES; at < copy->n_bytes;
         at += (size_t)n_workers * COPY_PIECE_BYTES) {
        size_t n = copy->n_bytes - at < COPY_PIECE_BYTES ? copy->n_bytes - at : COPY_PIECE_BYTES;
        memcpy(copy->to + at, copy->from + at, n);
    }
}

static int upload_open(struct cuda_backend *backend, struct err *err) {
    struct upload *upload = &backend->upload;
    if (upload->pool) return 0;
    int n_threads = pool_cores(), rc = 0;
    for (int i = 0; !rc && i < 2; i++) {
        rc = cuda_check(cudaMallocHost((void **)&upload->pinned[i], SLICE_BYTES), "taking pinned memory", err);
        if (!rc) rc = cuda_check(cudaEventCreateWithFlags(&upload->copied[i], cudaEventDisableTiming), "loading", err);
    }
    return rc ? rc : pool_open(&upload->pool, n_threads < COPY_THREADS_MAX ? n_threads : COPY_THREADS_MAX, err);
}

void cuda_upload_close(struct cuda_backend *backend) {
    struct upload *upload = &backend->upload;
    for (int i = 0; i < 2; i++) {
        if (upload->copied[i]) cudaEventDestroy(upload->copied[i]);
        if (upload->pinned[i]) cudaFreeHost(upload->pinned[i]);
    }
    if (upload->source) cudaFree(upload->source);
    if (upload->pool) pool_close(upload->pool);
    *upload = (struct upload){0};
}

static cudaError_t upload_bytes(struct cuda_backend *backend, char *to, const char *from, size_t n_bytes) {
    struct upload *upload = &backend->upload;
    cudaError_t error = cudaSuccess;
    for (size_t at = 0; error == cudaSuccess && at < n_bytes; at += SLICE_BYTES) {
        int turn = upload->turn;
        size_t n = n_bytes - at < SLICE_BYTES ? n_bytes - at : SLICE_BYTES;
        error = cudaEventSynchronize(upload->copied[turn]);
        if (error != cudaSuccess) break;
        struct copy copy = {upload->pinned[turn], from + at, n};
        pool_run(upload->pool, n > COPY_PIECE_BYTES ? pool_size(upload->pool) : 1, copy_piece, &copy);
        error = cudaMemcpyAsync(to + at, upload->pinned[turn], n, cudaMemcpyHostToDevice, backend->stream);
        if (error == cudaSuccess) error = cudaEventRecord(upload->copied[turn], backend->stream);
        upload->turn = !turn;
    }
    return error;
}

// Room for a matrix as the model has it.
static int reserve_source(struct cuda_backend *backend, size_t n_bytes, struct err *err) {
    struct upload *upload = &backend->upload;
    if (n_bytes <= upload->source_bytes) return 0;
    int rc = cuda_check(cudaStreamSynchronize(backend->stream), "loading weights", err);
    if (rc) return rc;
    if (upload->source) cudaFree(upload->source);
    upload->source = NULL;
    upload->source_bytes = 0;
    rc = cuda_check(cudaMalloc(&upload->source, n_bytes), "taking room for a matrix to be quantised", err);
    if (!rc) upload->source_bytes = n_bytes;
    return rc;
}

static enum device_format device_format_of(enum tensor_format format) {
    static const enum device_format formats[] = {
        [TENSOR_F32] = DEVICE_F32, [TENSOR_F16] = DEVICE_F16, [TENSOR_BF16] = DEVICE_BF16};
    return formats[format];
}

// Groups of INT4 do not fit every width; a matrix that they do not fit stays in FP8.
static int choose_format(enum device_format *out, const struct tensor *tensor, enum weight_format format,
                         struct err *err) {
    switch (format) {
    case WEIGHT_AS_IS: // quantised matrices of files have forms that no kernel here reads
        *out = tensor->rows ? DEVICE_BF16 : device_format_of(tensor->format);
        return 0;
    case WEIGHT_BF16:
        *out = DEVICE_BF16;
        return 0;
    case WEIGHT_FP8:
        *out = DEVICE_FP8;
        return 0;
    case WEIGHT_INT4:
        *out = tensor->n_cols % INT4_GROUP ? DEVICE_FP8 : DEVICE_INT4;
        return 0;
    case WEIGHT_INT8:
        break;
    }
    return err_set(err, ERR_INVALID, "weights in %s do not exist on this device", weight_format_name(format));
}

// The table of random numbers on the device, made when a weight first asks for it.
static int open_quantiles(struct cuda_backend *backend, struct err *err) {
    if (backend->quantiles) return 0;
    float *on_device = device_memory_take(&backend->common_memory, RNG_QUANTILES * sizeof *on_device, err);
    if (!on_device) return err_prefix(err, "random weights");
    struct random_quantiles *quantiles = mem_alloc(sizeof *quantiles);
    random_quantiles_make(quantiles);
    cudaError_t error =
        cudaMemcpyAsync(on_device, quantiles->f32, sizeof quantiles->f32, cudaMemcpyHostToDevice, backend->stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(backend->stream);
    free(quantiles);
    backend->quantiles = on_device;
    return cuda_check(error, "copying random numbers", err);
}

// A quantised matrix on its way to BF16.
struct unpacking {
    const struct tensor *from;
    uint16_t *to;
    _Atomic int32_t bad_row; // has a value that is not finite; -1: there is none
};

static void unpack_rows(void *argument, int worker, int n_workers) {
    struct unpacking *unpacking = argument;
    const struct tensor *from = unpacking->from;
    const size_t n = (size_t)from->n_cols, n_groups = (size_t)tensor_groups(from->n_cols);
    float *values = mem_alloc_zero(n + 2 * n_groups, sizeof *values);
    struct tensor_row row = {mem_alloc_zero(n_groups, TENSOR_GROUP), values + n, values + n + n_groups};
    for (int32_t r = worker; r < from->n_rows; r += n_workers) {
        tensor_rows_decode(from, r, 1, &row);
        tensor_row_values(&row, from->format, from->n_cols, values);
        for (size_t k = 0; k < n; k++) {
            if (!isfinite(values[k])) unpacking->bad_row = r;
            unpacking->to[(size_t)r * n + k] = bf16_from_f32(values[k]);
        }
    }
    free(values), free(row.codes);
}

static int copy_plain(struct cuda_backend *backend, struct device_weight *out, const struct tensor *tensor,
                      enum device_format format, char *memory, struct err *err) {
    bool as_is = format == device_format_of(tensor->format);
    int rc = upload_open(backend, err);
    if (!rc && !as_is) rc = reserve_source(backend, tensor_bytes(tensor), err);
    if (rc) return rc;
    char *to = as_is ? memory : backend->upload.source;
    rc = cuda_check(upload_bytes(backend, to, tensor->data, tensor_bytes(tensor)), "copying weights", err);
    *out = (struct device_weight){
        .format = format, .n_out = tensor->n_rows, .n_in = tensor->n_cols, .group = tensor->n_cols, .data = memory};
    if (rc || as_is) return rc;
    return cuda_check(
        device_weight_make(out, format, to, tensor->format, tensor->n_rows, tensor->n_cols, memory, backend->stream),
        "quantising weights", err);
}

static int copy_weight(struct cuda_backend *backend, struct device_weight *out, const struct tensor *tensor,
                       enum device_format format, char *memory, struct err *err) {
    if (!tensor->rows) return copy_plain(backend, out, tensor, format, memory, err);
    int rc = upload_open(backend, err);
    if (rc) return rc;
    struct tensor plain = {.format = TENSOR_BF16, .n_rows = tensor->n_rows, .n_cols = tensor->n_cols};
    struct unpacking unpacking = {.from = tensor, .to = mem_alloc(tensor_bytes(&plain)), .bad_row = -1};
    pool_run(backend->upload.pool, pool_size(backend->upload.pool), unpack_rows, &unpacking);
    plain.data = unpacking.to;
    if (unpacking.bad_row >= 0)
        rc = err_set(err, ERR_FORMAT, "tensor \"%s\": row %d has a scale or value that is NaN or infinite",
                     tensor->rows->name, tensor->row_first + unpacking.bad_row);
    if (!rc) rc = copy_plain(backend, out, &plain, format, memory, err);
    if (!rc) rc = cuda_check(cudaStreamSynchronize(backend->stream), "copying weights", err);
    free(unpacking.to);
    return rc;
}

static int make_weight(struct cuda_backend *backend, struct device_weight *out, const struct tensor *tensor,
                       enum device_format format, struct err *err) {
    size_t n_bytes = device_weight_bytes(format, tensor->n_rows, tensor->n_cols);
    char *memory = device_memory_take(&backend->weight_memory, n_bytes, err);
    if (!memory) return err_prefix(err, "weights");
    if (!tensor->random_key) return copy_weight(backend, out, tensor, format, memory, err);
    int rc = open_quantiles(backend, err);
    return rc ? rc
              : cuda_check(device_weight_random(out, format, tensor->n_rows, tensor->n_cols, tensor->random_key,
                                                backend->quantiles, memory, backend->stream),
                           "drawing random weights", err);
}

uint64_t cuda_weight_bytes(const struct tensor *tensor, enum weight_format format) {
    enum device_format device_format = DEVICE_BF16;
    if (choose_format(&device_format, tensor, format, NULL)) return 0;
    return device_weight_bytes(device_format, tensor->n_rows, tensor->n_cols);
}

int cuda_weight_load(struct backend *common, struct tensor *tensor, enum weight_format format, struct err *err) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    enum device_format device_format = DEVICE_BF16;
    int rc = choose_format(&device_format, tensor, format, err);
    if (!rc) rc = cuda_check(cuda_enter(backend), "loading weights", err);
    if (rc) return rc;
    struct cuda_weight *weight = mem_alloc_zero(1, sizeof *weight);
    rc = make_weight(backend, &weight->device, tensor, device_format, err);
    if (rc) {
        free(weight);
        return rc;
    }
    weight->next = backend->weights;
    backend->weights = weight;
    tensor->handle = weight;
    return 0;
}

void cuda_weights_close(struct cuda_backend *backend) {
    for (struct cuda_weight *weight = backend->weights, *next; weight; weight = next) {
        next = weight->next;
        free(weight);
    }
    device_memory_close(&backend->weight_memory);
}
