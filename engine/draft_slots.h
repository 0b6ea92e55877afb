// Which sequence of the target has which part of a draft model's KV cache, and how much of it is right.
//
// A slot is room for one sequence of full length, in blocks of its own. It remembers the tokens whose keys and values
// it holds: whatever happened to the sequence meanwhile, what agrees with its tokens is right, and the rest is computed
// again. A sequence that has ended leaves its slot to others; one that begins with the same tokens, and belongs to the
// same owner, begins with what is there.
#pragma once

#include "engine/proposer.h"
#include <stdbool.h>
#include <stdint.h>

struct draft_slot {
    uint64_t id, owner, salt;
    int32_t choice;
    bool living;       // its sequence has not ended
    int32_t *tokens;   // [context]
    int32_t n_tokens;  // in the cache
    int32_t n_agreed;  // leading ones that are known to be the sequence's
    uint64_t last_use; // by the count of uses
};

struct draft_slots {
    struct draft_slot *items; // [n_slots]
    int32_t n_slots, context;
    uint64_t n_uses;
};

void draft_slots_open(struct draft_slots *slots, int32_t n_slots, int32_t context);
void draft_slots_close(struct draft_slots *slots);
size_t draft_slots_bytes(const struct draft_slots *slots); // of memory

// Tells that another step begins: slots that were used in an earlier one and not for long may be taken away.
void draft_slots_begin(struct draft_slots *slots);

// The slot of a sequence, or one that it could have; NULL: all are in use.
struct draft_slot *draft_slots_find(const struct draft_slots *slots, const struct draft_query *query);
// Gives it to the sequence, and keeps of its tokens what agrees, at most all but the last.
void draft_slots_take(struct draft_slots *slots, struct draft_slot *slot, const struct draft_query *query);
// Tokens of a sequence that a slot need not compute.
int32_t draft_slots_n_agreed(const struct draft_slot *slot, const struct draft_query *query);

void draft_slots_end(struct draft_slots *slots, const struct draft_query *query);
