// The page at /: one file, open to whoever can reach the server, without any data in it. It asks for the data with the
// key that its reader types in, runs only its own script (named by hash), and talks to this server alone.
#include "server/server_state.h"

#include "server/sha256.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

extern const char dashboard_html[]; // server/dashboard.html

enum { HASH_TEXT_BYTES = 45 };

// Base64 of 32 bytes (RFC 4648, 4).
static void encode_hash(const uint8_t digest[32], char out[HASH_TEXT_BYTES]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *end = out;
    for (int i = 0; i < 33; i += 3) {
        uint32_t bits = (uint32_t)digest[i] << 16 | (uint32_t)(i + 1 < 32 ? digest[i + 1] : 0) << 8;
        if (i + 2 < 32) bits |= digest[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) *end++ = digits[bits >> shift & 63];
    }
    out[43] = '=';
    out[44] = 0;
}

// Of what stands between the tags of the page's only element of this name.
static void hash_element(const char *opening, const char *closing, char out[HASH_TEXT_BYTES]) {
    const char *begin = strstr(dashboard_html, opening);
    assert(begin);
    begin += strlen(opening);
    const char *end = strstr(begin, closing);
    assert(end);
    uint8_t digest[32];
    sha256(begin, (size_t)(end - begin), digest);
    encode_hash(digest, out);
}

void dashboard_open(struct server *server) {
    char script[HASH_TEXT_BYTES], style[HASH_TEXT_BYTES];
    hash_element("<script>", "</script>", script);
    hash_element("<style>", "</style>", style);
    int n = snprintf(server->dashboard_policy, sizeof server->dashboard_policy,
                     "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; connect-src 'self'; img-src "
                     "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                     script, style);
    assert(n > 0 && (size_t)n < sizeof server->dashboard_policy);
}

void dashboard_page(struct http_exchange *exchange, void *context) {
    const struct server *server = context;
    const struct {
        const char *name, *value;
    } headers[] = {
        {"Content-Security-Policy", server->dashboard_policy},
        {"X-Frame-Options", "DENY"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-cache"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        http_exchange_header(exchange, headers[i].name, headers[i].value);
    http_exchange_reply(exchange, 200, "text/html; charset=utf-8", dashboard_html, strlen(dashboard_html));
}
