// What a prefix cache without bounds would find: hashes of all blocks that were seen, and nothing else.
//
// A table of fixed size; when it is full, old hashes are overwritten, so it forgets too, but a thousand times later
// than a cache. A hash that two blocks share makes a prompt look known that is not: one in billions. Thread: the step
// thread.
#pragma once

#include "scheduler/sequence.h"

enum { PREFIX_SHADOW_HASHES = 1 << 17, PREFIX_SHADOW_EARLY = 256 };

struct prefix_shadow {
    uint64_t *hashes; // [PREFIX_SHADOW_HASHES]; 0: empty; bit 0: a full block has followed this one
    int32_t block_tokens;
};

void prefix_shadow_open(struct prefix_shadow *shadow, int32_t block_tokens);
void prefix_shadow_close(struct prefix_shadow *shadow);
size_t prefix_shadow_bytes(void);

// Leading tokens of the sequence's known ones that were seen before, in whole blocks; from now on, all were.
// *branches: another block had followed them before; false where it goes on behind the end of what was seen, as the
// next turn of a conversation does.
int32_t prefix_shadow_note(struct prefix_shadow *shadow, const struct sequence *sequence, bool *branches);
