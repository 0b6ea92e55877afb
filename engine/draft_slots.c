#include "engine/draft_slots.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

enum { IDLE_USES = 64 }; // a sequence that wanted no drafts for so many steps may lose its slot

void draft_slots_open(struct draft_slots *slots, int32_t n_slots, int32_t context) {
    *slots = (struct draft_slots){.n_slots = n_slots, .context = context};
    slots->items = mem_alloc_zero((size_t)n_slots, sizeof *slots->items);
    for (int32_t i = 0; i < n_slots; i++)
        slots->items[i].tokens = mem_alloc_zero((size_t)context, sizeof *slots->items[i].tokens);
}

void draft_slots_close(struct draft_slots *slots) {
    for (int32_t i = 0; i < slots->n_slots; i++) free(slots->items[i].tokens);
    free(slots->items);
}

size_t draft_slots_bytes(const struct draft_slots *slots) {
    return (size_t)slots->n_slots * (sizeof *slots->items + (size_t)slots->context * sizeof(int32_t));
}

void draft_slots_begin(struct draft_slots *slots) {
    slots->n_uses++;
}

static bool is_of(const struct draft_slot *slot, const struct draft_query *query) {
    return slot->living && slot->id == query->id && slot->choice == query->choice;
}

int32_t draft_slots_n_agreed(const struct draft_slot *slot, const struct draft_query *query) {
    int32_t n_max = draft_query_n_known(query) - 1; // the last token draws, and must be computed
    bool same = is_of(slot, query), shares = slot->owner == query->owner && slot->salt == query->salt;
    int32_t n = same ? slot->n_agreed : 0;
    if (!same && !shares) return 0;
    if (n > n_max) n = n_max;
    while (n < n_max && n < slot->n_tokens && slot->tokens[n] == draft_query_token(query, n)) n++;
    return n;
}

struct draft_slot *draft_slots_find(const struct draft_slots *slots, const struct draft_query *query) {
    struct draft_slot *best = NULL;
    int32_t best_agreed = -1;
    if (draft_query_n_known(query) + DRAFTS_MAX > slots->context) return NULL;
    for (int32_t i = 0; i < slots->n_slots; i++) {
        struct draft_slot *slot = &slots->items[i];
        if (is_of(slot, query)) return slot;
        if (slot->living && slots->n_uses - slot->last_use < IDLE_USES) continue;
        int32_t n_agreed = draft_slots_n_agreed(slot, query);
        if (best && (n_agreed < best_agreed || (n_agreed == best_agreed && slot->last_use >= best->last_use))) continue;
        best = slot;
        best_agreed = n_agreed;
    }
    return best;
}

void draft_slots_take(struct draft_slots *slots, struct draft_slot *slot, const struct draft_query *query) {
    int32_t n_agreed = draft_slots_n_agreed(slot, query);
    slot->id = query->id;
    slot->choice = query->choice;
    slot->owner = query->owner;
    slot->salt = query->salt;
    slot->living = true;
    slot->last_use = slots->n_uses;
    slot->n_tokens = slot->n_agreed = n_agreed;
}

void draft_slots_end(struct draft_slots *slots, const struct draft_query *query) {
    for (int32_t i = 0; i < slots->n_slots; i++)
        if (is_of(&slots->items[i], query)) slots->items[i].living = false;
}
