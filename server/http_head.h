// The head of a request: its request line and fields, up to the empty line. Bytes in, syntax checked; no I/O.
//
// RFC 9112 to the letter, and stricter where it offers a choice: lines end in CR LF and nothing else, no folding, no
// blank before the colon or at the start of a line, no control characters. What a head means for the framing of the
// body is decided by http_framing.h. The same scanner reads the trailer section of a chunked body.
//
// One owner, one thread. The result does not depend on how the bytes were cut into pieces.
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_REQUEST_LINE_BYTES_MAX = 4096,
    HTTP_FIELD_LINE_BYTES_MAX = 8000,
    HTTP_HEAD_BYTES_MAX = 64 << 10,
    HTTP_TRAILER_BYTES_MAX = 8 << 10,
    HTTP_FIELDS_MAX = 100,
    HTTP_EMPTY_LINES_MAX = 4, // before a request line
};

// Why a message is refused. The texts are fixed: nothing of the input is in them.
struct http_refusal {
    int status; // 0: not refused
    const char *message;
};

enum http_progress { HTTP_MORE, HTTP_DONE, HTTP_REFUSED };

// A piece of http_head.bytes.
struct http_slice {
    uint32_t at, n_bytes;
};

struct http_field {
    struct http_slice name;  // lower case
    struct http_slice value; // without blanks around it
};

struct http_head {
    struct str bytes; // what was read, from the request line on
    bool is_trailer;  // no request line
    bool begun;       // a byte was read
    bool has_request_line, after_cr;
    int n_empty_lines;
    size_t line_at; // where the unfinished line starts in `bytes`
    struct http_slice method, target;
    int minor; // HTTP/1.minor
    int n_fields;
    struct http_field fields[HTTP_FIELDS_MAX];
    struct http_refusal refusal;
};

enum http_method_kind { HTTP_METHOD_KNOWN, HTTP_METHOD_RTSP, HTTP_METHOD_UNKNOWN };
enum http_method_kind http_method_kind_of(struct str_view method);

void http_head_begin(struct http_head *head, bool is_trailer); // memory is kept
void http_head_close(struct http_head *head);
// Reads up to the empty line; *n_used says how much of `bytes` was taken. After HTTP_DONE the head can be read; after
// HTTP_REFUSED head->refusal says why.
enum http_progress http_head_feed(struct http_head *head, const char *bytes, size_t n_bytes, size_t *n_used);

struct str_view http_head_text(const struct http_head *head, struct http_slice slice);
// The value of the i-th field of that name, counted from 0; false when there are fewer. `name` in lower case.
bool http_head_value(const struct http_head *head, const char *name, int i, struct str_view *value);
int http_head_count(const struct http_head *head, const char *name);

bool http_is_token(struct str_view text); // one or more characters that RFC 9110 allows in names
bool http_is_field_byte(char c);          // may stand in a field value: no control character but the tab
// The next element of a comma-separated list, without blanks around it, empty ones included; false at the end. *rest
// starts as the whole list, with data not NULL.
bool http_list_next(struct str_view *rest, struct str_view *element);
struct str_view http_trim(struct str_view text); // without spaces and tabs around it
bool http_equal_ignoring_case(struct str_view text, const char *lower);
