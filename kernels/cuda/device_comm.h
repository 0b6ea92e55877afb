// Collective calls between the GPUs of several ranks, over NCCL, queued on a stream like any kernel.
#pragma once

#include "kernels/comm.h"
#include <cuda_runtime_api.h>

struct device_comm;

// Collective over `host`, which carries the identifier. Each rank has chosen its own device before: NCCL refuses two
// ranks on one.
int device_comm_open(struct device_comm **out, struct comm *host, struct err *err) __attribute__((warn_unused_result));
// `together`: the others close theirs, too. false: what waits for them on the device is given up.
void device_comm_close(struct device_comm *comm, bool together);

// values[n] = the sum over ranks, equal bits on all.
int device_comm_sum(struct device_comm *comm, float *values, size_t n, cudaStream_t stream, struct err *err)
    __attribute__((warn_unused_result));
// all[rank][n] = what each rank passed as mine.
int device_comm_all_gather(struct device_comm *comm, const float *mine, size_t n, float *all, cudaStream_t stream,
                           struct err *err) __attribute__((warn_unused_result));
// What has gone wrong since, for example because a rank has gone; 0: nothing. Call while waiting for a step.
int device_comm_check(struct device_comm *comm, struct err *err) __attribute__((warn_unused_result));
