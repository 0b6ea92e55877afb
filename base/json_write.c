#include "base/json_write.h"

#include "base/json.h"

#include <string.h>

static void begin(struct str *out, const char *name) {
    if (!name) return;
    json_append_string(out, name, strlen(name));
    str_append_char(out, ':');
}

static void drop_comma(struct str *out) {
    if (out->n_bytes && out->data[out->n_bytes - 1] == ',') out->data[--out->n_bytes] = 0;
}

void json_write_begin(struct str *out, const char *name, char opening) {
    begin(out, name);
    str_append_char(out, opening);
}

void json_write_end(struct str *out, char closing) {
    drop_comma(out);
    str_append_char(out, closing);
    str_append_char(out, ',');
}

void json_write_text(struct str *out, const char *name, const char *text) {
    begin(out, name);
    if (text)
        json_append_string(out, text, strlen(text));
    else
        str_append_text(out, "null");
    str_append_char(out, ',');
}

void json_write_number(struct str *out, const char *name, double value) {
    begin(out, name);
    json_append_number(out, value);
    str_append_char(out, ',');
}

void json_write_int(struct str *out, const char *name, int64_t value) {
    begin(out, name);
    str_printf(out, "%lld,", (long long)value);
}

void json_write_bool(struct str *out, const char *name, bool value) {
    begin(out, name);
    str_append_text(out, value ? "true," : "false,");
}

void json_write_null(struct str *out, const char *name) {
    begin(out, name);
    str_append_text(out, "null,");
}

void json_write_close(struct str *out) {
    drop_comma(out);
}
