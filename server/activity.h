// What the server's threads count for the advisor, which reads it from its own thread. Everything only grows, but
// n_connections.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct activity {
    _Atomic int32_t n_connections, n_text_threads; // n_text_threads: that have worked so far
    _Atomic uint64_t n_rejected,
        n_failed; // requests refused because the queue was full; choices that ended with an error
    _Atomic uint64_t n_streams, n_streams_blocked; // blocked: the client once left text untaken for 0.1 s
    _Atomic uint64_t n_events;                     // written to streams
    _Atomic uint64_t text_busy_ns;                 // processor time of text work
    atomic_bool has_loop;                          // loop_clock is set
    clockid_t loop_clock;                          // processor time of the loop thread
};

static inline void activity_add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

// On the loop thread, before it begins.
void activity_watch_loop(struct activity *activity);

// Processor time of the calling thread.
uint64_t activity_thread_ns(void);
