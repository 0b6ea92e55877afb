// Heads, targets, hosts and chunked bodies: what is accepted, what is refused with which status.
#include "tests/test.h"

#include "base/mem.h"
#include "server/http_parser.h"
#include "server/http_target.h"

#include <stdlib.h>

#define START "GET / HTTP/1.1\r\nHost: a\r\n"

struct row {
    const char *bytes;
    int status; // 0: a head that is accepted
};

// A head of one field line of n bytes.
static char *long_head(const char *start, size_t n, const char *end) {
    size_t n_start = strlen(start), n_end = strlen(end);
    char *text = mem_alloc(n_start + n + n_end + 1);
    memcpy(text, start, n_start);
    memset(text + n_start, 'a', n);
    memcpy(text + n_start + n, end, n_end + 1);
    return text;
}

// The status of the first refusal, 0 when a head was accepted, -1 when more is needed.
static int judge_head(const char *bytes) {
    struct http_parser parser;
    size_t n_used;
    http_parser_open(&parser, 1000);
    enum http_event event = http_parser_feed(&parser, bytes, strlen(bytes), &n_used);
    int status = event == HTTP_EVENT_REFUSED ? parser.refusal.status : event == HTTP_EVENT_HEAD ? 0 : -1;
    http_parser_close(&parser);
    return status;
}

static void heads_are_told_apart(void **state) {
    (void)state;
    static const struct row rows[] = {
        {START "\r\n", 0},
        {START "X:\r\n\r\n", 0},
        {START "X_!#$%&'*+-.^`|~9: caf\xc3\xa9\t \r\n\r\n", 0},
        {"-TOKEN! / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET / HTTP/1.0\r\n\r\n", 0},
        // lines
        {"GET / HTTP/1.1\nHost: a\n\n", 400},
        {START "X: y\n\r\n", 400},
        {START "X: y\rZ: a\r\n\r\n", 400},
        {START "X: y\r\r\n\r\n", 400},
        {START "\rX", 400},
        {START "X: y\r\n folded\r\n\r\n", 400},
        {START "X: y\r\n\tfolded\r\n\r\n", 400},
        {START " X: y\r\n\r\n", 400},
        {START "X : y\r\n\r\n", 400},
        {START ": y\r\n\r\n", 400},
        {START "no colon\r\n\r\n", 400},
        {START "X(: y\r\n\r\n", 400},
        {START "X: \x01\r\n\r\n", 400},
        {START "X: \x7f\r\n\r\n", 400},
        {"\r\n\r\n\r\n\r\n\r\n\r\n", 400},
        {"\n", 400},
        {"\x16\x03\x01", 400}, // a TLS greeting
        // request lines
        {"GET  / HTTP/1.1\r\n", 400},
        {" GET / HTTP/1.1\r\n", 400},
        {"GET / HTTP/1.1 \r\n", 400},
        {"GET /a b HTTP/1.1\r\n", 400},
        {"GET\t/\tHTTP/1.1\r\n", 400},
        {"get / HTTP/1.1\r\n", 400},
        {"GET / http/1.1\r\n", 400},
        {"GET / HTTP/11\r\n", 400},
        {"GET / HTTP/1.1.1\r\n", 400},
        {"GET / HTTP/1.2\r\n", 505},
        {"GET / HTTP/0.9\r\n", 505},
        {"GET / HTTP/3.0\r\n", 505},
        {"GET HTTP/1.1\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\n", 400},
        {"GET\r\n", 400},
        {"GET /\r\n", 426},
        {"OPTIONS / RTSP/1.0\r\n", 426},
        {"GET / FTP/1.0\r\n", 400},
        {"PLAY / HTTP/1.1\r\n", 501},
        {"PRI * HTTP/2.0\r\n", 400},
        // lengths and codings
        {START "Content-Length: 0\r\n\r\n", 0},
        {START "Content-Length: 9223372036854775807\r\n\r\n", 0},
        {START "Content-Length: 9223372036854775808\r\n\r\n", 400},
        {START "Content-Length: 99999999999999999999999\r\n\r\n", 400},
        {START "Content-Length: -1\r\n\r\n", 400},
        {START "Content-Length: +1\r\n\r\n", 400},
        {START "Content-Length: 0x1\r\n\r\n", 400},
        {START "Content-Length: 1 1\r\n\r\n", 400},
        {START "Content-Length: 1,1\r\n\r\n", 400},
        {START "Content-Length:\r\n\r\n", 400},
        {START "Content-Length: 1\r\ncontent-length: 1\r\n\r\n", 400},
        {START "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {START "Transfer-Encoding: Chunked\r\n\r\n", 0},
        {START "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
        {START "Transfer-Encoding: identity\r\n\r\n", 400},
        {START "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
        {START "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
        {START "Transfer-Encoding: chunked,\r\n\r\n", 400},
        {START "Transfer-Encoding: chunked;q=1\r\n\r\n", 400},
        {START "Transfer-Encoding:\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        // hosts
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
        {START "Host: a\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        {START "Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = judge_head(rows[i].bytes);
        if (status != rows[i].status) fail_msg("%s\ngot %d, not %d", rows[i].bytes, status, rows[i].status);
    }
}

static void heads_are_bounded(void **state) {
    (void)state;
    struct {
        const char *start;
        size_t n;
        const char *end;
        int status;
    } rows[] = {
        {"GET /", HTTP_REQUEST_LINE_BYTES_MAX - 16, " HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET /", HTTP_REQUEST_LINE_BYTES_MAX - 15, " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
        {"GET /", 100000, "", 414},
        {START "X:", HTTP_FIELD_LINE_BYTES_MAX - 4, "\r\n\r\n", 0},
        {START "X:", HTTP_FIELD_LINE_BYTES_MAX - 3, "\r\n\r\n", 431},
        {START "X:", 1000000, "", 431},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *head = long_head(rows[i].start, rows[i].n, rows[i].end);
        assert_int_equal(judge_head(head), rows[i].status);
        free(head);
    }
    struct str many = STR_INIT;
    str_append_text(&many, START);
    for (int i = 0; i < HTTP_FIELDS_MAX - 1; i++) str_append_text(&many, "X: y\r\n");
    size_t n = many.n_bytes;
    str_append_text(&many, "\r\n");
    assert_int_equal(judge_head(many.data), 0);
    many.n_bytes = n;
    str_append_text(&many, "X: y\r\n\r\n");
    assert_int_equal(judge_head(many.data), 431);
    str_clear(&many);
    str_append_text(&many, START);
    char *line = long_head("X:", 4000, "\r\n");
    while (many.n_bytes < HTTP_HEAD_BYTES_MAX) str_append_text(&many, line);
    assert_int_equal(judge_head(many.data), 431);
    free(line);
    str_close(&many);
}

// Reads one message whose body comes in chunks: its body, or NULL when it is refused or incomplete.
static char *read_chunks(const char *chunks, int *status) {
    struct http_parser parser;
    struct str all = STR_INIT;
    char *body = NULL;
    str_printf(&all, START "Transfer-Encoding: chunked\r\n\r\n%s", chunks);
    http_parser_open(&parser, 1000);
    enum http_event event = HTTP_EVENT_HEAD;
    for (size_t at = 0, n_used = 0; event == HTTP_EVENT_HEAD; at += n_used)
        event = http_parser_feed(&parser, all.data + at, all.n_bytes - at, &n_used);
    if (event == HTTP_EVENT_MESSAGE) body = mem_copy_string(str_text(&parser.body), parser.body.n_bytes);
    *status = event == HTTP_EVENT_REFUSED ? parser.refusal.status : 0;
    http_parser_close(&parser);
    str_close(&all);
    return body;
}

static void chunked_bodies_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *chunks, *body; // NULL: refused with the status, or incomplete when that is 0
        int status;
    } rows[] = {
        {"0\r\n\r\n", "", 0},
        {"5\r\nhello\r\n0006\r\n world\r\n000\r\n\r\n", "hello world", 0},
        {"A;a=b;c=\"d e\"\r\n0123456789\r\n0\r\nVary: *\r\nContent-Type: text/plain\r\n\r\n", "0123456789", 0},
        {"5;a;b=c;d=\"\\\"\\\\;\r\";e=f\r\nhello\r\n0;g\r\n\r\n", NULL, 400},
        {"5;a;b=c;d=\"\\\"\\\\;\";e=f\r\nhello\r\n0;g\r\n\r\n", "hello", 0},
        {"5;\r\n", NULL, 400},
        {"5;=\r\n", NULL, 400},
        {"5;a=\r\n", NULL, 400},
        {"5;a;\r\n", NULL, 400},
        {"5; a\r\n", NULL, 400},
        {"5;a=\"b\"c\r\n", NULL, 400},
        {"5;a=\"b\r\n", NULL, 400},
        {";a\r\n", NULL, 400},
        {"0\r\n", NULL, 0},
        {"5\r\nhello\r\n", NULL, 0},
        {"5\r\nhello0\r\n\r\n", NULL, 400},
        {"5\r\nhello\n0\r\n\r\n", NULL, 400},
        {"5\nhello\r\n0\r\n\r\n", NULL, 400},
        {"5\r\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"5 \r\nhello\r\n0\r\n\r\n", NULL, 400},
        {" 5\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"+5\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"-5\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"0x5\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"5_0\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"\r\n", NULL, 400},
        {"5;a\rb\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"5;a\nb\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n", NULL, 400},
        {"3e9\r\n", NULL, 413},
        {"3e8\r\n", NULL, 0},
        {"ffffffffffffffff\r\n", NULL, 413},
        {"10000000000000000\r\n", NULL, 400},
        {"0\r\n\n", NULL, 400},
        {"0\r\nX: y\n\r\n", NULL, 400},
        {"0\r\nX: y\r\n z\r\n\r\n", NULL, 400},
        {"0\r\nX : y\r\n\r\n", NULL, 400},
        {"0\r\nHost: a\r\n\r\n", NULL, 400},
        {"0\r\nAuthorization: Bearer a\r\n\r\n", NULL, 400},
        {"0\r\nTransfer-Encoding: chunked\r\n\r\n", NULL, 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status;
        char *body = read_chunks(rows[i].chunks, &status);
        bool same = rows[i].body ? body && strcmp(body, rows[i].body) == 0 : !body;
        if (!same || status != rows[i].status) fail_msg("%s\ngot %d %s", rows[i].chunks, status, body ? body : "-");
        free(body);
    }
}

static void chunk_lines_and_trailers_are_bounded(void **state) {
    (void)state;
    static const struct {
        const char *start;
        size_t n;
        int status;
    } rows[] = {
        {"5;", 4000, 0}, {"5;", 65536, 400}, {"0\r\nX: ", 7000, 0}, {"0\r\nX: ", 8100, 431}, {"0\r\n", 100000, 431},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status;
        char *chunks = long_head(rows[i].start, rows[i].n, "");
        free(read_chunks(chunks, &status));
        assert_int_equal(status, rows[i].status);
        free(chunks);
    }
    char *zeros = long_head("", 100000, "");
    memset(zeros, '0', 100000);
    int status;
    free(read_chunks(zeros, &status));
    assert_int_equal(status, 400);
    free(zeros);
}

static void targets_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *method, *target, *path, *host; // path NULL: refused
    } rows[] = {
        {"GET", "/", "/", NULL},
        {"GET", "/a/b?c=/../d", "/a/b", NULL},
        {"GET", "/a/#../b", "/a", NULL},
        {"GET", "/a/", "/a", NULL},
        {"GET", "/a//", "/a/", NULL},
        {"GET", "//a", "//a", NULL},
        {"GET", "/%61%2fb%c3%a4", "/a/b\xc3\xa4", NULL},
        {"GET", "/%2561", "/%61", NULL},
        {"GET", "/with_\"quotes\"\\|", "/with_\"quotes\"\\|", NULL},
        {"GET", "/...", "/...", NULL},
        {"GET", "/a..", "/a..", NULL},
        {"GET", "/..", NULL, NULL},
        {"GET", "/a/../b", NULL, NULL},
        {"GET", "/a/./b", NULL, NULL},
        {"GET", "/a/%2e%2E/b", NULL, NULL},
        {"GET", "/a%2f..%2fb", NULL, NULL},
        {"GET", "/a/..\\b", NULL, NULL},
        {"GET", "/%00", NULL, NULL},
        {"GET", "/%0d%0a", NULL, NULL},
        {"GET", "/%7f", NULL, NULL},
        {"GET", "/%", NULL, NULL},
        {"GET", "/%4", NULL, NULL},
        {"GET", "/%4g", NULL, NULL},
        {"GET", "/%c3", NULL, NULL},
        {"GET", "/%ed%a0%80", NULL, NULL},
        {"GET", "*", NULL, NULL},
        {"OPTIONS", "*", "*", NULL},
        {"GET", "a", NULL, NULL},
        {"GET", "a:80", NULL, NULL},
        {"GET", "http://a", "/", "a"},
        {"GET", "HTTP://a:80?b", "/", "a"},
        {"GET", "https://[::1]:443/b/", "/b", "[::1]"},
        {"GET", "http://user:p%40ss@a/b", "/b", "a"},
        {"GET", "http:///b", NULL, NULL},
        {"GET", "http://a b", NULL, NULL},
        {"GET", "ftp://a/b", NULL, NULL},
        {"GET", "http:/a", NULL, NULL},
        {"CONNECT", "a:443", "", "a"},
        {"CONNECT", "/a", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_target target;
        struct arena arena = ARENA_INIT;
        bool ok = http_target_read(&target, str_view_of(rows[i].target), str_view_of(rows[i].method), &arena);
        if (ok != (rows[i].path != NULL)) fail_msg("%s was %s", rows[i].target, ok ? "accepted" : "refused");
        if (ok) assert_string_equal(target.path, rows[i].path);
        if (ok && rows[i].host) assert_true(str_view_equal(target.host, str_view_of(rows[i].host)));
        if (ok && !rows[i].host) assert_null(target.host.data);
        arena_close(&arena);
    }
}

static void hosts_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *text, *name; // NULL: refused
    } rows[] = {
        {"a", "a"},
        {"a.b-c_d~:8080", "a.b-c_d~"},
        {"0.0.0.0=5000", "0.0.0.0=5000"},
        {"a:", "a"},
        {"[::1]", "[::1]"},
        {"[fe80::1]:80", "[fe80::1]"},
        {"", NULL},
        {":80", NULL},
        {"a:b", NULL},
        {"a:123456", NULL},
        {"a:-1", NULL},
        {"u@a", NULL},
        {"a,b", NULL},
        {"a b", NULL},
        {"a/b", NULL},
        {"a?b", NULL},
        {"a#b", NULL},
        {"[::1", NULL},
        {"[::1]x", NULL},
        {"[]", NULL},
        {"[1.2.3.4]", NULL},
        {"[::1%25eth0]", NULL},
        {"::1", NULL},
        {"\xc3\xa4", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str_view name = {0};
        bool ok = http_host_read(str_view_of(rows[i].text), &name);
        if (ok != (rows[i].name != NULL)) fail_msg("%s was %s", rows[i].text, ok ? "accepted" : "refused");
        if (ok) assert_true(str_view_equal(name, str_view_of(rows[i].name)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_told_apart),          cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(chunked_bodies_are_told_apart), cmocka_unit_test(chunk_lines_and_trailers_are_bounded),
        cmocka_unit_test(targets_are_told_apart),        cmocka_unit_test(hosts_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
