// The server: listening, accepting, deadlines, draining and closing.
#include "server/http_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { LISTEN_BACKLOG = 512 };

static void fill_defaults(struct http_options *options) {
    struct http_limits *limits = &options->limits;
    if (!options->host) options->host = "127.0.0.1";
    if (!options->body_bytes_max) options->body_bytes_max = 32 << 20;
    if (!options->connections_max) options->connections_max = 1024;
    if (!limits->header_ms) limits->header_ms = 15000;
    if (!limits->body_window_ms) limits->body_window_ms = 10000;
    if (!limits->idle_ms) limits->idle_ms = 75000;
    if (!limits->stall_ms) limits->stall_ms = 60000;
    if (!limits->linger_ms) limits->linger_ms = 5000;
    if (!limits->pending_bytes_max) limits->pending_bytes_max = 1 << 20;
    if (!limits->bodies_bytes_max) limits->bodies_bytes_max = 1 << 30;
    if (!limits->untrusted_per_address) limits->untrusted_per_address = 16;
    if (!limits->untrusted_ms) limits->untrusted_ms = 2000;
}

// ---------------------------------------------------------------------- the sweep

static void on_sweep(uv_timer_t *timer) {
    struct http_server *server = timer->data;
    uint64_t now_ns = clock_now_ns();
    for (struct http_conn *conn = server->connections, *next; conn; conn = next) {
        next = conn->next;
        http_conn_sweep(conn, now_ns);
    }
    if (!server->connections) uv_timer_stop(timer);
}

// Often enough for the shortest limit, at most once a second when the limits are the usual ones.
static uint64_t sweep_interval_ms(const struct http_limits *limits) {
    uint64_t all[] = {limits->header_ms, limits->body_window_ms, limits->idle_ms, limits->stall_ms, limits->linger_ms};
    uint64_t shortest = 4000;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) shortest = all[i] < shortest ? all[i] : shortest;
    return shortest / 4 + 1;
}

// ---------------------------------------------------------------------- accepting

// A client may open many connections at once as long as each brings a request soon; only those that do not count.
static bool has_too_many(const struct http_server *server, const struct http_conn *fresh) {
    int n = 0;
    for (const struct http_conn *conn = server->connections; conn; conn = conn->next) {
        bool old = fresh->accepted_ns - conn->accepted_ns > server->options.limits.untrusted_ms * 1000000;
        if (conn != fresh && !conn->trusted && old && memcmp(conn->address, fresh->address, sizeof fresh->address) == 0)
            n++;
    }
    return n >= server->options.limits.untrusted_per_address;
}

// The connection that has been idle longest makes room.
static struct http_conn *longest_idle(const struct http_server *server, const struct http_conn *fresh) {
    struct http_conn *oldest = NULL;
    for (struct http_conn *conn = server->connections; conn; conn = conn->next)
        if (conn != fresh && http_conn_is_idle(conn) && (!oldest || conn->since_ns < oldest->since_ns)) oldest = conn;
    return oldest;
}

static void on_connection(uv_stream_t *listener, int status) {
    struct http_server *server = listener->data;
    // Without file descriptors libuv takes the connections and closes them, so that accepting does not spin.
    if (status < 0) return;
    http_conn_open(server);
    struct http_conn *fresh = server->connections;
    if (!fresh || fresh->state == HTTP_CONN_CLOSED) return;
    if (!uv_is_active((uv_handle_t *)&server->sweep)) {
        uint64_t interval_ms = sweep_interval_ms(&server->options.limits);
        uv_timer_start(&server->sweep, on_sweep, interval_ms, interval_ms);
    }
    if (server->n_connections > server->options.connections_max) {
        struct http_conn *oldest = longest_idle(server, fresh);
        http_conn_close(oldest ? oldest : fresh);
    } else if (has_too_many(server, fresh)) {
        http_conn_close(fresh);
    }
}

// ---------------------------------------------------------------------- open

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int read_address(const struct http_options *options, struct sockaddr_storage *address, struct err *err) {
    const char *host = strcasecmp(options->host, "localhost") == 0 ? "127.0.0.1" : options->host;
    if (options->port < 0 || options->port > 65535) return err_set(err, ERR_INVALID, "%d is not a port", options->port);
    if (uv_ip4_addr(host, options->port, (struct sockaddr_in *)address) == 0) return 0;
    if (uv_ip6_addr(host, options->port, (struct sockaddr_in6 *)address) == 0) return 0;
    return err_set(err, ERR_INVALID, "%s is not a numeric address", options->host);
}

static int listen_on(struct http_server *server, const struct sockaddr *address, struct err *err) {
    const struct http_options *options = &server->options;
    int rc = uv_tcp_bind(&server->listener, address, 0); // libuv sets SO_REUSEADDR
    if (!rc) rc = uv_listen((uv_stream_t *)&server->listener, LISTEN_BACKLOG, on_connection);
    if (rc)
        return err_set(err, ERR_IO, "cannot listen on %s port %d: %s", options->host, options->port, uv_strerror(rc));
    struct sockaddr_storage bound;
    int n = sizeof bound;
    uv_tcp_getsockname(&server->listener, (struct sockaddr *)&bound, &n);
    server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                     : ((struct sockaddr_in *)&bound)->sin_port);
    server->listening = true;
    return 0;
}

static void init_handles(struct http_server *server) {
    uv_tcp_init(server->loop, &server->listener);
    uv_timer_init(server->loop, &server->sweep);
    uv_idle_init(server->loop, &server->ready);
    server->listener.data = server->sweep.data = server->ready.data = server;
    server->n_open_handles = 3;
}

static int check_options(const struct http_options *options, const struct sockaddr *address, struct err *err) {
    assert(options->error_body && (options->routes || !options->n_routes));
    if (is_loopback(address) || options->keys_path || options->insecure) return 0;
    return err_set(err, ERR_INVALID,
                   "%s can be reached from other machines: give keys (--api-keys FILE) or allow it (--insecure)",
                   options->host);
}

int http_server_open(struct http_server **out, uv_loop_t *loop, const struct http_options *options, struct err *err) {
    struct http_options filled = *options;
    fill_defaults(&filled);
    struct sockaddr_storage address = {0};
    struct keys *keys = NULL, *admin_keys = NULL;
    int rc = read_address(&filled, &address, err);
    if (!rc) rc = check_options(&filled, (struct sockaddr *)&address, err);
    if (!rc && filled.keys_path) rc = keys_open(&keys, filled.keys_path, err);
    if (!rc && filled.admin_keys_path) rc = keys_open(&admin_keys, filled.admin_keys_path, err);
    if (rc) {
        keys_close(keys);
        return rc;
    }
    struct http_server *server = mem_alloc_zero(1, sizeof *server);
    server->loop = loop;
    server->options = filled;
    server->keys = keys;
    server->admin_keys = admin_keys;
    server->loopback = is_loopback((struct sockaddr *)&address);
    if (getrandom(&server->id_seed, sizeof server->id_seed, 0) < 0) server->id_seed = rng_mix64(clock_now_ns());
    signal(SIGPIPE, SIG_IGN); // a client that leaves must not end the process
    init_handles(server);
    rc = listen_on(server, (struct sockaddr *)&address, err);
    if (rc)
        http_server_close(server);
    else
        *out = server;
    return rc;
}

int http_server_port(const struct http_server *server) {
    return server->port;
}

int http_server_n_exchanges(const struct http_server *server) {
    return server->n_exchanges;
}

int http_server_n_connections(const struct http_server *server) {
    return server->n_connections;
}

// ---------------------------------------------------------------------- drain and close

void http_server_free_if_unused(struct http_server *server) {
    if (!server->closing || server->n_open_handles || server->n_exchanges) return;
    keys_close(server->keys);
    keys_close(server->admin_keys);
    str_close(&server->head);
    free(server);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_server *server = handle->data;
    server->n_open_handles--;
    http_server_free_if_unused(server);
}

static void stop_listening(struct http_server *server) {
    if (uv_is_closing((uv_handle_t *)&server->listener)) return;
    uv_close((uv_handle_t *)&server->listener, on_handle_closed);
}

const struct http_options *http_server_options(const struct http_server *server) {
    return &server->options;
}

size_t http_server_connection_bytes_max(const struct http_server *server) {
    return sizeof(struct http_conn) + HTTP_LEFTOVER_BYTES_MAX + server->options.limits.pending_bytes_max;
}

void http_server_drain(struct http_server *server, bool listens) {
    server->draining = true;
    if (!listens) stop_listening(server);
    for (struct http_conn *conn = server->connections, *next; conn; conn = next) {
        next = conn->next;
        if (http_conn_is_idle(conn)) http_conn_close(conn);
    }
}

void http_server_close(struct http_server *server) {
    assert(!server->closing);
    server->closing = true;
    stop_listening(server);
    while (server->connections) http_conn_close(server->connections);
    uv_close((uv_handle_t *)&server->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&server->ready, on_handle_closed);
}
