// The one error shape of the API: {"error":{"message","type","param","code"}}, all four keys, always.
//
// Messages are fixed texts with numbers and names from our own tables: what a client sent is never quoted.
#pragma once

#include "base/str.h"

struct api_error {
    int status;        // 0: no error
    const char *code;  // a literal such as "invalid_value", or NULL
    char param[128];   // path of the field, "messages[2].content"; empty: null
    char message[400]; // one sentence for the reader
};

// Fills *error; returns -1, so that a reader of a request can end with it.
int api_error_set(struct api_error *error, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

// The type that belongs to a status: "rate_limit_error", "server_error" or "invalid_request_error".
const char *api_error_type(int status);

void api_error_body(const struct api_error *error, struct str *out); // appends the JSON object

// The same body from loose parts, as http_options.error_body wants it.
void api_error_http_body(struct str *out, int status, const char *type, const char *code, const char *message);
