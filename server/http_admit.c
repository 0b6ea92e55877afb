// The checks between a readable head and its body. Their order is part of the contract: what is malformed comes first,
// then who may ask at all (host, key), then what is asked (path, method), then how the body comes.
#include "server/http_internal.h"

#include <string.h>

static bool refuse(struct http_exchange *exchange, int status, const char *code, const char *message) {
    exchange->verdict = (struct http_verdict){status, "invalid_request_error", code, message};
    return false;
}

static bool path_fits(const char *pattern, const char *path) {
    size_t n = strlen(pattern);
    if (n >= 2 && strcmp(pattern + n - 2, "/*") == 0) return strncmp(path, pattern, n - 1) == 0 && path[n - 1];
    return strcmp(pattern, path) == 0;
}

static bool method_fits(const char *route_method, const char *method) {
    return strcmp(route_method, method) == 0 || (strcmp(route_method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

// Finds the route, and which methods the path has.
static void match_route(struct http_exchange *exchange) {
    const struct http_options *options = &exchange->server->options;
    bool any_path = strcmp(exchange->request.path, "*") == 0;
    const char *pattern = NULL; // the first that fits decides; rows of the same pattern belong together
    struct str allow = STR_INIT;
    for (size_t i = 0; i < options->n_routes; i++) {
        const struct http_route *route = &options->routes[i];
        if (!any_path && !path_fits(route->path, exchange->request.path)) continue;
        if (!any_path && pattern && strcmp(pattern, route->path) != 0) continue;
        pattern = route->path;
        if (!any_path && !exchange->route && method_fits(route->method, exchange->request.method))
            exchange->route = route;
        if (allow.n_bytes && strstr(allow.data, route->method)) continue;
        str_append_text(&allow, route->method);
        str_append_text(&allow, strcmp(route->method, "GET") == 0 ? ", HEAD, " : ", ");
    }
    if (!any_path) exchange->route_path = pattern;
    str_append_text(&allow, "OPTIONS");
    if (pattern) exchange->allow = arena_copy_string(&exchange->arena, allow.data, allow.n_bytes);
    str_close(&allow);
}

// A method that nobody knows is no resource's method (RFC 9110, 15.6.2).
static bool check_method_known(struct http_exchange *exchange) {
    if (!exchange->allow || http_method_kind_of(str_view_of(exchange->request.method)) == HTTP_METHOD_KNOWN)
        return true;
    return refuse(exchange, 501, NULL, "The method is not known.");
}

static bool host_allowed(const struct http_server *server, struct str_view name) {
    if (!name.data || http_host_is_loopback(name)) return true;
    struct str_view list =
        server->options.allowed_hosts ? str_view_of(server->options.allowed_hosts) : (struct str_view){0};
    for (struct str_view allowed; http_list_next(&list, &allowed);) {
        if (str_view_equal(allowed, STR_VIEW("*"))) return true;
        if (allowed.n_bytes == name.n_bytes && strncasecmp(allowed.data, name.data, name.n_bytes) == 0) return true;
    }
    return false;
}

// A page on the web can point its own name at 127.0.0.1; the Host field gives it away.
static bool check_host(struct http_exchange *exchange, const struct http_framing *framing) {
    const struct http_server *server = exchange->server;
    if (!server->loopback) return true;
    if (host_allowed(server, framing->host) && host_allowed(server, exchange->target.host)) return true;
    return refuse(exchange, 403, NULL, "The Host of this request is not served here.");
}

// The key that the request presents; false when there is none or more than one.
static bool presented_key(const struct http_head *head, struct str_view *key) {
    struct str_view value;
    int n_authorization = http_head_count(head, "authorization"), n_api_key = http_head_count(head, "x-api-key");
    if (n_authorization == 0) return n_api_key == 1 && http_head_value(head, "x-api-key", 0, key) && key->n_bytes;
    if (n_authorization > 1 || !http_head_value(head, "authorization", 0, &value) || value.n_bytes < 7) return false;
    struct str_view scheme = {value.data, 7};
    if (!http_equal_ignoring_case(scheme, "bearer ")) return false;
    *key = http_trim((struct str_view){value.data + 7, value.n_bytes - 7});
    return key->n_bytes > 0;
}

// Which of the two lists has the presented key; both are compared whatever the first says.
static void match_key(struct http_exchange *exchange, const struct http_head *head, bool *is_user, bool *is_admin) {
    const struct http_server *server = exchange->server;
    struct str_view key = {0};
    uint64_t key_id = 0;
    *is_user = *is_admin = false;
    if (!presented_key(head, &key)) return;
    *is_user = server->keys && keys_match(server->keys, key, &key_id);
    *is_admin = server->admin_keys && keys_match(server->admin_keys, key, &key_id);
    if (server->keys && (*is_user || *is_admin)) exchange->request.key_id = key_id;
}

static bool check_key(struct http_exchange *exchange, const struct http_head *head) {
    const struct http_server *server = exchange->server;
    bool is_user, is_admin;
    match_key(exchange, head, &is_user, &is_admin);
    exchange->key_passed = !server->keys || is_user || is_admin;
    int access = exchange->route ? (int)exchange->route->access : HTTP_NEEDS_KEY;
    if (!exchange->key_passed && access != HTTP_OPEN)
        return refuse(exchange, 401, "invalid_api_key", "Incorrect API key provided.");
    bool may_change = is_admin || (!server->admin_keys && !server->keys && server->loopback);
    if (access != HTTP_NEEDS_ADMIN || may_change) return true;
    return refuse(exchange, 403, "admin_key_required",
                  server->admin_keys ? "This request needs an admin key."
                                     : "This request needs an admin key; start the server with --admin-keys FILE.");
}

static bool is_preflight(const struct http_exchange *exchange, const struct http_head *head) {
    return strcmp(exchange->request.method, "OPTIONS") == 0 && http_head_count(head, "origin") &&
           http_head_count(head, "access-control-request-method");
}

static bool check_route(struct http_exchange *exchange) {
    if (!exchange->allow) return refuse(exchange, 404, NULL, "Invalid URL: there is nothing at this path.");
    if (strcmp(exchange->request.method, "OPTIONS") == 0) return refuse(exchange, 204, NULL, "");
    if (!exchange->route) return refuse(exchange, 405, "method_not_supported", "The path does not have this method.");
    return true;
}

static bool is_json_type(struct str_view type) {
    const char *parameters = type.n_bytes ? memchr(type.data, ';', type.n_bytes) : NULL;
    if (parameters) type.n_bytes = (size_t)(parameters - type.data);
    type = http_trim(type);
    if (http_equal_ignoring_case(type, "application/json")) return true;
    const char *slash = type.n_bytes ? memchr(type.data, '/', type.n_bytes) : NULL;
    if (!slash || type.n_bytes < 6) return false;
    return http_equal_ignoring_case((struct str_view){type.data + type.n_bytes - 5, 5}, "+json");
}

static bool check_body(struct http_exchange *exchange, const struct http_head *head,
                       const struct http_framing *framing) {
    struct str_view value;
    if (framing->coded) return refuse(exchange, 501, NULL, "The only transfer coding here is chunked.");
    if (framing->expects_other)
        return refuse(exchange, 417, NULL, "The only expectation that can be met is 100-continue.");
    if (framing->content_length > exchange->server->options.body_bytes_max)
        return refuse(exchange, 413, "request_too_large", "The request body is too large.");
    for (int i = 0; http_head_value(head, "content-encoding", i, &value); i++)
        if (!http_equal_ignoring_case(value, "identity"))
            return refuse(exchange, 415, "unsupported_content_type", "Compressed request bodies are not accepted.");
    if (strcmp(exchange->request.method, "POST") != 0) return true;
    if (!http_head_value(head, "content-type", 0, &value) || !is_json_type(value))
        return refuse(exchange, 415, "unsupported_content_type",
                      "The Content-Type of a POST must be application/json.");
    return true;
}

void http_admit(struct http_exchange *exchange, const struct http_head *head, const struct http_framing *framing) {
    struct str_view method = http_head_text(head, head->method), target = http_head_text(head, head->target);
    if (!http_target_read(&exchange->target, target, method, &exchange->arena)) {
        refuse(exchange, 400, NULL, "The request target is malformed.");
        return;
    }
    exchange->request.path = exchange->target.path;
    exchange->request.query = exchange->target.query;
    match_route(exchange);
    if (!check_method_known(exchange) || !check_host(exchange, framing)) return;
    if (is_preflight(exchange, head)) {
        refuse(exchange, 204, NULL, "");
        return;
    }
    if (check_key(exchange, head) && check_route(exchange)) check_body(exchange, head, framing);
}
