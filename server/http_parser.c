#include "server/http_parser.h"

#include <assert.h>
#include <sys/types.h>

enum {
    BODY_BYTES_KEPT = 64 << 10, // capacity that a connection keeps between requests
    CHUNK_LINE_BYTES_MAX = 4096 // size, leading zeros, extensions
};

static enum http_event refuse(struct http_parser *parser, int status, const char *message) {
    parser->refusal = (struct http_refusal){status, message};
    return HTTP_EVENT_REFUSED;
}

static int on_chunk_header(llhttp_t *chunks) {
    struct http_parser *parser = chunks->data;
    parser->in_chunk_line = false;
    if (chunks->content_length > parser->body_bytes_max - parser->n_body_bytes) {
        refuse(parser, 413, "The request body is too large.");
        return -1;
    }
    return chunks->content_length ? 0 : HPE_PAUSED; // the trailer section is read by http_head
}

static int on_chunk_data(llhttp_t *chunks, const char *bytes, size_t n_bytes) {
    struct http_parser *parser = chunks->data;
    parser->n_body_bytes += n_bytes;
    if (!parser->discard) str_append(&parser->body, bytes, n_bytes);
    return 0;
}

static int on_chunk_complete(llhttp_t *chunks) {
    struct http_parser *parser = chunks->data;
    parser->in_chunk_line = true;
    parser->extension = EXTENSION_NONE;
    parser->n_chunk_line = 0;
    return 0;
}

static const llhttp_settings_t chunk_settings = {
    .on_chunk_header = on_chunk_header, .on_body = on_chunk_data, .on_chunk_complete = on_chunk_complete};

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
    on_chunk_complete(&parser->chunks);
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

// One more character of an extension: *( ";" token [ "=" ( token / quoted-string ) ] ) and the CR behind it. Returns
// the next state, EXTENSION_NONE at the CR, or -1 when the character cannot stand there.
static int extension_next(enum http_extension state, char c) {
    bool token = http_is_token((struct str_view){&c, 1});
    switch (state) {
    case EXTENSION_NONE:
        break;
    case EXTENSION_NAME_START:
        return token ? EXTENSION_NAME : -1;
    case EXTENSION_NAME:
        if (token || c == '=') return token ? EXTENSION_NAME : EXTENSION_VALUE_START;
        break;
    case EXTENSION_VALUE_START:
        if (token || c == '"') return token ? EXTENSION_VALUE : EXTENSION_QUOTED;
        return -1;
    case EXTENSION_VALUE:
        if (token) return EXTENSION_VALUE;
        break;
    case EXTENSION_QUOTED:
        if (c == '"' || c == '\\') return c == '"' ? EXTENSION_END : EXTENSION_ESCAPE;
        return http_is_field_byte(c) ? EXTENSION_QUOTED : -1;
    case EXTENSION_ESCAPE:
        return http_is_field_byte(c) ? EXTENSION_QUOTED : -1;
    case EXTENSION_END:
        break;
    }
    if (c == ';') return EXTENSION_NAME_START;
    return c == '\r' ? EXTENSION_NONE : -1;
}

// Extensions are checked and dropped here, because llhttp 8.1 refuses some that are valid and takes some that are not.
// Returns how many bytes they took, or -1 when they are malformed.
static ssize_t skip_extension(struct http_parser *parser, const char *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) {
        int next = extension_next(parser->extension, bytes[i]);
        if (next < 0) return -1;
        parser->extension = (enum http_extension)next;
        if (next == EXTENSION_NONE) return (ssize_t)i; // the CR is for llhttp
    }
    return (ssize_t)n_bytes;
}

// llhttp gets whole pieces of lines and whole stretches of data, so that the length of a line can be counted exactly.
static size_t next_piece(const struct http_parser *parser, const char *bytes, size_t n_bytes) {
    if (parser->in_chunk_line) {
        size_t n = 0;
        while (n < n_bytes && bytes[n] != ';' && bytes[n] != '\n') n++;
        return n < n_bytes && bytes[n] == '\n' ? n + 1 : n;
    }
    uint64_t n_left = parser->chunks.content_length;
    if (!n_left) return 1; // of the line end behind the data
    return n_bytes < n_left ? n_bytes : (size_t)n_left;
}

static enum http_event feed_piece(struct http_parser *parser, const char *bytes, size_t n_bytes) {
    llhttp_errno_t rc = llhttp_execute(&parser->chunks, bytes, n_bytes);
    if (rc == HPE_OK) return HTTP_EVENT_MORE;
    if (rc != HPE_PAUSED)
        return parser->refusal.status ? HTTP_EVENT_REFUSED : refuse(parser, 400, "The chunked body is malformed.");
    http_head_begin(&parser->head, true);
    parser->phase = HTTP_PHASE_TRAILER;
    return HTTP_EVENT_MORE;
}

// Takes a piece of a chunk line or of a chunk's data.
static enum http_event take_chunk_bytes(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    bool in_line = parser->in_chunk_line;
    enum http_event event = HTTP_EVENT_MORE;
    if (in_line && !parser->extension && bytes[0] == ';') {
        parser->extension = EXTENSION_NAME_START;
        *n_used = 1;
    } else if (parser->extension) {
        ssize_t n = skip_extension(parser, bytes, n_bytes);
        if (n < 0) return refuse(parser, 400, "A chunk extension is malformed.");
        *n_used = (size_t)n;
    } else {
        *n_used = next_piece(parser, bytes, n_bytes);
        event = feed_piece(parser, bytes, *n_used);
    }
    if (in_line) parser->n_chunk_line += *n_used;
    return parser->n_chunk_line > CHUNK_LINE_BYTES_MAX ? refuse(parser, 400, "A chunk line is too long.") : event;
}

static enum http_event feed_chunks(struct http_parser *parser, const char *bytes, size_t n_bytes, size_t *n_used) {
    size_t n = 0;
    while (*n_used < n_bytes && parser->phase == HTTP_PHASE_CHUNKS) {
        enum http_event event = take_chunk_bytes(parser, bytes + *n_used, n_bytes - *n_used, &n);
        if (event == HTTP_EVENT_REFUSED) return event;
        *n_used += n;
    }
    if (parser->phase == HTTP_PHASE_CHUNKS) return HTTP_EVENT_MORE;
    enum http_event event = feed_trailer(parser, bytes + *n_used, n_bytes - *n_used, &n);
    *n_used += n;
    return event;
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
