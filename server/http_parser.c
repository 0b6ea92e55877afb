#include "server/http_parser.h"

#include <assert.h>

enum {
    BODY_BYTES_KEPT = 256 << 10,    // capacity that a connection keeps between requests
    CHUNK_LINE_BYTES_MAX = 16 << 10 // extensions, leading zeros
};

static enum http_event refuse(struct http_parser *parser, int status, const char *message) {
    parser->refusal = (struct http_refusal){status, message};
    return HTTP_EVENT_REFUSED;
}

static int on_chunk_header(llhttp_t *chunks) {
    struct http_parser *parser = chunks->data;
    parser->n_quiet = 0;
    if (chunks->content_length > parser->body_bytes_max - parser->n_body_bytes) {
        refuse(parser, 413, "The request body is too large.");
        return -1;
    }
    return chunks->content_length ? 0 : HPE_PAUSED; // the trailer section is read by http_head
}

static int on_chunk_data(llhttp_t *chunks, const char *bytes, size_t n_bytes) {
    struct http_parser *parser = chunks->data;
    parser->n_quiet = 0;
    parser->n_body_bytes += n_bytes;
    if (!parser->discard) str_append(&parser->body, bytes, n_bytes);
    return 0;
}

static const llhttp_settings_t chunk_settings = {.on_chunk_header = on_chunk_header, .on_body = on_chunk_data};

void http_parser_open(struct http_parser *parser, size_t body_bytes_max) {
    *parser = (struct http_parser){.body_bytes_max = body_bytes_max};
    http_head_begin(&parser->head, false);
}

void http_parser_close(struct http_parser *parser) {
    http_head_close(&parser->head);
    str_close(&parser->body);
}

void http_parser_next(struct http_parser *parser) {
    assert(parser->phase == HTTP_PHASE_COMPLETE);
    parser->phase = HTTP_PHASE_HEAD;
    parser->discard = false;
    parser->n_body_bytes = 0;
    http_head_begin(&parser->head, false);
    str_clear(&parser->body);
    if (parser->body.capacity > BODY_BYTES_KEPT) str_close(&parser->body);
}

static void begin_chunks(struct http_parser *parser) {
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    llhttp_init(&parser->chunks, HTTP_REQUEST, &chunk_settings);
    parser->chunks.data = parser;
    parser->n_quiet = 0;
    llhttp_errno_t rc = llhttp_execute(&parser->chunks, head, sizeof head - 1);
    assert(rc == HPE_OK);
    (void)rc;
}

static enum http_event feed_head(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    enum http_progress progress = http_head_feed(&parser->head, bytes, n_bytes, n_used);
    if (progress == HTTP_MORE) return HTTP_EVENT_MORE;
    parser->refusal = parser->head.refusal;
    if (progress == HTTP_DONE) progress = http_framing_read(&parser->framing, &parser->head, &parser->refusal);
    if (progress == HTTP_REFUSED) return HTTP_EVENT_REFUSED;
    parser->phase = HTTP_PHASE_COMPLETE;
    if (parser->framing.content_length) parser->phase = HTTP_PHASE_LENGTH;
    if (parser->framing.chunked) {
        parser->phase = HTTP_PHASE_CHUNKS;
        begin_chunks(parser);
    }
    return HTTP_EVENT_HEAD;
}

static enum http_event feed_length(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    uint64_t n_left = parser->framing.content_length - parser->n_body_bytes;
    size_t n = n_bytes < n_left ? n_bytes : (size_t)n_left;
    if (!parser->discard) str_append(&parser->body, bytes, n);
    parser->n_body_bytes += n;
    *n_used = n;
    if (n < n_left) return HTTP_EVENT_MORE;
    parser->phase = HTTP_PHASE_COMPLETE;
    return HTTP_EVENT_MESSAGE;
}

static enum http_event feed_trailer(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    enum http_progress progress = http_head_feed(&parser->head, bytes, n_bytes, n_used);
    if (progress == HTTP_MORE) return HTTP_EVENT_MORE;
    parser->refusal = parser->head.refusal;
    if (progress == HTTP_REFUSED) return HTTP_EVENT_REFUSED;
    if (!http_trailer_allowed(&parser->head)) return refuse(parser, 400, "A trailer field is not allowed.");
    parser->phase = HTTP_PHASE_COMPLETE;
    return HTTP_EVENT_MESSAGE;
}

static enum http_event feed_chunks(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    parser->n_quiet += n_bytes;
    llhttp_errno_t rc = llhttp_execute(&parser->chunks, bytes, n_bytes);
    *n_used = n_bytes;
    if (rc == HPE_PAUSED) {
        *n_used = (size_t)(llhttp_get_error_pos(&parser->chunks) - bytes);
        http_head_begin(&parser->head, true);
        parser->phase = HTTP_PHASE_TRAILER;
        size_t n_trailer = 0;
        enum http_event event = feed_trailer(parser, bytes + *n_used, n_bytes - *n_used, &n_trailer);
        *n_used += n_trailer;
        return event;
    }
    if (rc != HPE_OK)
        return parser->refusal.status ? HTTP_EVENT_REFUSED : refuse(parser, 400, "The chunked body is malformed.");
    if (parser->n_quiet > CHUNK_LINE_BYTES_MAX) return refuse(parser, 400, "A chunk extension is too long.");
    return HTTP_EVENT_MORE;
}

enum http_event http_parser_feed(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    *n_used = 0;
    if (parser->refusal.status) return HTTP_EVENT_REFUSED;
    switch (parser->phase) {
    case HTTP_PHASE_HEAD:
        return feed_head(parser, bytes, n_bytes, n_used);
    case HTTP_PHASE_LENGTH:
        return feed_length(parser, bytes, n_bytes, n_used);
    case HTTP_PHASE_CHUNKS:
        return feed_chunks(parser, bytes, n_bytes, n_used);
    case HTTP_PHASE_TRAILER:
        return feed_trailer(parser, bytes, n_bytes, n_used);
    case HTTP_PHASE_COMPLETE:
        return HTTP_EVENT_MESSAGE;
    }
    return HTTP_EVENT_REFUSED;
}
