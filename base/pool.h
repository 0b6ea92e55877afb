// A fixed team of worker threads that run one function together, step after step.
//
// The thread that calls pool_run is worker 0. Workers spin briefly between runs and then park, so that an idle
// server uses no processor; a run wakes only the workers that it uses. One thread at a time may call pool_run.
#pragma once

#include "base/err.h"

struct pool;

// Starts n_threads - 1 threads (n_threads >= 1; see pool_cores for "auto").
int pool_open(struct pool **out, int n_threads, struct err *err) __attribute__((warn_unused_result));
void pool_close(struct pool *pool);
int pool_size(const struct pool *pool);

// Runs task(argument, worker, n_workers) on workers 0 .. n_workers-1 and returns when all have returned.
// 1 <= n_workers <= pool_size.
typedef void pool_task(void *argument, int worker, int n_workers);
void pool_run(struct pool *pool, int n_workers, pool_task *task, void *argument);

// Inside a task, with its n_workers: waits until every worker of this run has arrived. What was written before is
// visible after.
void pool_barrier(struct pool *pool, int n_workers);

// Physical cores that this process may use (affinity and cgroup quota respected), at least 1.
int pool_cores(void);
