// SHA-256 (FIPS 180-4), for keys: presented secrets are compared by digest. Any thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

void sha256(const void *bytes, size_t n_bytes, uint8_t digest[32]);
