#include "server/http_head.h"

#include <llhttp.h>
#include <string.h>

static char to_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_token_char(char c) {
    if ((c >= '0' && c <= '9') || (to_lower(c) >= 'a' && to_lower(c) <= 'z')) return true;
    return c && strchr("!#$%&'*+-.^_`|~", c);
}

bool http_is_token(struct str_view text) {
    for (size_t i = 0; i < text.n_bytes; i++)
        if (!is_token_char(text.data[i])) return false;
    return text.n_bytes > 0;
}

bool http_is_field_byte(char c) {
    return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

struct str_view http_trim(struct str_view text) {
    while (text.n_bytes && (text.data[0] == ' ' || text.data[0] == '\t')) text.data++, text.n_bytes--;
    while (text.n_bytes && (text.data[text.n_bytes - 1] == ' ' || text.data[text.n_bytes - 1] == '\t')) text.n_bytes--;
    return text;
}

bool http_equal_ignoring_case(struct str_view text, const char *lower) {
    for (size_t i = 0; i < text.n_bytes; i++)
        if (!lower[i] || to_lower(text.data[i]) != lower[i]) return false;
    return !lower[text.n_bytes];
}

bool http_list_next(struct str_view *rest, struct str_view *element) {
    if (!rest->data) return false;
    const char *comma = rest->n_bytes ? memchr(rest->data, ',', rest->n_bytes) : NULL;
    size_t n = comma ? (size_t)(comma - rest->data) : rest->n_bytes;
    *element = http_trim((struct str_view){rest->data, n});
    *rest = comma ? (struct str_view){comma + 1, rest->n_bytes - n - 1} : (struct str_view){NULL, 0};
    return true;
}

struct str_view http_head_text(const struct http_head *head, struct http_slice slice) {
    return (struct str_view){str_text(&head->bytes) + slice.at, slice.n_bytes};
}

bool http_head_value(const struct http_head *head, const char *name, int i, struct str_view *value) {
    struct str_view wanted = str_view_of(name);
    for (int f = 0; f < head->n_fields; f++) {
        if (!str_view_equal(http_head_text(head, head->fields[f].name), wanted) || i-- > 0) continue;
        *value = http_head_text(head, head->fields[f].value);
        return true;
    }
    return false;
}

int http_head_count(const struct http_head *head, const char *name) {
    struct str_view value;
    int n = 0;
    while (http_head_value(head, name, n, &value)) n++;
    return n;
}

enum http_method_kind http_method_kind_of(struct str_view method) {
#define X(number, name, text)                                                                                          \
    if (str_view_equal(method, STR_VIEW(#text))) return HTTP_METHOD_KNOWN;
    HTTP_METHOD_MAP(X)
#undef X
#define X(number, name, text)                                                                                          \
    if (str_view_equal(method, STR_VIEW(#text))) return HTTP_METHOD_RTSP;
    RTSP_METHOD_MAP(X)
#undef X
    return HTTP_METHOD_UNKNOWN;
}

void http_head_begin(struct http_head *head, bool is_trailer) {
    struct str bytes = head->bytes;
    str_clear(&bytes);
    *head = (struct http_head){.bytes = bytes, .is_trailer = is_trailer, .has_request_line = is_trailer};
}

void http_head_close(struct http_head *head) {
    str_close(&head->bytes);
}

static bool refuse(struct http_head *head, int status, const char *message) {
    head->refusal = (struct http_refusal){status, message};
    return false;
}

static struct http_slice slice_of(const struct http_head *head, struct str_view text) {
    return (struct http_slice){(uint32_t)(text.data - head->bytes.data), (uint32_t)text.n_bytes};
}

// A request that another protocol's rules allow is told which protocol is spoken here; the rest is malformed.
static bool refuse_protocol(struct http_head *head, struct str_view method, struct str_view version) {
    bool rtsp = str_view_equal(version, STR_VIEW("RTSP/1.0")) &&
                (http_method_kind_of(method) == HTTP_METHOD_RTSP || str_view_equal(method, STR_VIEW("OPTIONS")));
    bool ice = str_view_equal(version, STR_VIEW("ICE/1.0")) && str_view_equal(method, STR_VIEW("SOURCE"));
    if (rtsp || ice || !version.n_bytes) return refuse(head, 426, "This server speaks HTTP/1.1.");
    return refuse(head, 400, "The request line is malformed.");
}

static bool check_version(struct http_head *head, struct str_view method, struct str_view version) {
    const char *v = version.data;
    if (version.n_bytes != 8 || memcmp(v, "HTTP/", 5) != 0 || v[6] != '.' || v[5] < '0' || v[5] > '9' || v[7] < '0' ||
        v[7] > '9')
        return refuse_protocol(head, method, version);
    if (v[5] != '1' || v[7] > '1') return refuse(head, 505, "This server speaks HTTP/1.1 and HTTP/1.0.");
    if (http_method_kind_of(method) == HTTP_METHOD_RTSP)
        return refuse(head, 501, "The method does not belong to HTTP.");
    head->minor = v[7] - '0';
    return true;
}

// All registered methods are upper case, and anything else in front of a path is a broken client.
static bool is_method(struct str_view method) {
    for (size_t i = 0; i < method.n_bytes; i++)
        if (method.data[i] >= 'a' && method.data[i] <= 'z') return false;
    return http_is_token(method) && method.n_bytes <= 32;
}

static bool read_request_line(struct http_head *head, struct str_view line) {
    const char *first = memchr(line.data, ' ', line.n_bytes);
    if (!first) return refuse(head, 400, "The request line is malformed.");
    struct str_view method = {line.data, (size_t)(first - line.data)};
    struct str_view target = {first + 1, line.n_bytes - method.n_bytes - 1}, version = {line.data, 0};
    const char *second = memchr(target.data, ' ', target.n_bytes);
    if (second) {
        size_t n_target = (size_t)(second - target.data);
        version = (struct str_view){second + 1, target.n_bytes - n_target - 1};
        target.n_bytes = n_target;
        if (!version.n_bytes) return refuse(head, 400, "The request line is malformed.");
    }
    if (!is_method(method) || !target.n_bytes || (!second && target.data[0] != '/'))
        return refuse(head, 400, "The request line is malformed.");
    if (str_view_equal(method, STR_VIEW("PRI"))) return refuse(head, 400, "This server does not speak HTTP/2.");
    head->method = slice_of(head, method);
    head->target = slice_of(head, target);
    head->has_request_line = true;
    return check_version(head, method, version);
}

static bool read_field(struct http_head *head, struct str_view line) {
    if (head->n_fields == HTTP_FIELDS_MAX) return refuse(head, 431, "The request has too many header fields.");
    const char *colon = memchr(line.data, ':', line.n_bytes);
    struct str_view name = {line.data, colon ? (size_t)(colon - line.data) : 0};
    if (!http_is_token(name)) return refuse(head, 400, "A header line is malformed.");
    struct str_view value = http_trim((struct str_view){colon + 1, line.n_bytes - name.n_bytes - 1});
    struct http_field *field = &head->fields[head->n_fields++];
    field->name = slice_of(head, name);
    field->value = slice_of(head, value);
    for (size_t i = 0; i < name.n_bytes; i++) {
        char *c = head->bytes.data + field->name.at + i;
        *c = to_lower(*c);
    }
    return true;
}

// The line from line_at is complete, with its CR LF.
static enum http_progress read_line(struct http_head *head) {
    struct str_view line = {head->bytes.data + head->line_at, head->bytes.n_bytes - head->line_at - 2};
    head->line_at = head->bytes.n_bytes;
    if (!head->has_request_line) {
        if (line.n_bytes) return read_request_line(head, line) ? HTTP_MORE : HTTP_REFUSED;
        str_clear(&head->bytes);
        head->line_at = 0;
        if (++head->n_empty_lines <= HTTP_EMPTY_LINES_MAX) return HTTP_MORE;
        refuse(head, 400, "The request line is malformed.");
        return HTTP_REFUSED;
    }
    if (!line.n_bytes) return HTTP_DONE;
    return read_field(head, line) ? HTTP_MORE : HTTP_REFUSED;
}

static bool is_byte_allowed(const struct http_head *head, char c) {
    return head->has_request_line ? http_is_field_byte(c) : c >= 0x20 && c < 0x7f;
}

static bool check_sizes(struct http_head *head) {
    size_t n_line = head->bytes.n_bytes - head->line_at;
    size_t n_max = head->is_trailer ? HTTP_TRAILER_BYTES_MAX : HTTP_HEAD_BYTES_MAX;
    if (!head->has_request_line && n_line > HTTP_REQUEST_LINE_BYTES_MAX)
        return refuse(head, 414, "The request target is too long.");
    if (head->has_request_line && (n_line > HTTP_FIELD_LINE_BYTES_MAX || head->bytes.n_bytes > n_max))
        return refuse(head, 431, "The header fields are too large.");
    return true;
}

// Takes one byte; HTTP_DONE when it completes a line.
static enum http_progress take_byte(struct http_head *head, char c) {
    str_append_char(&head->bytes, c);
    if (!check_sizes(head)) return HTTP_REFUSED;
    if (head->after_cr) {
        head->after_cr = false;
        if (c == '\n') return HTTP_DONE;
    } else if (c == '\r') {
        head->after_cr = true;
        return HTTP_MORE;
    } else if (is_byte_allowed(head, c)) {
        return HTTP_MORE;
    }
    refuse(head, 400, head->has_request_line ? "A header line is malformed." : "The request line is malformed.");
    return HTTP_REFUSED;
}

enum http_progress http_head_feed(struct http_head *head, const char *bytes, size_t n_bytes, size_t *n_used) {
    enum http_progress progress = head->refusal.status ? HTTP_REFUSED : HTTP_MORE;
    size_t i = 0;
    for (; i < n_bytes && progress == HTTP_MORE; i++) {
        head->begun = true;
        progress = take_byte(head, bytes[i]);
        if (progress == HTTP_DONE) progress = read_line(head);
    }
    *n_used = i;
    return progress;
}
