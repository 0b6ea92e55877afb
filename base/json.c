#include "base/json.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct validator {
    const char *text;
    size_t n, i;
    const struct json_limits *limits;
    size_t n_elements;
    struct err *err;
};

static int fail(struct validator *v, const char *what) {
    return err_set(v->err, ERR_FORMAT, "%s at byte %zu", what, v->i);
}

static void skip_blanks(struct validator *v) {
    while (v->i < v->n &&
           (v->text[v->i] == ' ' || v->text[v->i] == '\t' || v->text[v->i] == '\n' || v->text[v->i] == '\r'))
        v->i++;
}

static bool take(struct validator *v, char c) {
    if (v->i >= v->n || v->text[v->i] != c) return false;
    v->i++;
    return true;
}

static bool take_digits(struct validator *v) {
    size_t start = v->i;
    while (v->i < v->n && v->text[v->i] >= '0' && v->text[v->i] <= '9') v->i++;
    return v->i > start;
}

static int check_number(struct validator *v) {
    take(v, '-');
    if (!take(v, '0') && !take_digits(v)) return fail(v, "a digit is missing");
    if (take(v, '.') && !take_digits(v)) return fail(v, "a digit is missing");
    if (take(v, 'e') || take(v, 'E')) {
        if (!take(v, '+')) take(v, '-');
        if (!take_digits(v)) return fail(v, "a digit is missing");
    }
    return 0;
}

// Four hexadecimal digits; -1 when they are not.
static int read_hex4(const struct validator *v, size_t at) {
    if (v->n - at < 4) return -1;
    int value = 0;
    for (size_t i = at; i < at + 4; i++) {
        char c = v->text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static int check_unicode_escape(struct validator *v) { // after "\u"
    int unit = read_hex4(v, v->i);
    if (unit < 0) return fail(v, "a \\u escape needs four hexadecimal digits");
    if (unit == 0 && !v->limits->allow_nul) return fail(v, "the character U+0000 is not accepted");
    v->i += 4;
    if (unit >= 0xdc00 && unit <= 0xdfff) return fail(v, "a surrogate without its pair");
    if (unit < 0xd800 || unit > 0xdbff) return 0;
    if (v->n - v->i < 6 || v->text[v->i] != '\\' || v->text[v->i + 1] != 'u')
        return fail(v, "a surrogate without its pair");
    int low = read_hex4(v, v->i + 2);
    if (low < 0xdc00 || low > 0xdfff) return fail(v, "a surrogate without its pair");
    v->i += 6;
    return 0;
}

static int check_string(struct validator *v) { // at the opening quote
    v->i++;
    while (v->i < v->n) {
        unsigned char c = (unsigned char)v->text[v->i];
        if (c == '"') {
            v->i++;
            return 0;
        }
        if (c < 0x20) return fail(v, "a control character inside a string");
        if (c == '\\') {
            v->i++;
            if (v->i >= v->n) break;
            char escape = v->text[v->i++];
            if (escape == 'u') {
                if (check_unicode_escape(v)) return ERR_FORMAT;
            } else if (!strchr("\"\\/bfnrt", escape) || !escape) {
                v->i--;
                return fail(v, "an unknown escape");
            }
        } else if (c < 0x80) {
            v->i++;
        } else {
            uint32_t code_point;
            size_t length = utf8_decode(v->text + v->i, v->n - v->i, &code_point);
            if (!length) return fail(v, "bytes that are not UTF-8");
            v->i += length;
        }
    }
    return fail(v, "a string without an end");
}

static int check_word(struct validator *v, const char *word) {
    size_t n = strlen(word);
    if (v->n - v->i < n || memcmp(v->text + v->i, word, n) != 0) return fail(v, "an unknown word");
    v->i += n;
    return 0;
}

static int check_value(struct validator *v, int depth);

// The characters of a valid literal with escapes resolved. For keys, so that "a" and "\u0061" count as one key.
static void append_unescaped(const char *text, size_t n_bytes, struct str *out) {
    for (size_t i = 0; i < n_bytes;) {
        const char *escape_at = memchr(text + i, '\\', n_bytes - i);
        size_t n_plain = escape_at ? (size_t)(escape_at - text) - i : n_bytes - i;
        str_append(out, text + i, n_plain);
        i += n_plain;
        if (i == n_bytes) break;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        char escape = text[i + 1];
        const char *simple = strchr(from, escape);
        i += 2;
        if (escape != 'u') {
            str_append_char(out, to[simple - from]);
            continue;
        }
        struct validator at = {.text = text, .n = n_bytes};
        uint32_t c = (uint32_t)read_hex4(&at, i);
        i += 4;
        if (c >= 0xd800 && c <= 0xdbff) {
            c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)read_hex4(&at, i + 2) - 0xdc00);
            i += 6;
        }
        char bytes[4];
        str_append(out, bytes, utf8_encode(c, bytes));
    }
}

static int check_key(struct validator *v, struct map *keys, struct str *scratch) {
    if (v->i >= v->n || v->text[v->i] != '"') return fail(v, "a key is missing");
    size_t start = v->i + 1;
    if (check_string(v)) return ERR_FORMAT;
    if (v->limits->allow_duplicates) return 0;
    str_clear(scratch);
    append_unescaped(v->text + start, v->i - 1 - start, scratch);
    if (!keys->slots) map_open(keys, 8, true);
    if (!map_put(keys, str_text(scratch), scratch->n_bytes, 0)) return fail(v, "a key that its object has already");
    return 0;
}

static int check_members(struct validator *v, int depth, struct map *keys, struct str *scratch) {
    skip_blanks(v);
    if (take(v, '}')) return 0;
    for (;;) {
        skip_blanks(v);
        int rc = check_key(v, keys, scratch);
        if (rc) return rc;
        skip_blanks(v);
        if (!take(v, ':')) return fail(v, "a colon is missing");
        rc = check_value(v, depth);
        if (rc) return rc;
        if (take(v, '}')) return 0;
        if (!take(v, ',')) return fail(v, "a comma or brace is missing");
    }
}

static int check_array(struct validator *v, int depth) {
    skip_blanks(v);
    if (take(v, ']')) return 0;
    for (;;) {
        int rc = check_value(v, depth);
        if (rc) return rc;
        if (take(v, ']')) return 0;
        if (!take(v, ',')) return fail(v, "a comma or bracket is missing");
    }
}

static int check_value(struct validator *v, int depth) {
    skip_blanks(v);
    if (v->i >= v->n) return fail(v, "a value is missing");
    if (++v->n_elements > v->limits->elements)
        return err_set(v->err, ERR_LIMIT, "more than %zu elements", v->limits->elements);
    char c = v->text[v->i];
    int rc = 0;
    if (c == '{' || c == '[') {
        if (depth >= v->limits->depth) return err_set(v->err, ERR_LIMIT, "nested deeper than %d", v->limits->depth);
        v->i++;
        if (c == '[') {
            rc = check_array(v, depth + 1);
        } else {
            struct map keys = MAP_INIT;
            struct str scratch = STR_INIT;
            rc = check_members(v, depth + 1, &keys, &scratch);
            map_close(&keys);
            str_close(&scratch);
        }
    } else if (c == '"') {
        rc = check_string(v);
    } else if (c == 't') {
        rc = check_word(v, "true");
    } else if (c == 'f') {
        rc = check_word(v, "false");
    } else if (c == 'n') {
        rc = check_word(v, "null");
    } else {
        rc = check_number(v);
    }
    if (!rc) skip_blanks(v);
    return rc;
}

int json_validate(const char *text, size_t n_bytes, const struct json_limits *limits, struct err *err) {
    struct validator v = {.text = text, .n = n_bytes, .limits = limits, .err = err};
    int rc = check_value(&v, 0);
    if (rc) return rc;
    return v.i == n_bytes ? 0 : fail(&v, "bytes after the end");
}

int json_parse(cJSON **out, const char *text, size_t n_bytes, const struct json_limits *limits, struct err *err) {
    *out = NULL;
    int rc = json_validate(text, n_bytes, limits, err);
    if (rc) return rc;
    *out = cJSON_ParseWithLengthOpts(text, n_bytes, NULL, false);
    return *out ? 0 : err_set(err, ERR_FORMAT, "the text cannot be parsed");
}

static const char *after_blanks(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

static const char *after_string(const char *at, const char *end) { // at the opening quote
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at + 1 : end;
}

static const char *after_value(const char *at, const char *end) {
    size_t depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = after_string(at, end);
        } else if (c == '{' || c == '[') {
            depth++, at++;
        } else if (c == '}' || c == ']') {
            if (!depth) return at; // of the container around a number or word
            depth--, at++;
        } else if (depth) {
            at++;
            continue;
        } else {
            while (at < end && !strchr(",]} \t\n\r", *at)) at++;
        }
        if (!depth) return at;
    }
    return at;
}

struct json_cursor json_enter(struct str_view container) {
    if (!container.n_bytes) return (struct json_cursor){NULL, NULL};
    return (struct json_cursor){container.data + 1, container.data + container.n_bytes};
}

static bool take_value(struct json_cursor *cursor, struct str_view *value) {
    const char *start = after_blanks(cursor->at, cursor->end);
    const char *stop = after_value(start, cursor->end);
    *value = (struct str_view){start, (size_t)(stop - start)};
    cursor->at = after_blanks(stop, cursor->end);
    if (cursor->at < cursor->end && *cursor->at == ',') cursor->at++;
    return stop > start;
}

bool json_next_element(struct json_cursor *cursor, struct str_view *value) {
    cursor->at = after_blanks(cursor->at, cursor->end);
    if (cursor->at >= cursor->end || *cursor->at == ']') return false;
    return take_value(cursor, value);
}

bool json_next_member(struct json_cursor *cursor, struct str_view *key, struct str_view *value) {
    cursor->at = after_blanks(cursor->at, cursor->end);
    if (cursor->at >= cursor->end || *cursor->at != '"') return false;
    const char *stop = after_string(cursor->at, cursor->end);
    *key = (struct str_view){cursor->at, (size_t)(stop - cursor->at)};
    cursor->at = after_blanks(stop, cursor->end);
    if (cursor->at >= cursor->end || *cursor->at != ':') return false;
    cursor->at++;
    return take_value(cursor, value);
}

void json_unescape(struct str_view literal, struct str *out) {
    assert(literal.n_bytes >= 2 && literal.data[0] == '"');
    append_unescaped(literal.data + 1, literal.n_bytes - 2, out);
}

bool json_string_is(struct str_view literal, const char *text) {
    size_t n = strlen(text);
    if (literal.n_bytes < 2 || literal.data[0] != '"') return false;
    if (!memchr(literal.data, '\\', literal.n_bytes))
        return literal.n_bytes - 2 == n && memcmp(literal.data + 1, text, n) == 0;
    struct str plain = STR_INIT;
    json_unescape(literal, &plain);
    bool equal = plain.n_bytes == n && memcmp(str_text(&plain), text, n) == 0;
    str_close(&plain);
    return equal;
}

double json_read_double(struct str_view number) {
    char digits[64]; // the view is not NUL-terminated
    char *copy = number.n_bytes < sizeof digits ? digits : mem_alloc(number.n_bytes + 1);
    memcpy(copy, number.data, number.n_bytes);
    copy[number.n_bytes] = 0;
    double value = strtod(copy, NULL);
    if (copy != digits) free(copy);
    return value;
}

int json_read_int(struct str_view number, int64_t *out) {
    size_t i = 0, n = number.n_bytes;
    if (!n || (number.data[0] != '-' && (number.data[0] < '0' || number.data[0] > '9'))) return ERR_INVALID;
    bool negative = number.data[0] == '-', fits = true;
    int64_t value = 0;
    for (i = negative; i < n && number.data[i] >= '0' && number.data[i] <= '9'; i++) {
        int64_t digit = number.data[i] - '0';
        fits = fits && !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_sub_overflow(value, digit, &value); // negative numbers reach one further
    }
    if (i == n) {
        if (!fits || (!negative && value == INT64_MIN)) return ERR_LIMIT;
        *out = negative ? value : -value;
        return 0;
    }
    double real = json_read_double(number);
    if (real != floor(real)) return ERR_INVALID;
    if (fabs(real) > 0x1p53) return ERR_LIMIT;
    *out = (int64_t)real;
    return 0;
}

bool json_find_member(const char *text, size_t n_bytes, const char *key, struct str_view *value) {
    const char *start = after_blanks(text, text + n_bytes);
    if (start == text + n_bytes || *start != '{') return false;
    struct json_cursor cursor = {start + 1, text + n_bytes};
    struct str_view name, found;
    while (json_next_member(&cursor, &name, &found)) {
        if (!json_string_is(name, key)) continue;
        *value = found;
        return true;
    }
    return false;
}

static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

int json_get_int(const cJSON *object, const char *key, int64_t min, int64_t max, int64_t *out, struct err *err) {
    const cJSON *item = member(object, key);
    if (!item) return 0;
    double value = item->valuedouble;
    if (!cJSON_IsNumber(item) || value != floor(value) || fabs(value) > 0x1p53)
        return err_set(err, ERR_INVALID, "\"%s\" must be an integer", key);
    if (value < (double)min || value > (double)max)
        return err_set(err, ERR_INVALID, "\"%s\" must be between %lld and %lld", key, (long long)min, (long long)max);
    *out = (int64_t)value;
    return 0;
}

int json_get_double(const cJSON *object, const char *key, double *out, struct err *err) {
    const cJSON *item = member(object, key);
    if (!item) return 0;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return err_set(err, ERR_INVALID, "\"%s\" must be a finite number", key);
    *out = item->valuedouble;
    return 0;
}

int json_get_bool(const cJSON *object, const char *key, bool *out, struct err *err) {
    const cJSON *item = member(object, key);
    if (!item) return 0;
    if (!cJSON_IsBool(item)) return err_set(err, ERR_INVALID, "\"%s\" must be true or false", key);
    *out = cJSON_IsTrue(item);
    return 0;
}

int json_get_string(const cJSON *object, const char *key, const char **out, struct err *err) {
    const cJSON *item = member(object, key);
    if (!item) return 0;
    if (!cJSON_IsString(item)) return err_set(err, ERR_INVALID, "\"%s\" must be a string", key);
    *out = item->valuestring;
    return 0;
}

void json_append_string(struct str *out, const char *text, size_t n_bytes) {
    str_append_char(out, '"');
    for (size_t i = 0; i < n_bytes;) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            size_t start = i;
            while (i < n_bytes && (unsigned char)text[i] >= 0x20 && (unsigned char)text[i] < 0x80 && text[i] != '"' &&
                   text[i] != '\\')
                i++;
            str_append(out, text + start, i - start);
            continue;
        }
        uint32_t code_point;
        size_t length = utf8_decode(text + i, n_bytes - i, &code_point);
        if (!length) {
            str_append(out, "\xef\xbf\xbd", 3);
            i++;
            continue;
        }
        if (c == '"' || c == '\\')
            str_append_char(out, '\\'), str_append_char(out, (char)c);
        else if (c == '\n')
            str_append_text(out, "\\n");
        else if (c == '\r')
            str_append_text(out, "\\r");
        else if (c == '\t')
            str_append_text(out, "\\t");
        else if (code_point < 0x20 || code_point == 0x7f || code_point == 0x85 || code_point == 0x2028 ||
                 code_point == 0x2029)
            str_printf(out, "\\u%04x", (unsigned)code_point);
        else
            str_append(out, text + i, length);
        i += length;
    }
    str_append_char(out, '"');
}

void json_append_number(struct str *out, double value) {
    if (isfinite(value))
        str_printf(out, "%.9g", value);
    else
        str_append_text(out, "null");
}
