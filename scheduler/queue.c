#include "scheduler/queue.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>

void queue_close(struct queue *queue) {
    vec_free(queue);
}

// The key with waiting sequences that got least; NULL when nobody waits.
static struct queue_key *least_served(const struct queue *queue) {
    struct queue_key *least = NULL;
    for (size_t i = 0; i < queue->count; i++) {
        struct queue_key *key = &queue->items[i];
        if (key->n_queued && (!least || key->served < least->served)) least = key;
    }
    return least;
}

// What a key that comes back is lifted to at least.
static uint64_t served_floor(const struct queue *queue) {
    const struct queue_key *least = least_served(queue);
    return least ? least->served : queue->served_max;
}

int32_t queue_enter(struct queue *queue, uint64_t key_id) {
    // A key without requests and without debt behaves as one that was never seen: its place may be taken.
    uint64_t floor = served_floor(queue);
    size_t at = queue->count;
    for (size_t i = 0; i < queue->count; i++) {
        const struct queue_key *key = &queue->items[i];
        if (key->id == key_id) {
            at = i;
            break;
        }
        if (key->n_requests == 0 && key->served <= floor) at = i;
    }
    if (at == queue->count) vec_push(queue, ((struct queue_key){.id = key_id}));
    struct queue_key *key = &queue->items[at];
    if (key->id != key_id) *key = (struct queue_key){.id = key_id};
    key->n_requests++;
    return (int32_t)at;
}

static struct queue_key *key_at(struct queue *queue, int32_t key_index) {
    assert(key_index >= 0 && (size_t)key_index < queue->count);
    struct queue_key *key = &queue->items[key_index];
    assert(key->n_requests > 0);
    return key;
}

void queue_leave(struct queue *queue, int32_t key_index) {
    struct queue_key *key = key_at(queue, key_index);
    assert(key->n_requests > 1 || key->n_queued == 0);
    key->n_requests--;
}

// Lifts a key whose queue was empty and counts the sequence that comes.
static struct queue_key *key_for_insert(struct queue *queue, struct sequence *sequence) {
    struct queue_key *key = key_at(queue, sequence->request->key_index);
    assert(sequence->state == SEQUENCE_HELD);
    if (key->n_queued == 0) {
        uint64_t floor = served_floor(queue);
        if (key->served < floor) key->served = floor;
    }
    sequence->state = SEQUENCE_QUEUED;
    key->n_queued++;
    queue->n_queued++;
    return key;
}

void queue_append(struct queue *queue, struct sequence *sequence) {
    struct queue_key *key = key_for_insert(queue, sequence);
    sequence->previous = key->last;
    sequence->next = NULL;
    if (key->last)
        key->last->next = sequence;
    else
        key->first = sequence;
    key->last = sequence;
}

void queue_prepend(struct queue *queue, struct sequence *sequence) {
    struct queue_key *key = key_for_insert(queue, sequence);
    sequence->previous = NULL;
    sequence->next = key->first;
    if (key->first)
        key->first->previous = sequence;
    else
        key->last = sequence;
    key->first = sequence;
}

void queue_remove(struct queue *queue, struct sequence *sequence) {
    struct queue_key *key = key_at(queue, sequence->request->key_index);
    assert(sequence->state == SEQUENCE_QUEUED);
    if (sequence->previous)
        sequence->previous->next = sequence->next;
    else
        key->first = sequence->next;
    if (sequence->next)
        sequence->next->previous = sequence->previous;
    else
        key->last = sequence->previous;
    sequence->next = sequence->previous = NULL;
    queue->n_queued--;
    key->n_queued--;
}

struct sequence *queue_first(const struct queue *queue) {
    const struct queue_key *key = least_served(queue);
    return key ? key->first : NULL;
}

void queue_charge(struct queue *queue, int32_t key_index, int64_t cost) {
    assert(cost >= 0);
    struct queue_key *key = key_at(queue, key_index);
    key->served += (uint64_t)cost;
    if (key->served > queue->served_max) queue->served_max = key->served;
}

void queue_check_integrity(const struct queue *queue) {
    int32_t total = 0;
    for (size_t i = 0; i < queue->count; i++) {
        const struct queue_key *key = &queue->items[i];
        const struct sequence *previous = NULL;
        int32_t n = 0;
        for (const struct sequence *s = key->first; s; previous = s, s = s->next) {
            assert(s->state == SEQUENCE_QUEUED && s->previous == previous);
            assert((size_t)s->request->key_index == i && s->request->generation.key_id == key->id);
            n++;
        }
        assert(key->last == previous && n == key->n_queued && (n == 0 || key->n_requests > 0));
        total += n;
    }
    assert(total == queue->n_queued);
}
