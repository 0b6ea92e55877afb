// HTTP/1.1 on libuv and llhttp: connections, limits, keys, and one exchange (request and response) at a time on each.
//
// Everything here happens on the loop thread. A handler gets a complete request and answers through its exchange, at
// once or later. It knows nothing of models.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct http_server;
struct http_exchange;

struct http_request {
    const char *method;     // "GET"
    const char *path;       // percent-decoded once, query removed, one trailing slash stripped, UTF-8
    const char *query;      // what followed "?" in the target, as it was sent: see server/query.h; "" without one
    struct str_view body;   // whole, valid until the exchange ends
    uint64_t key_id;        // which API key: 0 when keys are off, else a stable hash of it; never the key itself
    const char *request_id; // checked x-request-id of the client, or one that the server made
    uint64_t arrived_ns;    // clock_now_ns when the headers were complete
};

typedef void http_handler(struct http_exchange *exchange, void *context);

// Matched in order; the first row whose path fits wins. A path fits exactly, or, when it ends with "/*", as a prefix.
struct http_route {
    const char *method; // "GET" also answers HEAD
    const char *path;
    http_handler *handler;
    enum { HTTP_NEEDS_KEY, HTTP_OPEN, HTTP_NEEDS_ADMIN } access;
};
// HTTP_NEEDS_KEY: any key, where keys are on. HTTP_OPEN: none. HTTP_NEEDS_ADMIN: one of admin_keys_path; without such
// a file only a server that is bound to loopback without keys answers.

// What a connection may cost. 0 means the default that is named.
struct http_limits {
    uint64_t header_ms;        // from the first byte of a request to the end of its head: 15 s
    uint64_t body_window_ms;   // a body brings 1 KiB/s in each such window: 10 s
    uint64_t idle_ms;          // between requests: 75 s
    uint64_t stall_ms;         // a reader that takes nothing is dropped: 60 s
    uint64_t linger_ms;        // reading on after the last response, so that the client sees it: 5 s
    size_t pending_bytes_max;  // of a stream that the socket has not taken: 1 MiB
    size_t bodies_bytes_max;   // of memory for the request bodies of all connections together: 1 GiB
    int untrusted_per_address; // connections of one address that have not brought a request with a key: 16
    uint64_t untrusted_ms;     // how long such a connection does not count yet: 2 s
};

// Copied by http_server_open; what the pointers point at must outlive the server.
struct http_options {
    const char *host;            // numeric address or "localhost"; default 127.0.0.1
    int port;                    // 0: any free one
    const char *keys_path;       // file with one key a line; NULL: no keys
    const char *admin_keys_path; // keys that may also change settings, in the same form; NULL: nobody may from afar
    bool insecure;               // allow a public address without keys
    const char *allowed_hosts;   // further names for the Host header when bound to loopback, comma-separated; "*": any
    size_t body_bytes_max;       // 0: 32 MiB
    int connections_max;         // 0: 1024
    struct http_limits limits;
    const struct http_route *routes;
    size_t n_routes;
    void *context; // for the handlers
    // Turns an HTTP-level failure into a response body; the content type is application/json. type and code as in
    // OpenAI's error object; code may be NULL. All texts are fixed. Required.
    void (*error_body)(struct str *out, int status, const char *type, const char *code, const char *message);
    // Called once for each finished exchange, for http_requests_total. method is "GET", "HEAD", "POST", "OPTIONS" or
    // "other"; path is the route's, or NULL when none fitted; status is 499 when the client went away. May be NULL.
    void (*on_finished)(void *context, const char *method, const char *path, int status);
};

// Reads the keys and listens. Refuses a public address without keys unless insecure. After a failure, too, the loop is
// run until it is empty before it is closed.
int http_server_open(struct http_server **out, uv_loop_t *loop, const struct http_options *options, struct err *err)
    __attribute__((warn_unused_result));
const struct http_options *http_server_options(const struct http_server *server); // with the defaults filled in
size_t http_server_connection_bytes_max(const struct http_server *server);        // of memory, without a request's body
int http_server_port(const struct http_server *server);                           // the bound port
int http_server_n_exchanges(const struct http_server *server);                    // requests being answered
// Open connections; one stays until its last response has left.
int http_server_n_connections(const struct http_server *server);
// Idle connections close now, the others after their response, which says Connection: close. Unless `listens`, new ones
// are not accepted.
void http_server_drain(struct http_server *server, bool listens);
void http_server_close(struct http_server *server); // closes everything; run the loop until it is empty afterwards

const struct http_request *http_exchange_request(const struct http_exchange *exchange);
// Inside the handler: the body becomes the caller's, so that it may outlive the exchange. *out is closed with
// str_close.
void http_exchange_take_body(struct http_exchange *exchange, struct str *out);
const char *http_exchange_request_header(const struct http_exchange *exchange, const char *name); // NULL: absent
struct http_server *http_exchange_server(struct http_exchange *exchange);

// Adds a response header; before the reply or the stream begins. Values are filtered to printable ASCII.
void http_exchange_header(struct http_exchange *exchange, const char *name, const char *value);

// Sends the whole response and ends the exchange, which must not be used afterwards. body is copied.
void http_exchange_reply(struct http_exchange *exchange, int status, const char *content_type, const char *body,
                         size_t n_bytes);

// A streamed response: one call of stream_write is one HTTP chunk and one write to the socket.
void http_exchange_stream_begin(struct http_exchange *exchange, int status, const char *content_type);
void http_exchange_stream_write(struct http_exchange *exchange, const char *bytes, size_t n_bytes);
void http_exchange_stream_end(struct http_exchange *exchange); // ends the exchange
// Bytes that the socket has not taken yet; SIZE_MAX when the client has gone and on_gone is about to be called.
size_t http_exchange_stream_pending(const struct http_exchange *exchange);
// The same and what the socket has taken, but could not send, because the client's side has no room.
size_t http_exchange_stream_untaken(const struct http_exchange *exchange);

// on_gone: the client has gone (end of input, reset, write error, stalled reader) before the exchange ended; always
// called from the loop, never inside a call of this header; the exchange must not be used after it returns. A handler
// that answers later watches before it returns; without a watch the exchange stays usable, what it writes is dropped.
// on_drain: pending fell to 0 after it was more. Either may be NULL.
void http_exchange_watch(struct http_exchange *exchange, void (*on_gone)(void *context),
                         void (*on_drain)(void *context), void *context);
