#include "kernels/cuda/device_comm.h"

#include "base/mem.h"

#include <nccl.h>
#include <stdlib.h>

struct device_comm {
    ncclComm_t nccl;
};

static int fail(ncclResult_t result, const char *what, struct err *err) {
    return err_set(err, ERR_CLOSED, "%s failed: %s", what, ncclGetErrorString(result));
}

int device_comm_open(struct device_comm **out, struct comm *host, struct err *err) {
    ncclUniqueId id = {0};
    ncclResult_t result = comm_rank(host) == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    if (result != ncclSuccess) return fail(result, "ncclGetUniqueId", err);
    int rc = comm_broadcast(host, &id, sizeof id, err);
    if (rc) return rc;
    struct device_comm *comm = mem_alloc_zero(1, sizeof *comm);
    result = ncclCommInitRank(&comm->nccl, comm_n_ranks(host), id, comm_rank(host));
    if (result != ncclSuccess) {
        free(comm);
        return fail(result, "ncclCommInitRank", err);
    }
    *out = comm;
    return 0;
}

void device_comm_close(struct device_comm *comm, bool together) {
    if (!comm) return;
    if (together)
        ncclCommDestroy(comm->nccl);
    else
        ncclCommAbort(comm->nccl);
    free(comm);
}

int device_comm_sum(struct device_comm *comm, float *values, size_t n, cudaStream_t stream, struct err *err) {
    ncclResult_t result = ncclAllReduce(values, values, n, ncclFloat32, ncclSum, comm->nccl, stream);
    return result == ncclSuccess ? 0 : fail(result, "ncclAllReduce", err);
}

int device_comm_all_gather(struct device_comm *comm, const float *mine, size_t n, float *all, cudaStream_t stream,
                           struct err *err) {
    ncclResult_t result = ncclAllGather(mine, all, n, ncclFloat32, comm->nccl, stream);
    return result == ncclSuccess ? 0 : fail(result, "ncclAllGather", err);
}

int device_comm_check(struct device_comm *comm, struct err *err) {
    ncclResult_t state = ncclSuccess, result = ncclCommGetAsyncError(comm->nccl, &state);
    if (result != ncclSuccess) return fail(result, "ncclCommGetAsyncError", err);
    return state == ncclSuccess || state == ncclInProgress ? 0 : fail(state, "a collective call", err);
}
