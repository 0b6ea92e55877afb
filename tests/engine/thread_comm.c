#include "tests/engine/thread_comm.h"

#include <stdlib.h>
#include <string.h>

static int all_gather(struct comm *comm, const void *mine, size_t n_bytes, void *all, struct err *err) {
    (void)err;
    struct thread_ranks *ranks = ((struct thread_rank *)comm)->all;
    ranks->mine[comm->rank] = mine;
    pthread_barrier_wait(&ranks->barrier);
    for (int i = 0; i < ranks->n_ranks; i++) memcpy((char *)all + (size_t)i * n_bytes, ranks->mine[i], n_bytes);
    pthread_barrier_wait(&ranks->barrier);
    return 0;
}

static int broadcast(struct comm *comm, void *data, size_t n_bytes, struct err *err) {
    (void)err;
    struct thread_ranks *ranks = ((struct thread_rank *)comm)->all;
    ranks->mine[comm->rank] = data;
    pthread_barrier_wait(&ranks->barrier);
    if (comm->rank > 0) memcpy(data, ranks->mine[0], n_bytes);
    pthread_barrier_wait(&ranks->barrier);
    return 0;
}

static const struct comm_driver driver = {.abi = COMM_DRIVER_ABI, .all_gather = all_gather, .broadcast = broadcast};

void thread_ranks_open(struct thread_ranks *ranks, int n_ranks) {
    *ranks = (struct thread_ranks){.n_ranks = n_ranks};
    pthread_barrier_init(&ranks->barrier, NULL, (unsigned)n_ranks);
    for (int i = 0; i < n_ranks; i++)
        ranks->ranks[i] =
            (struct thread_rank){.common = {.driver = &driver, .rank = i, .n_ranks = n_ranks}, .all = ranks};
}

void thread_ranks_close(struct thread_ranks *ranks) {
    for (int i = 0; i < ranks->n_ranks; i++) free(ranks->ranks[i].common.sums);
    pthread_barrier_destroy(&ranks->barrier);
}
