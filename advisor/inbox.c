#include "advisor/inbox.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct inbox {
    pthread_mutex_t mutex; // guards `open`, which note functions fill
    struct notes *open, *taken;
    struct notes pages[2];
};

struct inbox *inbox_open(void) {
    struct inbox *inbox = mem_alloc_zero(1, sizeof *inbox);
    pthread_mutex_init(&inbox->mutex, NULL);
    inbox->open = &inbox->pages[0];
    inbox->taken = &inbox->pages[1];
    return inbox;
}

void inbox_close(struct inbox *inbox) {
    pthread_mutex_destroy(&inbox->mutex);
    free(inbox);
}

void inbox_note_request(struct inbox *inbox, const struct request_trace *trace) {
    pthread_mutex_lock(&inbox->mutex);
    struct notes *notes = inbox->open;
    if (notes->n_requests < NOTES_REQUESTS)
        notes->requests[notes->n_requests++] = *trace;
    else
        notes->n_requests_lost++;
    pthread_mutex_unlock(&inbox->mutex);
}

void inbox_note_gap(struct inbox *inbox, uint64_t gap_ns, bool with_prompt, int32_t n_tokens) {
    const int bucket = sketch_bucket(gap_ns);
    pthread_mutex_lock(&inbox->mutex);
    struct notes *notes = inbox->open;
    notes->gaps[with_prompt][bucket]++;
    notes->n_gap_tokens += n_tokens;
    if (notes->n_gaps < NOTES_LATENCIES) notes->gap_s[notes->n_gaps++] = (float)gap_ns * 1e-9f;
    pthread_mutex_unlock(&inbox->mutex);
}

const struct notes *inbox_take(struct inbox *inbox) {
    struct notes *empty = inbox->taken;
    memset(empty->gaps, 0, sizeof empty->gaps);
    empty->n_gap_tokens = 0;
    empty->n_requests = empty->n_gaps = 0;
    empty->n_requests_lost = 0;
    pthread_mutex_lock(&inbox->mutex);
    inbox->taken = inbox->open;
    inbox->open = empty;
    pthread_mutex_unlock(&inbox->mutex);
    return inbox->taken;
}
