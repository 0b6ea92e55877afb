// Many HTTP exchanges with one server, on one thread: requests go out, and what comes back is timed.
//
// Connections are kept and used again. The owner runs the loop.
#pragma once

#include "base/str.h"
#include "base/url.h"
#include "bench/record.h"
#include <uv.h>

struct client;

struct client_result {
    struct request_record record; // but gap_first
    const uint32_t *gaps;         // n_events - 1 of them
    struct str_view text;         // what was generated, if it was kept
    struct str_view problem;      // what went wrong, one sentence or the server's own words
};

struct client_options {
    struct url url;
    const char *api_key;  // sent as a Bearer token; NULL: none
    uint64_t timeout_ns;  // of a request, from when it was taken up
    uint64_t clock_start; // of clock_now_ns: where the times of records begin
    // A request has ended, well or not. The result is valid until the next client_send; which may be called here.
    void (*on_end)(void *owner, void *context, const struct client_result *result);
    void *owner;
};

struct client_request {
    struct str_view path, body; // copied
    bool stream, slow, keep_text;
    uint64_t scheduled_ns, session;
    int32_t user, turn;
    void *context;
};

// Looks the host up. ERR_IO: it has no address.
int client_open(struct client **out, uv_loop_t *loop, const struct client_options *options, struct err *err)
    __attribute__((warn_unused_result));
void client_send(struct client *client, const struct client_request *request);
size_t client_n_in_flight(const struct client *client);
void client_stop(struct client *client);  // ends what is in flight, as OUTCOME_STOPPED
void client_close(struct client *client); // nothing is in flight; runs the loop until all handles are closed
