// Sequences that wait for their first row, fair between keys.
//
// Each key has a queue of its own and a counter of the service that it got, in tokens (virtual token counters,
// "Fairness in Serving Large Language Models", Sheng et al., OSDI 2024). The key with the smallest counter is served
// next. A key that comes back after a pause starts at least at the smallest counter of those who wait, so that nobody
// saves up a claim; when nobody waits all start equal, because service that nobody waited for is no debt.
// Thread: the step thread.
#pragma once

#include "scheduler/sequence.h"
#include <stdbool.h>
#include <stdint.h>

// What one token costs: a drawn one occupies a step, prompt tokens share one.
enum { QUEUE_COST_PROMPT = 1, QUEUE_COST_DRAWN = 2 };

struct queue_key {
    uint64_t id;
    uint64_t served;    // cost of the service so far
    int32_t n_requests; // living ones
    int32_t n_queued;   // sequences
    struct sequence *first, *last;
};

struct queue {
    struct queue_key *items;
    size_t count, capacity;
    int32_t n_queued;    // of all keys
    uint64_t served_max; // largest counter of all
};

void queue_close(struct queue *queue);

// The index of a key, which stays valid until as many calls of queue_leave with it.
int32_t queue_enter(struct queue *queue, uint64_t key_id);
void queue_leave(struct queue *queue, int32_t key_index);

void queue_append(struct queue *queue, struct sequence *sequence);
void queue_prepend(struct queue *queue, struct sequence *sequence); // before all others of its key
void queue_remove(struct queue *queue, struct sequence *sequence);

// The sequence to be served next; NULL when nobody waits.
struct sequence *queue_first(const struct queue *queue);

void queue_charge(struct queue *queue, int32_t key_index, int64_t cost);

// Asserts that links and sums agree and that every sequence in the queue is SEQUENCE_QUEUED.
void queue_check_integrity(const struct queue *queue);
