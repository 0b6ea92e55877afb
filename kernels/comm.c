#include "kernels/comm.h"

#include "base/mem.h"
#include "base/plugin.h"

#include <assert.h>
#include <stdlib.h>

// How launchers tell how many ranks there are: OpenMPI, MPICH and Slurm's PMI, Slurm itself.
static bool launched_with_others(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && strtol(value, NULL, 10) > 1) return true;
    }
    return false;
}

int comm_open(struct comm **out, struct err *err) {
    *out = NULL;
    if (!launched_with_others()) return 0;
    const struct comm_driver *(*driver_of)(void);
    int rc = plugin_symbol("liboptima_mpi.so", "optima_comm_driver", (void *)&driver_of, err);
    if (rc) return err_prefix(err, "other ranks cannot be reached");
    const struct comm_driver *driver = driver_of();
    if (driver->abi != COMM_DRIVER_ABI)
        return err_set(err, ERR_INVALID, "liboptima_mpi.so was built for another version of this program");
    rc = driver->open(out, err);
    if (!rc) comm_set_patience(*out, COMM_PATIENCE_LOADING_S);
    return rc;
}

void comm_set_patience(struct comm *comm, int seconds) {
    comm->patience_s = seconds;
}

void comm_close(struct comm *comm, bool together) {
    if (!comm) return;
    if (!together) comm->failed = true;
    free(comm->sums);
    comm->driver->close(comm);
}

int comm_rank(const struct comm *comm) {
    return comm ? comm->rank : 0;
}

int comm_n_ranks(const struct comm *comm) {
    return comm ? comm->n_ranks : 1;
}

int comm_local_rank(const struct comm *comm) {
    return comm ? comm->local_rank : 0;
}

static int remember(struct comm *comm, int rc) {
    if (rc) comm->failed = true;
    return rc;
}

static int refuse(struct err *err) {
    return err_set(err, ERR_CLOSED, "another rank has gone");
}

int comm_all_gather(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err) {
    if (comm->failed) return refuse(err);
    return remember(comm, comm->driver->all_gather(comm, mine, n_bytes, all, err));
}

int comm_broadcast(struct comm *comm, void *data, size_t n_bytes, struct err *err) {
    if (comm->failed) return refuse(err);
    return remember(comm, comm->driver->broadcast(comm, data, n_bytes, err));
}

void comm_reserve(struct comm *comm, size_t n) {
    if (n <= comm->n_sums) return;
    comm->sums = mem_grow(comm->sums, n * (size_t)comm->n_ranks, sizeof *comm->sums);
    comm->n_sums = n;
}

int comm_sum(struct comm *comm, float *values, size_t n, struct err *err) {
    assert(n <= comm->n_sums);
    int rc = comm_all_gather(comm, values, n * sizeof *values, comm->sums, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) {
        float sum = comm->sums[i];
        for (int rank = 1; rank < comm->n_ranks; rank++) sum += comm->sums[(size_t)rank * n + i];
        values[i] = sum;
    }
    return 0;
}
