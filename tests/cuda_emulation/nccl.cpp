// NCCL for one rank: every collective is a copy.
#include <nccl.h> // uses names that are macros in a kernel

#include "internal.h"

struct ncclComm {
    int rank;
};

static size_t bytes_of(ncclDataType_t type) {
    switch (type) {
    case ncclFloat32:
    case ncclInt32:
    case ncclUint32:
        return 4;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 1;
    }
}

static ncclResult_t copy(const void *from, void *to, size_t count, ncclDataType_t type, cudaStream_t stream) {
    if (emulation_call() != cudaSuccess) return ncclUnhandledCudaError;
    size_t n_bytes = count * bytes_of(type);
    if (from != to && n_bytes) emulation_enqueue(stream, WORK_KERNEL, [=] { memmove(to, from, n_bytes); });
    return ncclSuccess;
}

extern "C" {

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error";
    case ncclInvalidUsage:
        return "invalid usage";
    default:
        return "unknown result code";
    }
}
const char *ncclGetLastError(ncclComm_t) {
    return "";
}

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    if (emulation_call() != cudaSuccess) return ncclUnhandledCudaError;
    memset(id, 1, sizeof *id);
    return ncclSuccess;
}
// Several ranks would need a device each.
ncclResult_t ncclCommInitRank(ncclComm_t *out, int n_ranks, ncclUniqueId, int rank) {
    if (emulation_call() != cudaSuccess) return ncclUnhandledCudaError;
    if (n_ranks != 1 || rank != 0) return ncclInvalidUsage;
    *out = new ncclComm{rank};
    return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    delete comm;
    return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return ncclCommDestroy(comm);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *error) {
    *error = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                           cudaStream_t stream) {
    return copy(from, to, count, type, stream);
}
ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int, ncclComm_t,
                           cudaStream_t stream) {
    return copy(from, to, count, type, stream);
}
ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t,
                           cudaStream_t stream) {
    return copy(from, to, count, type, stream);
}
ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t,
                               cudaStream_t stream) {
    return copy(from, to, count, type, stream);
}
ncclResult_t ncclGroupStart(void) {
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    return ncclSuccess;
}

} // extern "C"
