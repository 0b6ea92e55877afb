// The OpenAI-compatible server: one model behind HTTP.
//
// server_run blocks on the loop thread until SIGTERM or SIGINT and a graceful drain. No tensor is visible here: the
// model appears as tokenizer, template, names and limits, the step loop as a queue.
#pragma once

#include "base/err.h"
#include "engine/memory_ledger.h"
#include "server/http.h"
#include <stdbool.h>
#include <stdint.h>

struct advisor;
struct model;
struct step_loop;
struct server;

struct server_options {
    struct http_options http;                  // routes, context and callbacks are the server's to fill
    const char *model_name;                    // shown as the model's id; NULL: the model's own name
    bool any_model;                            // accept any model name in requests
    bool strict;                               // unknown request fields are a 400
    int n_choices_max;                         // 0: 8
    double drain_s;                            // deadline of a graceful drain; 0: 30
    bool keep_signals;                         // leave SIGINT and SIGTERM to the caller, who ends it with server_stop
    void (*on_ready)(void *context, int port); // called once when the socket listens
    void *on_ready_context;
};

// Opens the socket at once (so that /health answers 503 while the model loads).
int server_open(struct server **out, const struct server_options *options, struct err *err)
    __attribute__((warn_unused_result));

// What server_run serves; set before server_run or, from any thread, while it runs (loading ends then).
struct server_engine {
    const struct model *model;
    struct step_loop *step_loop;
    int32_t context;         // tokens
    struct advisor *advisor; // NULL: none; outlives server_run
    // Everything that takes memory, as it is now; loop thread, some milliseconds.
    void (*list_memory)(void *context, struct memory_ledger *out);
    void *memory_context;
};
// Model and step loop outlive server_run; close the step loop before server_close, because it wakes the server.
void server_attach(struct server *server, const struct server_engine *engine);
// Wakes the loop thread to take events of the step loop; any thread. Passed to step_loop_options.wake.
void server_wake(void *server);

// What it did since it began, for the advisor. Any thread, while server_run runs or before.
struct server_activity {
    int32_t n_connections, n_text_threads; // text threads: that have worked so far
    uint64_t n_rejected, n_failed;         // requests refused for a full queue; choices that ended with an error
    uint64_t n_streams, n_streams_blocked; // blocked: the client once left text untaken for 0.1 s
    uint64_t n_events;                     // written to streams
    uint64_t loop_busy_ns, text_busy_ns;   // processor time of the loop thread, and of the text threads together
};
void server_activity(const struct server *server, struct server_activity *out);

int server_port(const struct server *server); // that it listens on

// Begins a graceful drain, as SIGTERM does; any thread. server_run returns when it is over.
void server_stop(struct server *server);

// An error after the loop has begun is that of a step: the device failed, and every request was answered with a 500.
int server_run(struct server *server, struct err *err) __attribute__((warn_unused_result));
// What connections and their requests may take besides the answers that are being collected. Any thread.
const struct memory_ledger *server_memory(const struct server *server);
void server_close(struct server *server);
