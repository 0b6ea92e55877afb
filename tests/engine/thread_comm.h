// Ranks that are threads of one process, for tests of what ranks compute.
#pragma once

#include "kernels/comm.h"
#include <pthread.h>

enum { THREAD_RANKS_MAX = 4 };

struct thread_ranks {
    pthread_barrier_t barrier;
    int n_ranks;
    const void *mine[THREAD_RANKS_MAX];
    struct thread_rank {
        struct comm common;
        struct thread_ranks *all;
    } ranks[THREAD_RANKS_MAX];
};

void thread_ranks_open(struct thread_ranks *ranks, int n_ranks);
void thread_ranks_close(struct thread_ranks *ranks);
