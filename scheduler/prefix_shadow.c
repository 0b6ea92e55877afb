#include "scheduler/prefix_shadow.h"

#include "base/rng.h"

#include <stdlib.h>

enum { PROBES = 4 };

void prefix_shadow_open(struct prefix_shadow *shadow, int32_t block_tokens) {
    *shadow = (struct prefix_shadow){mem_alloc_zero(PREFIX_SHADOW_HASHES, sizeof *shadow->hashes), block_tokens};
}

void prefix_shadow_close(struct prefix_shadow *shadow) {
    free(shadow->hashes);
}

size_t prefix_shadow_bytes(void) {
    return PREFIX_SHADOW_HASHES * sizeof(uint64_t);
}

// Whether the hash was there; now it is. Where all its places are taken, the first one goes.
static bool note(struct prefix_shadow *shadow, uint64_t hash) {
    uint64_t *place = NULL;
    for (uint64_t i = 0; i < PROBES; i++) {
        uint64_t *at = &shadow->hashes[(hash + i) & (PREFIX_SHADOW_HASHES - 1)];
        if (*at == hash) return true;
        if (!*at && !place) place = at;
    }
    *(place ? place : &shadow->hashes[hash & (PREFIX_SHADOW_HASHES - 1)]) = hash;
    return false;
}

int32_t prefix_shadow_note(struct prefix_shadow *shadow, const struct sequence *sequence) {
    const struct request *request = sequence->request;
    const int32_t n_blocks = sequence_n_known(sequence) / shadow->block_tokens;
    uint64_t hash = rng_key(request->generation.key_id, request->generation.cache_salt, 1);
    int32_t n_seen = 0;
    for (int32_t b = 0; b < n_blocks; b++) {
        for (int32_t i = 0; i < shadow->block_tokens; i++)
            hash = rng_mix64(hash ^ (uint64_t)sequence_token(sequence, b * shadow->block_tokens + i));
        if (note(shadow, hash | 1) && n_seen == b) n_seen++;
    }
    return n_seen * shadow->block_tokens;
}
