// JSON: a strict validator in front of cJSON, and typed getters.
//
// cJSON accepts more than JSON (leading zeros, raw control characters, trailing bytes, broken UTF-8). So every text
// passes json_validate first, which accepts exactly RFC 8259 within limits, and only then becomes a cJSON tree.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_limits {
    int depth;             // nested arrays and objects
    size_t elements;       // values and members in all
    bool allow_nul;        // accept \u0000 inside strings (cJSON cuts the string there)
    bool allow_duplicates; // accept a key twice in one object (cJSON's getters take the first)
};

// For what a client sends.
#define JSON_LIMITS_CLIENT ((struct json_limits){.depth = 128, .elements = 200000})
// For files of a model: tokenizer.json holds some hundred thousand elements.
#define JSON_LIMITS_FILE ((struct json_limits){.depth = 64, .elements = 20000000, .allow_nul = true})

// 0, or ERR_FORMAT / ERR_LIMIT with text that says what and at which byte. Never quotes the input.
int json_validate(const char *text, size_t n_bytes, const struct json_limits *limits, struct err *err)
    __attribute__((warn_unused_result));

// Validates and parses. *out is freed by the caller with cJSON_Delete.
int json_parse(cJSON **out, const char *text, size_t n_bytes, const struct json_limits *limits, struct err *err)
    __attribute__((warn_unused_result));

// Where a member's value stands in the text of a valid object (the raw bytes, without blanks around it).
// False when the object has no such key.
bool json_find_member(const char *text, size_t n_bytes, const char *key, struct str_view *value);

// Walking the text of a valid document without building a tree: nothing is copied and numbers keep every digit.
// A value is a view of its raw bytes; its first byte tells its kind.
struct json_cursor {
    const char *at, *end;
};
struct json_cursor json_enter(struct str_view container);                   // an array or object, at its first entry
bool json_next_element(struct json_cursor *cursor, struct str_view *value); // of an array; false: no more
// Of an object; key is the string literal with its quotes.
bool json_next_member(struct json_cursor *cursor, struct str_view *key, struct str_view *value);

// The characters of a string literal, escapes resolved, appended to out.
void json_unescape(struct str_view literal, struct str *out);
bool json_string_is(struct str_view literal, const char *text); // false too when the value is no string
// 0 with the exact value (1e3 and 5.0 count as integers); ERR_INVALID: no integer; ERR_LIMIT: beyond int64.
int json_read_int(struct str_view number, int64_t *out) __attribute__((warn_unused_result));
double json_read_double(struct str_view number); // may be infinite

// Getters on an object: a missing key or an explicit null gives 0 and leaves *out as it was; a wrong type or a value
// out of range gives ERR_INVALID and text that names the key.
int json_get_int(const cJSON *object, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err)
    __attribute__((warn_unused_result));
int json_get_double(const cJSON *object, const char *key, double *out, struct err *err)
    __attribute__((warn_unused_result));
int json_get_bool(const cJSON *object, const char *key, bool *out, struct err *err) __attribute__((warn_unused_result));
int json_get_string(const cJSON *object, const char *key, const char **out, struct err *err) // lives in the tree
    __attribute__((warn_unused_result));

// Appends a JSON string literal with its quotes. Escapes control characters, quotes, backslashes and U+0085,
// U+2028, U+2029 (some clients split lines there). Bytes that are not UTF-8 become U+FFFD.
void json_append_string(struct str *out, const char *text, size_t n_bytes);
void json_append_number(struct str *out, double value); // nine digits; null when it is not finite
