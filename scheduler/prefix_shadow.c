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

static const uint64_t FOLLOWED = 1;

// The place of the hash, *was_there or not; now it is. Where all its places are taken, the first one goes.
static uint64_t *note(struct prefix_shadow *shadow, uint64_t hash, bool *was_there) {
    uint64_t *place = NULL, mixed = hash >> 1;
    *was_there = true;
    for (uint64_t i = 0; i < PROBES; i++) {
        uint64_t *at = &shadow->hashes[(mixed + i) & (PREFIX_SHADOW_HASHES - 1)];
        if ((*at & ~FOLLOWED) == hash) return at;
        if (!*at && !place) place = at;
    }
    *was_there = false;
    if (!place) place = &shadow->hashes[mixed & (PREFIX_SHADOW_HASHES - 1)];
    *place = hash;
    return place;
}

int32_t prefix_shadow_note(struct prefix_shadow *shadow, const struct sequence *sequence, bool *branches) {
    const struct request *request = sequence->request;
    const int32_t n_blocks = sequence_n_known(sequence) / shadow->block_tokens;
    uint64_t hash = rng_key(request->generation.key_id, request->generation.cache_salt, 1), *before = NULL;
    int32_t n_seen = 0;
    *branches = false;
    for (int32_t b = 0; b < n_blocks; b++) {
        for (int32_t i = 0; i < shadow->block_tokens; i++)
            hash = rng_mix64(hash ^ (uint64_t)sequence_token(sequence, b * shadow->block_tokens + i));
        hash = (hash & ~FOLLOWED) | 2;
        const bool was_followed = before && (*before & FOLLOWED);
        if (before) *before |= FOLLOWED;
        bool was_there;
        before = note(shadow, hash, &was_there);
        if (n_seen < b) continue;
        n_seen += was_there;
        *branches = !was_there && was_followed;
    }
    return n_seen * shadow->block_tokens;
}
