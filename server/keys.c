#include "server/keys.h"

#include "base/file_map.h"
#include "base/mem.h"
#include "server/sha256.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES_MAX = 1024 };

struct digest {
    uint8_t bytes[32];
};

struct keys {
    VEC_OF(struct digest) digests;
};

static struct str_view trim(struct str_view line) {
    while (line.n_bytes && strchr(" \t", line.data[0])) line.data++, line.n_bytes--;
    while (line.n_bytes && strchr(" \t\r", line.data[line.n_bytes - 1])) line.n_bytes--;
    return line;
}

static int add_line(struct keys *keys, struct str_view line, int line_number, struct err *err) {
    if (!line.n_bytes || line.data[0] == '#') return 0;
    if (line.n_bytes > KEY_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "the key in line %d is longer than 1024 bytes", line_number);
    for (size_t i = 0; i < line.n_bytes; i++)
        if (line.data[i] <= 0x20 || line.data[i] > 0x7e)
            return err_set(err, ERR_FORMAT, "the key in line %d is not printable ASCII without blanks", line_number);
    struct digest digest;
    sha256(line.data, line.n_bytes, digest.bytes);
    vec_push(&keys->digests, digest);
    return 0;
}

static int read_lines(struct keys *keys, struct str_view text, struct err *err) {
    for (int line_number = 1; text.n_bytes; line_number++) {
        const char *end = memchr(text.data, '\n', text.n_bytes);
        size_t n = end ? (size_t)(end - text.data) : text.n_bytes;
        int rc = add_line(keys, trim((struct str_view){text.data, n}), line_number, err);
        if (rc) return rc;
        n += end != NULL;
        text = (struct str_view){text.data + n, text.n_bytes - n};
    }
    return keys->digests.count ? 0 : err_set(err, ERR_FORMAT, "there is no key in the file");
}

int keys_open(struct keys **out, const char *path, struct err *err) {
    struct file_map map;
    int rc = file_map_open(&map, path, err);
    if (rc) return rc;
    struct keys *keys = mem_alloc_zero(1, sizeof *keys);
    rc = read_lines(keys, (struct str_view){map.data, map.n_bytes}, err);
    file_map_close(&map);
    if (rc) {
        keys_close(keys);
        return err_prefix(err, "%s", path);
    }
    *out = keys;
    return 0;
}

void keys_close(struct keys *keys) {
    if (!keys) return;
    vec_free(&keys->digests);
    free(keys);
}

bool keys_match(const struct keys *keys, struct str_view presented, uint64_t *key_id) {
    struct digest digest;
    sha256(presented.data, presented.n_bytes, digest.bytes);
    uint32_t any = 0;
    for (size_t i = 0; i < keys->digests.count; i++) {
        uint32_t difference = 0;
        for (size_t b = 0; b < sizeof digest.bytes; b++)
            difference |= keys->digests.items[i].bytes[b] ^ digest.bytes[b];
        any |= (difference - 1) >> 31; // 1 exactly when there was no difference
    }
    memcpy(key_id, digest.bytes, sizeof *key_id);
    *key_id |= 1; // 0 means that keys are off
    return any;
}
