// The CUDA runtime's functions for an emulated device: memory, streams, events, graphs. Streams do at once what they
// are told, in order; a stream that captures records instead.
#include "internal.h"

#include <map>
#include <mutex>
#include <set>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <vector>

typedef std::vector<std::function<void()>> work_list;

struct CUgraph_st {
    work_list work;
    std::vector<cudaStream_t> streams; // that captured into it
    bool is_invalid;
};
struct CUgraphExec_st {
    work_list work;
};
struct CUstream_st {
    cudaGraph_t capture; // NULL: does at once
};
struct CUevent_st {
    cudaGraph_t capture; // recorded while this graph was captured
    double ms;
    bool is_recorded, has_timing;
};

namespace {

struct allocation {
    size_t n_bytes, mapped_bytes;
    void *mapping;
    bool is_device;
};

std::recursive_mutex the_lock;
struct emulation_device the_device = {1, 9, 0, 4, (size_t)1 << 30};
std::map<char *, allocation> the_allocations;
CUstream_st the_default_stream;
std::set<cudaGraph_t> the_captures; // that are not relaxed
thread_local cudaError_t the_last_error;
uint64_t n_calls, n_allocated_bytes;
int64_t n_calls_to_failure = -1;
cudaError_t injected_error;
bool injected_is_sticky;

const size_t PAGE_BYTES = 4096;
const unsigned char POISON = 0xff, CANARY = 0xa5;

cudaError_t fail_with(cudaError_t error) {
    if (error != cudaSuccess) the_last_error = error;
    return error;
}

CUstream_st *stream_of(cudaStream_t stream) {
    bool is_default = stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
    return is_default ? &the_default_stream : stream;
}

} // namespace

typedef std::lock_guard<std::recursive_mutex> locked;

cudaError_t emulation_call(void) {
    locked lock(the_lock);
    n_calls++;
    if (n_calls_to_failure < 0 || n_calls_to_failure-- > 0) return cudaSuccess;
    if (injected_is_sticky) n_calls_to_failure = 0;
    return fail_with(injected_error);
}

#define RETURN_INJECTED()                                                                                              \
    do {                                                                                                               \
        cudaError_t injected = emulation_call();                                                                       \
        if (injected != cudaSuccess) return injected;                                                                  \
    } while (0)

cudaError_t emulation_enqueue(cudaStream_t stream, enum emulation_work kind, std::function<void()> work) {
    CUstream_st *target = stream_of(stream);
    if (target->capture)
        target->capture->work.push_back([kind, work = std::move(work)] { emulation_work_run(kind, work); });
    else
        emulation_work_run(kind, work);
    return cudaSuccess;
}

extern "C" {

// ------------------------------------------------------------------------------------------------------ for the tests

void emulation_device_set(const struct emulation_device *device) {
    the_device = *device;
}
struct emulation_device emulation_device_get(void) {
    return the_device;
}

void emulation_fail_after(int n_calls_before, cudaError_t error, bool sticky) {
    locked lock(the_lock);
    n_calls_to_failure = error == cudaSuccess ? -1 : n_calls_before;
    injected_error = error, injected_is_sticky = sticky;
    the_last_error = cudaSuccess;
}

uint64_t emulation_n_calls(void) {
    return n_calls;
}
uint64_t emulation_n_allocations(void) {
    return the_allocations.size();
}

// ------------------------------------------------------------------------------------------------------------- errors

cudaError_t cudaGetLastError(void) {
    cudaError_t error = the_last_error;
    the_last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError(void) {
    return the_last_error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} error_names[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
};

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &entry : error_names)
        if (entry.error == error) return entry.name;
    return "cudaErrorUnknown";
}
const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &entry : error_names)
        if (entry.error == error) return entry.text;
    return "unknown error";
}

// ------------------------------------------------------------------------------------------------------------ devices

cudaError_t cudaGetDeviceCount(int *count) {
    RETURN_INJECTED();
    *count = the_device.n_devices;
    return fail_with(the_device.n_devices ? cudaSuccess : cudaErrorNoDevice);
}

static thread_local int current_device;

cudaError_t cudaSetDevice(int device) {
    RETURN_INJECTED();
    if (device < 0 || device >= the_device.n_devices) return fail_with(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    RETURN_INJECTED();
    *device = current_device;
    return cudaSuccess;
}
// What a capture forbids: calls that would wait for the device.
static cudaError_t check_no_capture(void) {
    if (the_captures.empty()) return cudaSuccess;
    for (cudaGraph_t graph : the_captures) graph->is_invalid = true;
    return fail_with(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaDeviceSynchronize(void) {
    RETURN_INJECTED();
    emulation_access_order();
    return check_no_capture();
}
cudaError_t cudaDriverGetVersion(int *version) {
    RETURN_INJECTED();
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    RETURN_INJECTED();
    *version = CUDART_VERSION;
    return cudaSuccess;
}

static size_t shared_bytes_max(void) {
    if (the_device.major >= 9) return 227 << 10;
    return (the_device.minor == 0 ? 163 : 99) << 10;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    RETURN_INJECTED();
    if (device < 0 || device >= the_device.n_devices) return fail_with(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->totalGlobalMem = the_device.memory_bytes;
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerBlockOptin = shared_bytes_max();
    properties->sharedMemPerMultiprocessor = shared_bytes_max() + 1024;
    properties->reservedSharedMemPerBlock = 1024;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxBlocksPerMultiProcessor = 32;
    properties->major = the_device.major, properties->minor = the_device.minor;
    properties->multiProcessorCount = the_device.n_multiprocessors;
    properties->l2CacheSize = 1 << 20;
    properties->memoryBusWidth = 1024;
    properties->unifiedAddressing = properties->asyncEngineCount = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) return error;
    const struct {
        enum cudaDeviceAttr attribute;
        int value;
    } values[] = {
        {cudaDevAttrComputeCapabilityMajor, properties.major},
        {cudaDevAttrComputeCapabilityMinor, properties.minor},
        {cudaDevAttrMultiProcessorCount, properties.multiProcessorCount},
        {cudaDevAttrMaxSharedMemoryPerBlock, (int)properties.sharedMemPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)properties.sharedMemPerBlockOptin},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)properties.sharedMemPerMultiprocessor},
        {cudaDevAttrMaxThreadsPerBlock, properties.maxThreadsPerBlock},
        {cudaDevAttrMaxThreadsPerMultiProcessor, properties.maxThreadsPerMultiProcessor},
        {cudaDevAttrL2CacheSize, properties.l2CacheSize},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMemoryClockRate, 1000000},
        {cudaDevAttrGlobalMemoryBusWidth, properties.memoryBusWidth},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMemoryPoolsSupported, 0},
    };
    for (const auto &entry : values) {
        if (entry.attribute != attribute) continue;
        *value = entry.value;
        return cudaSuccess;
    }
    return fail_with(cudaErrorInvalidValue);
}

// ------------------------------------------------------------------------------------------------------------- memory

// A whole number of pages that ends, but for the alignment of 256 bytes, at a page that nobody may touch.
static cudaError_t allocate(void **out, size_t n_bytes, bool is_device) {
    locked lock(the_lock);
    *out = nullptr;
    if (n_bytes == 0) return cudaSuccess;
    if (is_device && n_allocated_bytes + n_bytes > the_device.memory_bytes) return fail_with(cudaErrorMemoryAllocation);
    size_t aligned = (n_bytes + 255) & ~(size_t)255, pages = (aligned + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    void *mapping = mmap(nullptr, pages + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return fail_with(cudaErrorMemoryAllocation);
    mprotect(static_cast<char *>(mapping) + pages, PAGE_BYTES, PROT_NONE);
    char *start = static_cast<char *>(mapping) + pages - aligned;
    memset(start, POISON, n_bytes);
    memset(start + n_bytes, CANARY, aligned - n_bytes);
    the_allocations[start] = {n_bytes, pages + PAGE_BYTES, mapping, is_device};
    if (is_device) n_allocated_bytes += n_bytes, emulation_access_add(mapping, pages);
    *out = start;
    return cudaSuccess;
}

static cudaError_t release(void *pointer, bool is_device) {
    locked lock(the_lock);
    if (!pointer) return cudaSuccess;
    auto found = the_allocations.find(static_cast<char *>(pointer));
    if (found == the_allocations.end() || found->second.is_device != is_device) return fail_with(cudaErrorInvalidValue);
    const allocation &memory = found->second;
    emulation_access_remove(memory.mapping);
    const unsigned char *slack = static_cast<unsigned char *>(pointer) + memory.n_bytes;
    while ((uintptr_t)slack % 256) {
        if (*slack++ != CANARY)
            emulation_fail("memory of %zu bytes was written %zu bytes behind its end", memory.n_bytes,
                           (size_t)(slack - static_cast<unsigned char *>(pointer)) - memory.n_bytes);
    }
    if (is_device) n_allocated_bytes -= memory.n_bytes;
    munmap(memory.mapping, memory.mapped_bytes);
    the_allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t n_bytes) {
    RETURN_INJECTED();
    if (check_no_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    return allocate(out, n_bytes, true);
}
// What gives back does so even where it fails: it reports what went wrong before.
cudaError_t cudaFree(void *pointer) {
    cudaError_t error = release(pointer, true);
    RETURN_INJECTED();
    return error;
}
cudaError_t cudaMallocHost(void **out, size_t n_bytes) {
    RETURN_INJECTED();
    return allocate(out, n_bytes, false);
}
cudaError_t cudaHostAlloc(void **out, size_t n_bytes, unsigned) {
    return cudaMallocHost(out, n_bytes);
}
cudaError_t cudaFreeHost(void *pointer) {
    cudaError_t error = release(pointer, false);
    RETURN_INJECTED();
    return error;
}
cudaError_t cudaHostRegister(void *, size_t, unsigned) {
    RETURN_INJECTED();
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *) {
    RETURN_INJECTED();
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    RETURN_INJECTED();
    *free_bytes = the_device.memory_bytes - n_allocated_bytes;
    *total_bytes = the_device.memory_bytes;
    return cudaSuccess;
}

static bool is_device_memory(const void *pointer) {
    locked lock(the_lock);
    char *at = static_cast<char *>(const_cast<void *>(pointer));
    auto next = the_allocations.upper_bound(at);
    if (next == the_allocations.begin()) return false;
    const auto &[start, memory] = *--next;
    return memory.is_device && at < start + memory.n_bytes;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    RETURN_INJECTED();
    if (n_bytes == 0) return cudaSuccess;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    bool is_known = kind != cudaMemcpyDefault;
    if (is_known && (is_device_memory(to) != to_device || is_device_memory(from) != from_device))
        return fail_with(cudaErrorInvalidValue);
    return emulation_enqueue(stream, WORK_COPY, [=] { memmove(to, from, n_bytes); });
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind) {
    if (check_no_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    return cudaMemcpyAsync(to, from, n_bytes, kind, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind, cudaStream_t stream) {
    RETURN_INJECTED();
    if (width > to_pitch || width > from_pitch) return fail_with(cudaErrorInvalidValue);
    return emulation_enqueue(stream, WORK_COPY, [=] {
        for (size_t row = 0; row < height; row++)
            memmove(static_cast<char *>(to) + row * to_pitch, static_cast<const char *>(from) + row * from_pitch,
                    width);
    });
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t n_bytes, cudaStream_t stream) {
    RETURN_INJECTED();
    if (n_bytes == 0) return cudaSuccess;
    return emulation_enqueue(stream, WORK_COPY, [=] { memset(to, value, n_bytes); });
}
cudaError_t cudaMemset(void *to, int value, size_t n_bytes) {
    if (check_no_capture() != cudaSuccess) return cudaErrorStreamCaptureUnsupported;
    return cudaMemsetAsync(to, value, n_bytes, nullptr);
}

// ------------------------------------------------------------------------------------------------- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    RETURN_INJECTED();
    *out = new CUstream_st();
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out) {
    return cudaStreamCreateWithFlags(out, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int) {
    return cudaStreamCreateWithFlags(out, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    RETURN_INJECTED();
    return cudaSuccess;
}

// A call that cannot be captured spoils the capture.
static cudaError_t check_not_capturing(cudaStream_t stream) {
    cudaGraph_t graph = stream_of(stream)->capture;
    if (!graph) return cudaSuccess;
    graph->is_invalid = true;
    return fail_with(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    RETURN_INJECTED();
    emulation_access_order();
    return check_not_capturing(stream);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    RETURN_INJECTED();
    return check_not_capturing(stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    RETURN_INJECTED();
    return emulation_enqueue(stream, WORK_HOST, [=] { function(data); });
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    RETURN_INJECTED();
    *out = new CUevent_st();
    (*out)->has_timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    RETURN_INJECTED();
    return cudaSuccess;
}

static void event_mark(cudaEvent_t event) {
    event->ms = now_ms();
    event->is_recorded = true;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    RETURN_INJECTED();
    event->capture = stream_of(stream)->capture;
    // In a capture an event only ties streams together, unless it is to be recorded by the graph.
    if (event->capture && !(flags & cudaEventRecordExternal)) return cudaSuccess;
    return emulation_enqueue(stream, WORK_MARK, [event] { event_mark(event); });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    RETURN_INJECTED();
    emulation_access_order();
    return event->capture ? fail_with(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    RETURN_INJECTED();
    if (!start->has_timing || !end->has_timing) return fail_with(cudaErrorInvalidResourceHandle);
    if (!start->is_recorded || !end->is_recorded) return fail_with(cudaErrorInvalidResourceHandle);
    *ms = (float)(end->ms - start->ms);
    return cudaSuccess;
}

// A stream that waits for an event of a capture takes part in it.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    RETURN_INJECTED();
    CUstream_st *target = stream_of(stream);
    if (!event->capture || target->capture == event->capture) return cudaSuccess;
    if (target->capture) return fail_with(cudaErrorStreamCaptureUnsupported);
    target->capture = event->capture;
    event->capture->streams.push_back(target);
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------------------- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    RETURN_INJECTED();
    CUstream_st *target = stream_of(stream);
    if (target == &the_default_stream || target->capture) return fail_with(cudaErrorStreamCaptureUnsupported);
    target->capture = new CUgraph_st();
    target->capture->streams.push_back(target);
    if (mode != cudaStreamCaptureModeRelaxed) the_captures.insert(target->capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    CUstream_st *origin = stream_of(stream);
    cudaGraph_t graph = origin->capture;
    *out = nullptr;
    if (!graph || graph->streams[0] != origin) return fail_with(cudaErrorIllegalState);
    the_captures.erase(graph);
    for (cudaStream_t member : graph->streams) member->capture = nullptr;
    cudaError_t injected = emulation_call();
    if (injected == cudaSuccess && !graph->is_invalid) {
        *out = graph;
        return cudaSuccess;
    }
    delete graph;
    return injected != cudaSuccess ? injected : fail_with(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    RETURN_INJECTED();
    *status = stream_of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    RETURN_INJECTED();
    *out = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    RETURN_INJECTED();
    return emulation_enqueue(stream, WORK_HOST, [graph] {
        for (const auto &work : graph->work) work();
    });
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    RETURN_INJECTED();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    RETURN_INJECTED();
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    RETURN_INJECTED();
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------------------ kernels

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int value) {
    RETURN_INJECTED();
    return value < 0 || (size_t)value > shared_bytes_max() ? fail_with(cudaErrorInvalidValue) : cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *out, const void *, int block_size, size_t shared_bytes) {
    RETURN_INJECTED();
    if (block_size < 1 || block_size > 1024 || shared_bytes > shared_bytes_max())
        return fail_with(cudaErrorInvalidValue);
    int by_threads = 2048 / block_size, by_shared = (int)((shared_bytes_max() + 1024) / (shared_bytes + 1024));
    *out = by_threads < by_shared ? by_threads : by_shared;
    if (*out > 32) *out = 32;
    return cudaSuccess;
}

} // extern "C"

cudaError_t emulation_launch_closure(const char *text, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                                     bool overlap, std::function<void()> kernel) {
    RETURN_INJECTED();
    size_t n_threads = (size_t)block.x * block.y * block.z;
    bool is_block_valid = n_threads >= 1 && n_threads <= 1024 && block.z <= 64;
    bool is_grid_valid = grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
    if (!is_block_valid || !is_grid_valid) return fail_with(cudaErrorInvalidConfiguration);
    if (shared_bytes > shared_bytes_max()) return fail_with(cudaErrorInvalidValue);
    return emulation_enqueue(stream, overlap ? WORK_OVERLAP : WORK_KERNEL, [=, kernel = std::move(kernel)] {
        emulation_run_grid(text, grid, block, shared_bytes, overlap, kernel);
    });
}
