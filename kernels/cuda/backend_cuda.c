// The CUDA device behind kernels/driver.h: opening it, its memory, and steps through its one stream.
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/cuda_backend.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cuda/peaks.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CAPABILITY_MAJOR_MIN = 8, SPIN_NS = 50 * 1000, POLL_NS = 20 * 1000 };

// ---------------------------------------------------------------------------------------------------------- errors

bool cuda_failed(struct cuda_backend *backend, cudaError_t error, const char *doing) {
    if (!backend->failure.code && error != cudaSuccess)
        err_set(&backend->failure, ERR_IO, "the CUDA device failed while %s: %s (%s)", doing, cudaGetErrorString(error),
                cudaGetErrorName(error));
    return backend->failure.code != 0;
}

int cuda_check(cudaError_t error, const char *doing, struct err *err) {
    if (error == cudaSuccess) return 0;
    (void)cudaGetLastError();
    return err_set(err, error == cudaErrorMemoryAllocation ? ERR_LIMIT : ERR_IO, "%s: %s (%s)", doing,
                   cudaGetErrorString(error), cudaGetErrorName(error));
}

cudaError_t cuda_enter(const struct cuda_backend *backend) {
    return cudaSetDevice(backend->device);
}

// ------------------------------------------------------------------------------------------------- open and close

static int check_driver(int *n_devices, struct err *err) {
    int driver = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceCount(n_devices);
    if (error == cudaSuccess && *n_devices > 0) return 0;
    (void)cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0 ||
            cudaRuntimeGetVersion(&runtime) != cudaSuccess)
            return err_set(err, ERR_UNSUPPORTED, "there is no NVIDIA driver");
        return err_set(err, ERR_UNSUPPORTED, "the NVIDIA driver is for CUDA %d.%d; this needs %d.%d", driver / 1000,
                       driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (error == cudaSuccess || error == cudaErrorNoDevice)
        return err_set(err, ERR_UNSUPPORTED, "there is no CUDA device");
    return cuda_check(error, "looking for CUDA devices", err);
}

static int check_device(struct cudaDeviceProp *properties, int index, struct err *err) {
    int n_devices = 0, rc = check_driver(&n_devices, err);
    if (rc) return rc;
    if (index < 0 || index >= n_devices)
        return err_set(err, ERR_UNSUPPORTED, "there is no CUDA device %d; there %s %d", index,
                       n_devices == 1 ? "is" : "are", n_devices);
    rc = cuda_check(cudaGetDeviceProperties(properties, index), "asking for the properties of a CUDA device", err);
    if (rc) return rc;
    if (properties->major < CAPABILITY_MAJOR_MIN)
        return err_set(err, ERR_UNSUPPORTED, "%s has compute capability %d.%d; %d.0 and up can be used",
                       properties->name, properties->major, properties->minor, CAPABILITY_MAJOR_MIN);
    return 0;
}

static void describe(struct cuda_backend *backend, const struct cudaDeviceProp *properties, size_t total_bytes) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    snprintf(backend->hardware, sizeof backend->hardware, "%.48s, compute capability %d.%d, driver %d.%d, %.1f GiB",
             properties->name, properties->major, properties->minor, driver / 1000, driver % 1000 / 10,
             (double)total_bytes / 0x1p30);
    snprintf(backend->common.description, sizeof backend->common.description, "%s", backend->hardware);
}

static int start(struct cuda_backend *backend, struct err *err) {
    struct cudaDeviceProp properties;
    int rc = check_device(&properties, backend->device, err);
    if (!rc) rc = cuda_check(cuda_enter(backend), "opening a CUDA device", err);
    size_t free_bytes = 0, total_bytes = 0;
    if (!rc) rc = cuda_check(cudaMemGetInfo(&free_bytes, &total_bytes), "opening a CUDA device", err);
    if (rc) return rc;
    backend->n_processors = properties.multiProcessorCount;
    describe(backend, &properties, total_bytes);
    rc = cuda_check(cudaStreamCreateWithFlags(&backend->stream, cudaStreamNonBlocking), "creating a stream", err);
    for (int i = 0; !rc && i < STEPS_MAX; i++) {
        rc = cuda_check(cudaEventCreate(&backend->steps[i].begins), "creating an event", err);
        if (!rc)
            rc = cuda_check(cudaEventCreateWithFlags(&backend->steps[i].ended, cudaEventBlockingSync),
                            "creating an event", err);
    }
    if (rc) return rc;
    backend->drawn = device_memory_take(&backend->common_memory, DRAWN_MAX * sizeof *backend->drawn, err);
    if (!backend->drawn) return err->code;
    return cuda_check(cudaMemsetAsync(backend->drawn, 0, DRAWN_MAX * sizeof *backend->drawn, backend->stream),
                      "clearing memory", err);
}

static void cuda_close(struct backend *common) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    (void)cuda_enter(backend);
    if (backend->stream) (void)cudaStreamSynchronize(backend->stream);
    while (backend->programs) cuda_program_close(&backend->programs->common);
    cuda_upload_close(backend);
    cuda_weights_close(backend);
    device_memory_close(&backend->kv_memory);
    device_memory_close(&backend->common_memory);
    for (int i = 0; i < STEPS_MAX; i++) {
        if (backend->steps[i].begins) cudaEventDestroy(backend->steps[i].begins);
        if (backend->steps[i].ended) cudaEventDestroy(backend->steps[i].ended);
    }
    if (backend->stream) cudaStreamDestroy(backend->stream);
    free(backend);
}

static int cuda_open(struct backend **out, const struct backend_options *options, struct err *err) {
    struct cuda_backend *backend = mem_alloc_zero(1, sizeof *backend);
    backend->common.steps_in_flight = STEPS_MAX;
    backend->common.holds_weights = true;
    backend->device = options->device_index;
    backend->deterministic = options->deterministic;
    struct err why = {0};
    int rc = start(backend, &why);
    if (rc) {
        cuda_close(&backend->common);
        return err_set(err, rc, "%s", why.text);
    }
    *out = &backend->common;
    return 0;
}

// ---------------------------------------------------------------------------------------------------------- memory

static uint64_t cuda_memory_available(const struct backend *common) {
    const struct cuda_backend *backend = (const struct cuda_backend *)common;
    size_t free_bytes = 0, total_bytes = 0;
    if (cuda_enter(backend) != cudaSuccess || cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) return 0;
    return free_bytes + backend->upload.source_bytes; // which goes when the cache is opened
}

static void cuda_memory(const struct backend *common, struct backend_memory *out) {
    const struct cuda_backend *backend = (const struct cuda_backend *)common;
    out->weights_bytes = backend->weight_memory.n_bytes;
    out->kv_bytes = backend->kv_memory.n_bytes;
    out->workspace_bytes = backend->common_memory.n_bytes + device_page_ceil(backend->upload.source_bytes);
    for (const struct cuda_program *p = backend->programs; p; p = p->next) {
        out->activation_bytes += p->activation_bytes;
        out->workspace_bytes += p->memory.n_bytes + p->vector_memory.n_bytes - p->activation_bytes;
    }
    out->kv_resident_bytes = out->kv_bytes;
    out->activation_resident_bytes = out->activation_bytes;
    out->workspace_resident_bytes = out->workspace_bytes;
    size_t free_bytes = 0, total_bytes = 0;
    if (cuda_enter(backend) != cudaSuccess || cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) return;
    uint64_t ours = out->weights_bytes + out->kv_bytes + out->workspace_bytes + out->activation_bytes;
    uint64_t used = total_bytes - free_bytes;
    out->driver_bytes = used > ours ? used - ours : 0;
}

static int cuda_kv_open(struct backend *common, const struct kv_shape *shape, struct err *err) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    if (shape->head_dim % 4 != 0 || shape->head_dim > HEAD_DIM_MAX || shape->block_tokens != ATTENTION_BLOCK)
        return err_set(err, ERR_UNSUPPORTED,
                       "heads of width %d do not run on this device, which takes multiples of 4 up "
                       "to %d, in blocks of %d tokens",
                       shape->head_dim, HEAD_DIM_MAX, ATTENTION_BLOCK);
    if (shape->format == KV_INT8)
        return err_set(err, ERR_INVALID, "a KV cache in int8 does not exist on a CUDA device; fp8 does");
    int rc = cuda_check(cuda_enter(backend), "opening the KV cache", err);
    if (!rc) rc = cuda_check(cudaStreamSynchronize(backend->stream), "loading weights", err);
    if (rc) return rc;
    cuda_upload_close(backend);
    size_t n_bytes = (size_t)kv_bytes_per_block(shape) * (size_t)shape->n_blocks;
    void *data = device_memory_take(&backend->kv_memory, n_bytes, err);
    if (!data) return err_prefix(err, "the KV cache");
    // Positions that were never written are masked by their scores, so they must be numbers.
    rc = cuda_check(cudaMemsetAsync(data, 0, n_bytes, backend->stream), "clearing the KV cache", err);
    backend->kv = (struct device_kv){data, n_bytes / (size_t)shape->n_layers, *shape};
    return rc;
}

static void cuda_measure_peaks(struct backend *common, struct backend_peaks *out) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    const struct peaks_sizes sizes = peaks_sizes_for(backend->n_processors);
    if (cuda_enter(backend) == cudaSuccess) peaks_measure(&sizes, backend->stream, out);
}

// ----------------------------------------------------------------------------------------------------------- steps

static struct cuda_step *step_of(struct cuda_backend *backend, uint64_t number) {
    return &backend->steps[number % STEPS_MAX];
}

// Queues everything that a step needs; the first call that fails ends it.
static void queue_step(struct cuda_backend *backend, struct cuda_program *p, const struct step_input *input) {
    uint64_t number = backend->n_submitted;
    struct cuda_step *step = step_of(backend, number);
    struct device_step *staged = p->staged[number % STEPS_MAX];
    cudaStream_t stream = backend->stream;
    if (cuda_failed(backend, cuda_enter(backend), "beginning a step")) return;
    cuda_pack(p, input, staged);
    step->n_padding_rows = cuda_padding_rows(p, input->n_rows);
    if (cuda_failed(backend, cudaEventRecord(step->begins, stream), "beginning a step")) return;
    if (cuda_failed(backend, cudaMemcpyAsync(p->step, staged, staged->n_bytes, cudaMemcpyHostToDevice, stream),
                    "sending a step"))
        return;
    bool is_sampled = false;
    if (cuda_failed(backend, cuda_step_queue(p, staged, &is_sampled), "launching a step")) return;
    step->is_sampled = is_sampled;
    size_t result_bytes = (size_t)input->n_logit_rows * sizeof *p->results;
    if (result_bytes && cuda_failed(backend,
                                    cudaMemcpyAsync(p->landed[number % STEPS_MAX], p->results, result_bytes,
                                                    cudaMemcpyDeviceToHost, stream),
                                    "fetching results"))
        return;
    (void)cuda_failed(backend, cudaEventRecord(step->ended, stream), "ending a step");
}

static void cuda_submit(struct backend *common, struct program *program, const struct step_input *input) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    struct cuda_program *p = (struct cuda_program *)program;
    struct cuda_step *step = step_of(backend, backend->n_submitted);
    step->program = p;
    if (!backend->failure.code) queue_step(backend, p, input);
    step->n_logit_rows = input->n_logit_rows;
    backend->n_submitted++;
}

// Another rank that has gone leaves this one's device waiting for ever.
static bool ranks_are_there(struct cuda_backend *backend, const struct cuda_program *p, uint64_t waited_ns) {
    struct err err = {0};
    int rc = device_comm_check(p->ranks, &err);
    if (!rc && waited_ns > COMM_PATIENCE_S * 1000000000ull)
        rc = err_set(&err, ERR_CLOSED, "another rank has not answered for %d s", COMM_PATIENCE_S);
    if (rc && !backend->failure.code) backend->failure = err;
    return rc == 0;
}

// Short steps are worth a spin; for others the thread sleeps.
static cudaError_t wait_for(struct cuda_backend *backend, const struct cuda_program *p, cudaEvent_t event) {
    for (uint64_t begin = clock_now_ns();;) {
        cudaError_t error = cudaEventQuery(event);
        if (error != cudaErrorNotReady) return error;
        (void)cudaGetLastError();
        uint64_t waited_ns = clock_now_ns() - begin;
        if (waited_ns < SPIN_NS) continue;
        if (!p->ranks) return cudaEventSynchronize(event);
        if (!ranks_are_there(backend, p, waited_ns)) return cudaErrorUnknown;
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

static uint64_t ns_between(cudaEvent_t from, cudaEvent_t to) {
    float ms = 0;
    if (cudaEventElapsedTime(&ms, from, to) != cudaSuccess) (void)cudaGetLastError();
    return ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
}

static void read_times(const struct cuda_step *step, struct step_times *times) {
    times->total_ns = ns_between(step->begins, step->ended);
    times->n_padding_rows = step->n_padding_rows;
    if (!step->is_sampled) return;
    const struct cuda_program *p = step->program;
    for (int i = 0; i < p->n_ops; i++) times->op_ns[p->ops[i].op.kind] += ns_between(p->marks[i], p->marks[i + 1]);
}

static int cuda_collect(struct backend *common, struct sample_result *results, struct step_times *times,
                        struct err *err) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    uint64_t number = backend->n_collected++;
    struct cuda_step *step = step_of(backend, number);
    if (!cuda_failed(backend, cuda_enter(backend), "ending a step") &&
        !cuda_failed(backend, wait_for(backend, step->program, step->ended), "computing a step")) {
        read_times(step, times);
        if (step->n_logit_rows > 0)
            memcpy(results, step->program->landed[number % STEPS_MAX], (size_t)step->n_logit_rows * sizeof *results);
    }
    backend->last_program = step->program;
    step->is_sampled = false;
    return backend->failure.code ? err_set(err, backend->failure.code, "%s", backend->failure.text) : 0;
}

// For checks: what the step collected last left on the device, so no other may be in flight.
static const float *cuda_logits(struct backend *common, int32_t logit_row) {
    struct cuda_backend *backend = (struct cuda_backend *)common;
    struct cuda_program *p = backend->last_program;
    assert(p && common->n_in_flight == 0 && logit_row >= 0 && logit_row < p->common.shape.logit_rows_max);
    size_t vocab = (size_t)p->common.shape.vocab;
    if (!p->logits_on_host)
        p->logits_on_host = mem_alloc_zero((size_t)p->common.shape.logit_rows_max * vocab, sizeof *p->logits_on_host);
    float *row = p->logits_on_host + (size_t)logit_row * vocab;
    cudaError_t error = cuda_enter(backend);
    if (error == cudaSuccess)
        error = cudaMemcpy(row, p->logits + (size_t)logit_row * vocab, vocab * sizeof *row, cudaMemcpyDeviceToHost);
    (void)cuda_failed(backend, error, "fetching logits");
    return row;
}

const struct backend_driver *optima_backend_driver(void) {
    static const struct backend_driver driver = {.abi = BACKEND_DRIVER_ABI,
                                                 .name = "cuda",
                                                 .open = cuda_open,
                                                 .close = cuda_close,
                                                 .memory_available = cuda_memory_available,
                                                 .memory = cuda_memory,
                                                 .measure_peaks = cuda_measure_peaks,
                                                 .weight_bytes = cuda_weight_bytes,
                                                 .weight_load = cuda_weight_load,
                                                 .kv_open = cuda_kv_open,
                                                 .program_open = cuda_program_open,
                                                 .program_add = cuda_program_add,
                                                 .program_prepare = cuda_program_prepare,
                                                 .program_close = cuda_program_close,
                                                 .submit = cuda_submit,
                                                 .collect = cuda_collect,
                                                 .logits = cuda_logits};
    return &driver;
}
