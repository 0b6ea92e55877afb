// A small server of the HTTP layer in a thread of the test, and blocking clients for it.
//
// Routes: GET /health (open), GET and POST /echo (answer with the request), GET /items/* (the path), GET /later
// (answers from a timer), GET /stream (three chunks, from timers), GET /flood (streams without end as the reader takes
// it), GET /push (streams without end and without asking), GET /hang (never answers), DELETE /settings/* (needs an
// admin key). All other routes need a key when there are keys.
#pragma once

#include "server/http.h"
#include <pthread.h>
#include <stdatomic.h>

struct fixture {
    struct http_options options;
    struct http_server *server;
    uv_loop_t loop;
    uv_async_t call;
    pthread_t thread;
    int port;
    _Atomic(int) order; // what `call` shall do
    atomic_int n_handled, n_gone, n_finished, last_status, n_unwatched;
    struct http_exchange *unwatched; // of GET /unwatched, which never watches
};

void fixture_open(struct fixture *fixture, const struct http_options *options); // routes and callbacks are filled in
void fixture_drain(struct fixture *fixture);                                    // asks for it; the loop does it soon
void fixture_answer_unwatched(struct fixture *fixture);                         // answers GET /unwatched
void fixture_close(struct fixture *fixture); // closes the server, runs the loop until it is empty, joins the thread

int client_socket(void); // not connected yet
void client_connect_socket(int fd, int port);
int client_connect(int port);
void client_send(int fd, const void *bytes, size_t n_bytes); // all of it; a closed peer is ignored
void client_send_text(int fd, const char *text);
void client_read_until(int fd, struct str *out, const char *text); // until `text` appears or the end
void client_read_all(int fd, struct str *out);                     // until the end
char *client_talk(int port, const char *bytes, size_t n_bytes);    // a connection of its own; malloc'ed, until the end

// "200 400" for the responses in a stream of bytes, interim ones included.
void statuses_of(const char *bytes, char out[256]);
void wait_for(const atomic_int *value, int at_least); // yields until it is so; fails the test after many seconds
