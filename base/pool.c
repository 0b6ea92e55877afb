#include "base/pool.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A waiter spins for about this many pauses (some tens of microseconds), then yields or parks.
enum { SPIN_PAUSES = 1000, CACHE_LINE = 64, WORKERS_BITS = 16 };

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
    pthread_cond_t wake;
    _Alignas(CACHE_LINE) _Atomic bool parked;
};

struct pool {
    int n_threads;
    struct worker *workers;
    // One run: written by worker 0 before `run` changes, read by the workers of that run alone.
    pool_task *task;
    void *argument;
    // Counts runs; the low bits say how many workers the run has. A worker that is not among them may sleep through it.
    _Alignas(CACHE_LINE) _Atomic uint64_t run;
    _Alignas(CACHE_LINE) _Atomic int n_running; // workers other than 0 that have not returned
    _Alignas(CACHE_LINE) _Atomic int barrier_arrived;
    _Alignas(CACHE_LINE) _Atomic uint32_t barrier_generation;
    _Atomic bool closing;
    pthread_mutex_t mutex; // guards parking only
};

static int workers_of(uint64_t run) {
    return (int)(run & ((1u << WORKERS_BITS) - 1));
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

static uint64_t wait_for_run(struct worker *worker, uint64_t seen) {
    struct pool *pool = worker->pool;
    for (int i = 0; i < SPIN_PAUSES; i++) {
        uint64_t run = atomic_load_explicit(&pool->run, memory_order_acquire);
        if (run != seen) return run;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&worker->parked, true);
    while (atomic_load(&pool->run) == seen) pthread_cond_wait(&worker->wake, &pool->mutex);
    atomic_store(&worker->parked, false);
    pthread_mutex_unlock(&pool->mutex);
    return atomic_load(&pool->run);
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    for (uint64_t run = 0;;) {
        run = wait_for_run(worker, run);
        if (worker->index >= workers_of(run)) continue;
        if (atomic_load(&pool->closing)) return NULL;
        pool->task(pool->argument, worker->index, workers_of(run));
        atomic_fetch_sub_explicit(&pool->n_running, 1, memory_order_release);
    }
}

static void start_run(struct pool *pool, int n_workers) {
    atomic_store_explicit(&pool->n_running, n_workers - 1, memory_order_relaxed);
    uint64_t count = atomic_load_explicit(&pool->run, memory_order_relaxed) >> WORKERS_BITS;
    atomic_store(&pool->run, (count + 1) << WORKERS_BITS | (uint64_t)n_workers);
    // A worker says that it parks before it looks at `run` again: either it sees the new one or we see it.
    for (int i = 1; i < n_workers; i++) {
        if (!atomic_load(&pool->workers[i].parked)) continue;
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->workers[i].wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void *aligned_zero(size_t n_bytes) {
    void *p = aligned_alloc(CACHE_LINE, (n_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    return p ? memset(p, 0, n_bytes) : NULL;
}

int pool_open(struct pool **out, int n_threads, struct err *err) {
    assert(n_threads >= 1);
    if (n_threads >= 1 << WORKERS_BITS) return err_set(err, ERR_LIMIT, "%d threads are too many", n_threads);
    struct pool *pool = aligned_zero(sizeof *pool);
    struct worker *workers = aligned_zero((size_t)n_threads * sizeof *workers);
    if (!pool || !workers) {
        free(pool);
        free(workers);
        return err_set(err, ERR_IO, "no memory for the thread pool");
    }
    pool->n_threads = 1;
    pool->workers = workers;
    pthread_mutex_init(&pool->mutex, NULL);
    for (int i = 1; i < n_threads; i++) {
        struct worker *worker = &workers[i];
        worker->pool = pool;
        worker->index = i;
        pthread_cond_init(&worker->wake, NULL);
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            pthread_cond_destroy(&worker->wake);
            pool_close(pool);
            return err_set(err, ERR_IO, "cannot start worker thread %d", i);
        }
        pthread_setname_np(worker->thread, "compute");
        pool->n_threads++;
    }
    *out = pool;
    return 0;
}

void pool_close(struct pool *pool) {
    if (!pool) return;
    atomic_store(&pool->closing, true);
    start_run(pool, pool->n_threads);
    for (int i = 1; i < pool->n_threads; i++) {
        pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->workers[i].wake);
    }
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}

int pool_size(const struct pool *pool) {
    return pool->n_threads;
}

void pool_run(struct pool *pool, int n_workers, pool_task *task, void *argument) {
    assert(n_workers >= 1 && n_workers <= pool->n_threads);
    if (n_workers == 1) {
        task(argument, 0, 1);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    start_run(pool, n_workers);
    task(argument, 0, n_workers);
    for (int i = 0; atomic_load_explicit(&pool->n_running, memory_order_acquire) > 0; i++) {
        if (i < SPIN_PAUSES)
            pause_briefly();
        else
            sched_yield();
    }
}

void pool_barrier(struct pool *pool, int n_workers) {
    if (n_workers == 1) return;
    uint32_t generation = atomic_load_explicit(&pool->barrier_generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->barrier_arrived, 1, memory_order_acq_rel) + 1 == n_workers) {
        atomic_store_explicit(&pool->barrier_arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->barrier_generation, generation + 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&pool->barrier_generation, memory_order_acquire) == generation; i++) {
        if (i < SPIN_PAUSES)
            pause_briefly();
        else
            sched_yield();
    }
}

static long long read_number(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    long long value = 0;
    if (fscanf(file, "%lld", &value) != 1) value = 0;
    fclose(file);
    return value;
}

// Cores of the cgroup's CPU quota (version 2, then 1), rounded up; 0 when there is none.
static int cgroup_quota_cores(void) {
    long long quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = 0;
        fclose(file);
    } else {
        quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
        period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

// True when `cpu` is the first hardware thread of its core.
static bool is_first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    if (!file) return true;
    int first = cpu;
    if (fscanf(file, "%d", &first) != 1) first = cpu;
    fclose(file);
    return first == cpu;
}

int pool_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && is_first_sibling(cpu)) n++;
    if (n == 0) n = CPU_COUNT(&set);
    int quota = cgroup_quota_cores();
    if (quota && quota < n) n = quota;
    return n < 1 ? 1 : n;
}
