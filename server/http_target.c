#include "server/http_target.h"

#include "base/utf8.h"
#include "server/http_head.h"

#include <arpa/inet.h>
#include <string.h>

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_host_char(char c) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
    return c && strchr("-._~%!$&'()*+;=", c); // unreserved, percent and sub-delimiters; a comma would join two hosts
}

static bool is_port(struct str_view text) {
    for (size_t i = 0; i < text.n_bytes; i++)
        if (text.data[i] < '0' || text.data[i] > '9') return false;
    return text.n_bytes <= 5;
}

static bool is_bracketed_address(struct str_view name) {
    char address[INET6_ADDRSTRLEN];
    unsigned char binary[16];
    if (name.n_bytes < 4 || name.n_bytes - 2 >= sizeof address) return false;
    memcpy(address, name.data + 1, name.n_bytes - 2);
    address[name.n_bytes - 2] = 0;
    return inet_pton(AF_INET6, address, binary) == 1;
}

bool http_host_read(struct str_view text, struct str_view *name) {
    if (!text.n_bytes) return false;
    bool bracketed = text.data[0] == '[';
    const char *end = bracketed ? memchr(text.data, ']', text.n_bytes) : memchr(text.data, ':', text.n_bytes);
    if (bracketed && !end) return false;
    size_t n_name = end ? (size_t)(end - text.data) + bracketed : text.n_bytes;
    *name = (struct str_view){text.data, n_name};
    struct str_view rest = {text.data + n_name, text.n_bytes - n_name};
    if (rest.n_bytes && (rest.data[0] != ':' || !is_port((struct str_view){rest.data + 1, rest.n_bytes - 1})))
        return false;
    if (bracketed) return is_bracketed_address(*name);
    for (size_t i = 0; i < n_name; i++)
        if (!is_host_char(name->data[i])) return false;
    return n_name > 0;
}

bool http_host_is_loopback(struct str_view name) {
    return http_equal_ignoring_case(name, "localhost") || http_equal_ignoring_case(name, "127.0.0.1") ||
           http_equal_ignoring_case(name, "[::1]");
}

// Decodes %XX once. NULL when an escape is broken or a byte is a control character.
static char *percent_decode(struct str_view text, struct arena *arena, size_t *n_out) {
    char *out = arena_alloc(arena, text.n_bytes + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n_bytes; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '%') {
            int high = i + 2 < text.n_bytes ? hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.n_bytes ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) return NULL;
            c = (unsigned char)(high * 16 + low);
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) return NULL;
        out[n++] = (char)c;
    }
    out[n] = 0;
    *n_out = n;
    return out;
}

static bool has_dot_segment(const char *path) {
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        const char *segment = slash + 1;
        size_t n = strcspn(segment, "/\\");
        if ((n == 1 && segment[0] == '.') || (n == 2 && segment[0] == '.' && segment[1] == '.')) return true;
    }
    return false;
}

static const char *copy_query(struct str_view text, struct arena *arena) {
    const char *end = text.n_bytes ? memchr(text.data, '#', text.n_bytes) : NULL;
    if (end) text.n_bytes = (size_t)(end - text.data);
    const char *mark = text.n_bytes ? memchr(text.data, '?', text.n_bytes) : NULL;
    if (!mark) return "";
    return arena_copy_string(arena, mark + 1, text.n_bytes - (size_t)(mark + 1 - text.data));
}

static bool read_path(struct http_target *target, struct str_view text, struct arena *arena) {
    size_t n = 0;
    while (n < text.n_bytes && text.data[n] != '?' && text.data[n] != '#') n++;
    char *path = n ? percent_decode((struct str_view){text.data, n}, arena, &n) : arena_copy_string(arena, "/", n = 1);
    if (!path || !utf8_is_valid(path, n) || has_dot_segment(path)) return false;
    if (n > 1 && path[n - 1] == '/') path[n - 1] = 0;
    target->path = path;
    target->query = copy_query(text, arena);
    return true;
}

// text follows "http://".
static bool read_absolute(struct http_target *target, struct str_view text, struct arena *arena) {
    size_t n = 0;
    while (n < text.n_bytes && !strchr("/?#", text.data[n])) n++;
    struct str_view authority = {text.data, n};
    // The name before an @ is a user's, which nobody asks for here.
    const char *at = memrchr(authority.data, '@', authority.n_bytes);
    if (at) authority = (struct str_view){at + 1, n - (size_t)(at + 1 - text.data)};
    if (!http_host_read(authority, &target->host)) return false;
    return read_path(target, (struct str_view){text.data + n, text.n_bytes - n}, arena);
}

bool http_target_read(struct http_target *target, struct str_view text, struct str_view method, struct arena *arena) {
    *target = (struct http_target){.path = "", .query = ""};
    if (str_view_equal(method, STR_VIEW("CONNECT"))) return http_host_read(text, &target->host);
    if (str_view_equal(text, STR_VIEW("*"))) {
        target->path = "*";
        return str_view_equal(method, STR_VIEW("OPTIONS")) || str_view_equal(method, STR_VIEW("M-SEARCH"));
    }
    if (text.n_bytes && text.data[0] == '/') return read_path(target, text, arena);
    const char *colon = text.n_bytes ? memchr(text.data, ':', text.n_bytes) : NULL;
    struct str_view scheme = {text.data, colon ? (size_t)(colon - text.data) : 0};
    struct str_view rest = {text.data + scheme.n_bytes, text.n_bytes - scheme.n_bytes};
    if (!http_equal_ignoring_case(scheme, "http") && !http_equal_ignoring_case(scheme, "https")) return false;
    if (!str_view_starts_with(rest, STR_VIEW("://"))) return false;
    return read_absolute(target, (struct str_view){rest.data + 3, rest.n_bytes - 3}, arena);
}
