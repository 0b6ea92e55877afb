#include "server/activity.h"

#include "server/server_state.h"

#include <pthread.h>

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t activity_thread_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void activity_watch_loop(struct activity *activity) {
    if (pthread_getcpuclockid(pthread_self(), &activity->loop_clock)) return;
    atomic_store(&activity->has_loop, true);
}

void server_activity(const struct server *server, struct server_activity *out) {
    const struct activity *a = &server->activity;
    *out = (struct server_activity){.n_connections = a->n_connections,
                                    .n_text_threads = a->n_text_threads,
                                    .n_rejected = a->n_rejected,
                                    .n_failed = a->n_failed,
                                    .n_streams = a->n_streams,
                                    .n_streams_blocked = a->n_streams_blocked,
                                    .n_events = a->n_events,
                                    .loop_busy_ns = a->has_loop ? clock_ns(a->loop_clock) : 0,
                                    .text_busy_ns = a->text_busy_ns};
}
