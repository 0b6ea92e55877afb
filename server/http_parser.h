// Requests out of a stream of bytes: head, then body, then the next request. No I/O and no memory of what was answered.
//
// The head is read by http_head and http_framing, which are stricter than llhttp 8.1. llhttp then frames chunked bodies
// behind a head of our own making, so that it can never see a request that we did not.
#pragma once

#include "server/http_framing.h"
#include <llhttp.h>

enum http_event {
    HTTP_EVENT_MORE,    // all bytes were taken; the message goes on
    HTTP_EVENT_HEAD,    // head and framing can be read until the next call
    HTTP_EVENT_MESSAGE, // the body is complete; call http_parser_next before feeding again
    HTTP_EVENT_REFUSED, // refusal says why; nothing more can be read from this stream
};

// Where in a chunk's extensions the next character stands.
enum http_extension {
    EXTENSION_NONE,
    EXTENSION_NAME_START,
    EXTENSION_NAME,
    EXTENSION_VALUE_START,
    EXTENSION_VALUE,
    EXTENSION_QUOTED,
    EXTENSION_ESCAPE,
    EXTENSION_END, // behind a quoted value
};

struct http_parser {
    struct http_head head;
    struct http_framing framing;
    struct http_refusal refusal;
    struct str body;
    size_t body_bytes_max; // set by the owner
    bool discard;          // set by the owner after the head: the body is read, counted and thrown away
    uint64_t n_body_bytes; // body bytes so far
    // inside
    enum { HTTP_PHASE_HEAD, HTTP_PHASE_LENGTH, HTTP_PHASE_CHUNKS, HTTP_PHASE_TRAILER, HTTP_PHASE_COMPLETE } phase;
    llhttp_t chunks;
    bool in_chunk_line; // else in the data of a chunk or behind it
    enum http_extension extension;
    size_t n_chunk_line; // bytes of the line so far
};

void http_parser_open(struct http_parser *parser, size_t body_bytes_max);
void http_parser_close(struct http_parser *parser);
void http_parser_next(struct http_parser *parser); // ready for the next head; a large body's memory is given back

// Takes bytes up to the next event; *n_used says how many. The result does not depend on how the bytes are cut.
enum http_event http_parser_feed(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used);
