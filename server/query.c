#include "server/query.h"

#include <stdio.h>
#include <string.h>

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// Printable ASCII alone: no parameter here needs more.
static bool decode(struct str_view text, char out[QUERY_VALUE_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < text.n_bytes; i++) {
        char c = text.data[i] == '+' ? ' ' : text.data[i];
        if (c == '%') {
            int high = i + 2 < text.n_bytes ? hex_digit(text.data[i + 1]) : -1;
            int low = i + 2 < text.n_bytes ? hex_digit(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c < 0x20 || c > 0x7e || n + 1 >= QUERY_VALUE_MAX) return false;
        out[n++] = c;
    }
    out[n] = 0;
    return true;
}

static void list_known(const struct query_field *fields, int n_fields, char *out, size_t capacity) {
    size_t n = 0;
    for (int i = 0; i < n_fields && n < capacity; i++)
        n += (size_t)snprintf(out + n, capacity - n, "%s%s", i ? ", " : "", fields[i].name);
}

static int find(const struct query_field *fields, int n_fields, const char *name) {
    for (int i = 0; i < n_fields; i++)
        if (strcmp(fields[i].name, name) == 0) return i;
    return -1;
}

static bool read_pair(struct str_view pair, const struct query_field *fields, int n_fields, unsigned *seen,
                      struct api_error *error) {
    char name[QUERY_VALUE_MAX], known[200] = "none";
    const char *equals = memchr(pair.data, '=', pair.n_bytes);
    size_t n_name = equals ? (size_t)(equals - pair.data) : pair.n_bytes;
    int i = decode((struct str_view){pair.data, n_name}, name) ? find(fields, n_fields, name) : -1;
    list_known(fields, n_fields, known, sizeof known);
    if (i < 0)
        return api_error_set(error, 400, "unknown_parameter", NULL,
                             "The query has a parameter that is not known here; known: %s.", known),
               false;
    if (*seen & 1u << i)
        return api_error_set(error, 400, "invalid_value", fields[i].name, "%s is given twice.", fields[i].name), false;
    *seen |= 1u << i;
    struct str_view value = {pair.data + pair.n_bytes, 0};
    if (equals) value = (struct str_view){equals + 1, pair.n_bytes - n_name - 1};
    if (decode(value, fields[i].value)) return true;
    api_error_set(error, 400, "invalid_value", fields[i].name, "%s has a value that cannot be read.", fields[i].name);
    return false;
}

bool query_read(const char *query, const struct query_field *fields, int n_fields, struct api_error *error) {
    unsigned seen = 0;
    while (*query) {
        size_t n = strcspn(query, "&");
        if (n && !read_pair((struct str_view){query, n}, fields, n_fields, &seen, error)) return false;
        query += n + (query[n] == '&');
    }
    return true;
}
