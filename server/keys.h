// API keys: read once from a file, kept as SHA-256 digests, compared in time that does not depend on the keys.
//
// The file has one key a line; empty lines and lines that begin with # are skipped, blanks around a key are dropped.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct keys;

// Refuses a file without a key, and keys with characters that no header can carry. Never quotes a key.
int keys_open(struct keys **out, const char *path, struct err *err) __attribute__((warn_unused_result));
void keys_close(struct keys *keys); // NULL is allowed

// Whether the presented text is one of the keys. *key_id is then a stable, non-zero hash of it. All keys are compared,
// each in full.
bool keys_match(const struct keys *keys, struct str_view presented, uint64_t *key_id);
