// Runs a load against a server: a closed loop of users, or an open loop of arrivals.
//
// One thread, its own event loop. Requests start at their scheduled times, which do not depend on the answers in an
// open loop; when the client lags, the record shows by how much, and nothing is dropped.
#pragma once

#include "base/url.h"
#include "bench/arrival.h"
#include "bench/record.h"
#include "bench/workload.h"

struct load_progress {
    double at_s;
    uint64_t n_started, n_ended, n_failed, n_in_flight, n_tokens, n_events; // tokens of ended requests
    double ttft_s; // mean of those completed since the progress before; NAN: none
};

struct load_options {
    struct url url;
    const char *api_key;
    const struct workload *workload;
    int64_t n_users;               // closed loop of so many users; 0: open loop
    const struct arrival *arrival; // open loop; NULL: the times of the workload's trace
    double time_scale;             // of the trace: 2 plays it twice as fast
    int64_t n_requests;            // end after so many; 0: no limit
    double duration_s;             // start nothing after; 0: no limit
    double think_s;                // between the turns of a session, and of a user
    double timeout_s;              // of a request
    double slow_share;             // 0 .. 1: requests whose answers are read slowly
    uint64_t first_session;        // numbers of sessions begin here
    bool stops_on_signal;          // SIGINT and SIGTERM end the run early, in order
    void (*on_progress)(void *context, const struct load_progress *progress); // twice a second; NULL: none
    void *context;
};

// Blocks until the last request has ended. ERR_IO: the host has no address. Failing requests are in the record.
int load_run(struct run_record *out, const struct load_options *options, struct err *err)
    __attribute__((warn_unused_result));
