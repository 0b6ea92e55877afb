// What a run saw: one record a request, in the order in which they ended.
//
// Times are nanoseconds since the run began. `scheduled` is when a request was due, which a client that lags behind
// cannot move; latencies count from it.
#pragma once

#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

// outcome, how the report calls it
#define OUTCOMES_OF(X)                                                                                                 \
    X(OK, "completed")                                                                                                 \
    X(CONNECT, "no connection")                                                                                        \
    X(RESET, "connection broken")                                                                                      \
    X(STATUS, "HTTP status")                                                                                           \
    X(ERROR, "error in a 200")                                                                                         \
    X(MALFORMED, "malformed answer")                                                                                   \
    X(CUT, "answer without end")                                                                                       \
    X(TIMEOUT, "timeout")                                                                                              \
    X(STOPPED, "in flight at the end")

enum outcome {
#define X(name, text) OUTCOME_##name,
    OUTCOMES_OF(X)
#undef X
        OUTCOMES
};
const char *outcome_name(enum outcome outcome);

struct request_record {
    uint64_t scheduled_ns, started_ns, sent_ns; // due; taken up; handed to the socket (0: never)
    uint64_t first_ns, last_ns, ended_ns;       // first and last event that brought something (0: none); the end
    int64_t n_prompt, n_cached, n_output;       // tokens as the server counts them; -1: it has not said
    uint32_t n_events;                          // that brought something
    uint32_t gap_first;                         // of its n_events - 1 gaps
    int32_t status;                             // of HTTP; 0: none
    int32_t user, turn;                         // of a closed loop or a session; else 0
    uint64_t session;                           // its number in the workload: with `turn` the same request in every run
    uint8_t outcome;
    bool slow;    // read slowly on purpose: its latencies are its own
    bool retried; // a kept connection had gone before anything was answered; sent once more on a new one
};

// Time between events that brought something, in units of GAP_NS.
enum { GAP_NS = 100 };

enum { EXAMPLE_BYTES = 320 };

struct run_record {
    VEC_OF(struct request_record) requests;
    VEC_OF(uint32_t) gaps;
    char examples[OUTCOMES][EXAMPLE_BYTES]; // what the first request with this outcome told
    uint64_t offered_ns;                    // from the first request due to the last
    uint64_t duration_ns, client_cpu_ns;
    int64_t began_wall_s;
    bool interrupted;
};
void run_record_close(struct run_record *run);
// Puts the requests of another run behind these, as if it had begun when this one ended.
void run_record_append(struct run_record *to, const struct run_record *from);
