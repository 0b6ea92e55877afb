#include "server/http_framing.h"

#include "server/http_target.h"

static bool refuse(struct http_refusal *refusal, const char *message) {
    *refusal = (struct http_refusal){400, message};
    return false;
}

static bool read_length(struct http_framing *framing, const struct http_head *head, struct http_refusal *refusal) {
    struct str_view value;
    if (!http_head_value(head, "content-length", 0, &value)) return true;
    if (http_head_count(head, "content-length") > 1) return refuse(refusal, "There is more than one Content-Length.");
    uint64_t length = 0;
    bool digits = value.n_bytes > 0;
    for (size_t i = 0; i < value.n_bytes && digits; i++) {
        digits = value.data[i] >= '0' && value.data[i] <= '9';
        digits = digits && !__builtin_mul_overflow(length, 10u, &length);
        digits = digits && !__builtin_add_overflow(length, (uint64_t)(value.data[i] - '0'), &length);
    }
    if (!digits || length > INT64_MAX) return refuse(refusal, "The Content-Length is not a length.");
    framing->has_length = true;
    framing->content_length = length;
    return true;
}

static bool read_codings(struct http_framing *framing, const struct http_head *head, struct http_refusal *refusal) {
    int n_chunked = 0;
    bool any = false, last_is_chunked = false;
    struct str_view value, coding;
    for (int i = 0; http_head_value(head, "transfer-encoding", i, &value); i++) {
        any = true;
        while (http_list_next(&value, &coding)) {
            last_is_chunked = http_equal_ignoring_case(coding, "chunked");
            n_chunked += last_is_chunked;
            framing->coded |= !last_is_chunked;
            if (!http_is_token(coding)) return refuse(refusal, "The Transfer-Encoding is malformed.");
        }
    }
    if (!any) return true;
    if (head->minor == 0) return refuse(refusal, "HTTP/1.0 has no Transfer-Encoding.");
    if (framing->has_length) return refuse(refusal, "A request has Transfer-Encoding or Content-Length, not both.");
    if (n_chunked != 1 || !last_is_chunked) return refuse(refusal, "The Transfer-Encoding must end in one chunked.");
    framing->chunked = true;
    return true;
}

static bool read_host(struct http_framing *framing, const struct http_head *head, struct http_refusal *refusal) {
    int n = http_head_count(head, "host");
    if (n == 0 && head->minor == 0) return true;
    struct str_view value = {0};
    if (n != 1 || !http_head_value(head, "host", 0, &value))
        return refuse(refusal, "A request needs exactly one Host.");
    if (!http_host_read(value, &framing->host)) return refuse(refusal, "The Host is malformed.");
    return true;
}

static bool read_connection(struct http_framing *framing, const struct http_head *head, struct http_refusal *refusal) {
    bool close = false, keep_alive = head->minor == 1;
    struct str_view value, option;
    for (int i = 0; http_head_value(head, "connection", i, &value); i++) {
        while (http_list_next(&value, &option)) {
            if (option.n_bytes && !http_is_token(option)) return refuse(refusal, "The Connection field is malformed.");
            close |= http_equal_ignoring_case(option, "close");
            keep_alive |= http_equal_ignoring_case(option, "keep-alive");
        }
    }
    framing->keep_alive = keep_alive && !close;
    return true;
}

static bool read_expect(struct http_framing *framing, const struct http_head *head) {
    struct str_view value;
    for (int i = 0; head->minor == 1 && http_head_value(head, "expect", i, &value); i++) {
        bool is_continue = http_equal_ignoring_case(value, "100-continue");
        framing->expects_continue |= is_continue;
        framing->expects_other |= !is_continue;
    }
    return true;
}

enum http_progress http_framing_read(struct http_framing *framing, const struct http_head *head,
                                     struct http_refusal *refusal) {
    *framing = (struct http_framing){0};
    bool ok = read_length(framing, head, refusal) && read_codings(framing, head, refusal) &&
              read_host(framing, head, refusal) && read_connection(framing, head, refusal) &&
              read_expect(framing, head);
    if (ok && http_head_count(head, "content-type") > 1) ok = refuse(refusal, "There is more than one Content-Type.");
    return ok ? HTTP_DONE : HTTP_REFUSED;
}

bool http_trailer_allowed(const struct http_head *trailer) {
    static const char *const forbidden[] = {
        "host",    "content-length", "transfer-encoding", "connection",    "content-encoding", "te",
        "trailer", "expect",         "upgrade",           "authorization", "x-api-key",        "cookie"};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (http_head_count(trailer, forbidden[i])) return false;
    return true;
}
