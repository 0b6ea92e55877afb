// Any bytes as a connection's input: the parser never reads outside, what it calls complete is consistent, and how the
// bytes are cut changes nothing.
#include "tests/fuzz/fuzz.h"

#include "base/mem.h"
#include "server/http_parser.h"
#include "server/http_target.h"

#include <assert.h>
#include <string.h>

enum { BODY_BYTES_MAX = 4096 };

void fuzz_seeds(void) {
    static const char *const seeds[] = {
        "GET /a%20b/?q#f HTTP/1.1\r\nHost: localhost:80\r\nX: \t y \t\r\n\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
        "POST /v1 HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 003\r\nExpect: 100-continue\r\n\r\nabcOPTIONS * "
        "HTTP/1.1\r\nHost: "
        "a\r\nConnection: x, close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: "
        "chunked\r\n\r\n5;a=\"b\\\"\";c\r\nhello\r\n"
        "00A\r\n0123456789\r\n0\r\nVary: *\r\n\r\nGET http://u:p@h:1/p HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) fuzz_add_seed(seeds[i], strlen(seeds[i]));
}

static void check_head(const struct http_parser *parser) {
    const struct http_head *head = &parser->head;
    struct http_target target;
    struct arena arena = ARENA_INIT;
    struct str_view method = http_head_text(head, head->method);
    assert(http_is_token(method) && head->minor <= 1);
    if (http_target_read(&target, http_head_text(head, head->target), method, &arena)) {
        assert(target.path[0] == '/' || target.path[0] == '*' || !target.path[0]);
        assert(!strstr(target.path, "/../"));
    }
    arena_close(&arena);
}

// Feeds n_step bytes at a time; returns a text that tells all that was seen.
static struct str read_all(const char *bytes, size_t n_bytes, size_t n_step) {
    struct str seen = STR_INIT;
    struct http_parser parser;
    enum http_event event = HTTP_EVENT_MORE;
    http_parser_open(&parser, BODY_BYTES_MAX);
    for (size_t at = 0; (at < n_bytes || event != HTTP_EVENT_MORE) && event != HTTP_EVENT_REFUSED;) {
        size_t n = n_bytes - at < n_step ? n_bytes - at : n_step, n_used = 0;
        event = http_parser_feed(&parser, bytes + at, n, &n_used);
        assert(n_used <= n && (event != HTTP_EVENT_MORE || n_used == n));
        at += n_used;
        if (event == HTTP_EVENT_HEAD) {
            check_head(&parser);
            str_printf(&seen, "head %d %llu;", parser.head.n_fields, (unsigned long long)parser.framing.content_length);
            parser.discard = parser.framing.content_length > BODY_BYTES_MAX;
        } else if (event == HTTP_EVENT_MESSAGE) {
            assert(parser.discard || parser.body.n_bytes == parser.n_body_bytes);
            assert(parser.framing.chunked || parser.n_body_bytes == parser.framing.content_length);
            str_append(&seen, parser.body.data, parser.body.n_bytes);
            str_printf(&seen, "message at %zu;", at);
            http_parser_next(&parser);
        } else if (event == HTTP_EVENT_REFUSED) {
            assert(parser.refusal.status >= 400 && parser.refusal.message);
            str_printf(&seen, "refused %d;", parser.refusal.status);
        }
    }
    http_parser_close(&parser);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct str whole = read_all((const char *)bytes, n_bytes, n_bytes + 1);
    struct str single = read_all((const char *)bytes, n_bytes, 1);
    assert(whole.n_bytes == single.n_bytes && memcmp(str_text(&whole), str_text(&single), whole.n_bytes) == 0);
    str_close(&whole);
    str_close(&single);
    return 0;
}
