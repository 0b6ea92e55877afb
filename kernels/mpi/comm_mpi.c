// Ranks over MPI, as a plugin, so that the program itself needs no MPI. Calls do not block inside the library: a rank
// that died would never let them return.
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/comm.h"

#include <assert.h>
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { SPIN_NS = 5 * 1000 * 1000 }; // a rank that waits longer sleeps between polls

static int fail(struct err *err, const char *what, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    return err_set(err, ERR_CLOSED, "%s failed: %s", what, text);
}

static int await(MPI_Request *request, const char *what, int patience_s, struct err *err) {
    const uint64_t started_ns = clock_now_ns(), patience_ns = (uint64_t)patience_s * 1000000000u;
    for (;;) {
        int done = 0, rc = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (rc != MPI_SUCCESS) return fail(err, what, rc);
        if (done) return 0;
        uint64_t waited_ns = clock_now_ns() - started_ns;
        if (waited_ns > patience_ns)
            return err_set(err, ERR_CLOSED, "another rank has not answered for %d s", patience_s);
        if (waited_ns > SPIN_NS)
            nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
        else
            sched_yield();
    }
}

static int mpi_all_gather(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err) {
    assert(n_bytes <= INT_MAX);
    MPI_Request request;
    int rc = MPI_Iallgather(mine, (int)n_bytes, MPI_BYTE, all, (int)n_bytes, MPI_BYTE, MPI_COMM_WORLD, &request);
    if (rc != MPI_SUCCESS) return fail(err, "MPI_Iallgather", rc);
    return await(&request, "MPI_Iallgather", comm->patience_s, err);
}

static int mpi_broadcast(struct comm *comm, void *data, size_t n_bytes, struct err *err) {
    assert(n_bytes <= INT_MAX);
    MPI_Request request;
    int rc = MPI_Ibcast(data, (int)n_bytes, MPI_BYTE, 0, MPI_COMM_WORLD, &request);
    if (rc != MPI_SUCCESS) return fail(err, "MPI_Ibcast", rc);
    return await(&request, "MPI_Ibcast", comm->patience_s, err);
}

static void mpi_close(struct comm *comm) {
    // A rank that has gone would keep MPI_Finalize waiting.
    if (!comm->failed) MPI_Finalize();
    free(comm);
}

static const struct comm_driver driver;

static int mpi_open(struct comm **out, struct err *err) {
    int provided = 0, rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
    if (rc != MPI_SUCCESS || provided < MPI_THREAD_SERIALIZED)
        return err_set(err, ERR_UNSUPPORTED, "MPI cannot be used from more than one thread here");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    struct comm *comm = mem_alloc_zero(1, sizeof *comm);
    comm->driver = &driver;
    MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &comm->n_ranks);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_rank(machine, &comm->local_rank);
    MPI_Comm_free(&machine);
    *out = comm;
    return 0;
}

static const struct comm_driver driver = {.abi = COMM_DRIVER_ABI,
                                          .open = mpi_open,
                                          .close = mpi_close,
                                          .all_gather = mpi_all_gather,
                                          .broadcast = mpi_broadcast};

__attribute__((visibility("default"))) const struct comm_driver *optima_comm_driver(void) {
    return &driver;
}
