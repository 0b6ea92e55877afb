// Ranks: processes that compute one model together, each on a shard of its weights (tensor parallelism).
//
// A launcher starts one process a rank (mpirun, srun, the MPI operator of Kubernetes) and sets rank and number in the
// environment. Collective calls are made by all ranks in the same order. Results have equal bits on every rank, because
// sums are taken in the order of ranks.
// Thread: one at a time; opened on one thread, used by the step thread.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm;

// *out = NULL when the launcher's environment speaks of no other rank. ERR_NOT_FOUND: there are other ranks, but the
// plugin that reaches them (liboptima_mpi.so, beside the program) cannot be loaded.
int comm_open(struct comm **out, struct err *err) __attribute__((warn_unused_result));
// Collective when `together`; false after an error here that the others may not know of: they are not waited for.
void comm_close(struct comm *comm, bool together);

// 0 and 1 for NULL.
int comm_rank(const struct comm *comm);
int comm_n_ranks(const struct comm *comm);
int comm_local_rank(const struct comm *comm); // among the ranks of this machine: which of its devices to take

// Collective calls fail with ERR_CLOSED when another rank has not come in time, and at once after a call has failed.
// Loading may take ranks a different while; in a step they are seconds apart at most.
enum { COMM_PATIENCE_LOADING_S = 1800, COMM_PATIENCE_S = 6 };
void comm_set_patience(struct comm *comm, int seconds); // at first COMM_PATIENCE_LOADING_S

// all[rank * n_bytes] = what each rank passed as mine.
int comm_all_gather(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err)
    __attribute__((warn_unused_result));
// values[n] of every rank are added, in the order of ranks. n is at most what comm_reserve was told.
int comm_sum(struct comm *comm, float *values, size_t n, struct err *err) __attribute__((warn_unused_result));
// Memory for sums of up to n values.
void comm_reserve(struct comm *comm, size_t n);
// Rank 0's bytes go to all.
int comm_broadcast(struct comm *comm, void *data, size_t n_bytes, struct err *err) __attribute__((warn_unused_result));
// ------------------------------------------------------------------------------- for those who implement a transport

enum { COMM_DRIVER_ABI = 2 };

struct comm_driver {
    uint32_t abi;
    int (*open)(struct comm **out, struct err *err);
    void (*close)(struct comm *comm);
    int (*all_gather)(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err);
    int (*broadcast)(struct comm *comm, void *data, size_t n_bytes, struct err *err);
};

// The first member of a transport's own struct, which `close` frees.
struct comm {
    const struct comm_driver *driver;
    int rank, n_ranks, local_rank, patience_s;
    bool failed;
    float *sums; // [n_ranks * n_sums]
    size_t n_sums;
};

// The symbol of a transport's plugin.
const struct comm_driver *optima_comm_driver(void);
