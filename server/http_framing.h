// What the fields of a head say about the message: where its body ends, whether the connection stays, which host.
#pragma once

#include "server/http_head.h"

struct http_framing {
    bool chunked;
    bool coded; // a transfer coding besides chunked, which nobody here decodes
    bool has_length;
    uint64_t content_length; // bytes; 0 without a Content-Length
    bool keep_alive;         // what the client wishes
    bool expects_continue;
    bool expects_other;   // an expectation that cannot be met
    struct str_view host; // without the port; data is NULL when absent (HTTP/1.0 only)
};

// Refuses what two readers could understand differently: several lengths, a length beside a transfer coding, codings
// that do not end in exactly one chunked, a second or malformed Host. HTTP_DONE or HTTP_REFUSED with *refusal filled.
enum http_progress http_framing_read(struct http_framing *framing, const struct http_head *head,
                                     struct http_refusal *refusal);

// A trailer section may not change framing, routing or authentication.
bool http_trailer_allowed(const struct http_head *trailer);
