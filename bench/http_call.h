// A small blocking HTTP/1.1 client for one request at a time: enough to talk to an OpenAI-compatible server.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "base/url.h"
#include <stdbool.h>

struct http_call {
    const struct url *url;
    const char *method, *path; // "POST", "/v1/chat/completions"
    const char *api_key;       // sent as a Bearer token; NULL: none
    struct str_view body;      // JSON; empty: none
    double timeout_s;          // of the whole call; 0: none
    // Called for the data of every server-sent event, without the end marker "[DONE]". Returning false ends the call.
    bool (*on_event)(void *context, const char *data, size_t n_bytes);
    void *context;
    const volatile int *stop; // set to non-zero from a signal handler: the call ends at once; may be NULL
};

// Runs the call. *status is the response's; *body receives a response that is not an event stream.
// ERR_IO: no connection or a broken answer; ERR_LIMIT: the time is over; ERR_CLOSED: stopped by on_event or stop.
int http_call_run(const struct http_call *call, int *status, struct str *body, struct err *err)
    __attribute__((warn_unused_result));
