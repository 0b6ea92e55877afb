#include "server/api_error.h"

#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int api_error_set(struct api_error *error, int status, const char *code, const char *param, const char *format, ...) {
    error->status = status;
    error->code = code;
    snprintf(error->param, sizeof error->param, "%s", param ? param : "");
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return -1;
}

const char *api_error_type(int status) {
    if (status == 429) return "rate_limit_error";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static void append_text_or_null(struct str *out, const char *key, const char *text) {
    str_printf(out, ",\"%s\":", key);
    if (text && *text)
        json_append_string(out, text, strlen(text));
    else
        str_append_text(out, "null");
}

static void append_body(struct str *out, const char *message, const char *type, const char *param, const char *code) {
    str_append_text(out, "{\"error\":{\"message\":");
    json_append_string(out, message, strlen(message));
    append_text_or_null(out, "type", type);
    append_text_or_null(out, "param", param);
    append_text_or_null(out, "code", code);
    str_append_text(out, "}}");
}

void api_error_body(const struct api_error *error, struct str *out) {
    append_body(out, error->message, api_error_type(error->status), error->param, error->code);
}

void api_error_http_body(struct str *out, int status, const char *type, const char *code, const char *message) {
    append_body(out, message, type ? type : api_error_type(status), NULL, code);
}
