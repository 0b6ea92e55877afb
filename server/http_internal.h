// What the files of the HTTP layer share: server, connection and exchange. Not for others.
#pragma once

#include "base/mem.h"
#include "server/http.h"
#include "server/http_parser.h"
#include "server/http_target.h"
#include "server/keys.h"

enum {
    HTTP_READ_BYTES = 64 << 10,         // one read; all connections share the buffer
    HTTP_LEFTOVER_BYTES_MAX = 64 << 10, // what a client may send ahead while it is being answered
    HTTP_SKIP_BYTES_MAX = 64 << 10,     // a refused body up to this size is read over to keep the connection
    HTTP_BODY_BYTES_PER_S = 1024,       // the least that a body must bring
};

struct http_conn;

struct http_server {
    uv_loop_t *loop;
    struct http_options options; // copied; defaults filled in
    struct keys *keys;           // NULL: keys are off
    struct keys *admin_keys;     // NULL: there are none
    uv_tcp_t listener;
    uv_timer_t sweep;   // looks for deadlines while there are connections
    uv_idle_t ready;    // goes on with what clients sent ahead
    int n_open_handles; // the server is freed when the last has closed and no exchange is left
    int port;
    bool loopback, draining, closing, listening;
    int n_connections, n_exchanges;
    size_t n_body_bytes; // of memory for request bodies, all connections together
    struct http_conn *connections;
    uint64_t id_seed, id_count; // for request ids
    int64_t date_s;             // the second that `date` shows
    char date[32];
    struct str head; // of the response that is being written
    char read_buffer[HTTP_READ_BYTES];
};

enum http_conn_state {
    HTTP_CONN_HEAD,   // between requests or inside a head
    HTTP_CONN_BODY,   // the head was accepted or refused; the body is being read
    HTTP_CONN_ANSWER, // a handler works on the exchange; nothing is parsed
    HTTP_CONN_LINGER, // the last response is on its way; input is thrown away
    HTTP_CONN_CLOSED, // handles are closing
};

struct http_conn {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct http_server *server;
    struct http_conn *previous, *next;
    enum http_conn_state state;
    struct http_parser parser;
    struct http_exchange *exchange; // NULL while no request is known or it was answered already
    size_t n_body_bytes;            // of the server's count
    struct str leftover;            // what came ahead of its time
    bool reading;
    bool feeding;     // inside conn_feed: whoever ends an exchange must not go on with the next request
    bool ready;       // leftover bytes wait for the loop
    bool last;        // this response is the last one
    bool input_ended; // end of input was seen
    bool shut;        // our side is shut down
    bool trusted;     // has brought a complete request with a right key, or keys are off
    bool served;      // has been answered once
    unsigned char address[16];
    uint64_t accepted_ns, since_ns;  // since_ns: when the state began
    uint64_t window_bytes;           // body bytes when the window began
    uint64_t n_written;              // bytes handed to the socket or its queue
    uint64_t n_taken_seen, taken_ns; // progress of the reader, as the sweep saw it
};

struct http_header {
    struct http_header *next;
    const char *name, *value;
};

// Why a request is answered without its handler.
struct http_verdict {
    int status; // 0: it is not
    const char *type, *code, *message;
};

struct http_exchange {
    struct arena arena; // holds everything, the exchange itself included
    struct http_server *server;
    struct http_conn *conn; // NULL when the client has gone
    struct http_request request;
    struct http_header *fields;                 // of the request, names in lower case
    struct http_header *headers, **last_header; // of the response
    struct http_target target;
    const struct http_route *route; // NULL: none fits path and method
    const char *route_path;         // of any route that fits the path
    const char *allow;              // methods of the path
    struct http_verdict verdict;
    enum { HTTP_EXCHANGE_OPEN, HTTP_EXCHANGE_STREAM, HTTP_EXCHANGE_GONE } phase;
    int status;
    int minor;
    bool keep_alive, is_head, chunked;
    bool dispatched; // a handler has it
    bool key_passed; // a right key came with it, or keys are off
    void (*on_gone)(void *context);
    void (*on_drain)(void *context);
    void *watch_context;
};

// http_exchange.c
struct http_exchange *http_exchange_open(struct http_conn *conn);         // for what is unreadable
struct http_exchange *http_exchange_open_request(struct http_conn *conn); // copies head and framing of the parser
void http_exchange_refuse(struct http_exchange *exchange, struct http_verdict verdict); // answers and ends it
void http_exchange_gone(struct http_exchange *exchange);                                // from the loop

// http_admit.c: the checks between a readable head and the body, in order; fills exchange->verdict.
void http_admit(struct http_exchange *exchange, const struct http_head *head, const struct http_framing *framing);

// http_conn.c
void http_conn_open(struct http_server *server);
void http_conn_close(struct http_conn *conn);
void http_conn_exchange_ended(struct http_conn *conn); // the exchange is freed already
void http_conn_write(struct http_conn *conn, const uv_buf_t *buffers, unsigned n_buffers);
size_t http_conn_pending(const struct http_conn *conn);
void http_conn_resume(struct http_conn *conn); // parses what came ahead
void http_conn_sweep(struct http_conn *conn, uint64_t now_ns);
bool http_conn_is_idle(const struct http_conn *conn); // no byte of a request is here and nothing waits to be written

// http.c
void http_server_free_if_unused(struct http_server *server); // closed, and nothing refers to it
