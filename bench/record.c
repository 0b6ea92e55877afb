#include "bench/record.h"

#include <stdlib.h>
#include <string.h>

const char *outcome_name(enum outcome outcome) {
    static const char *const names[] = {
#define X(name, text) text,
        OUTCOMES_OF(X)
#undef X
    };
    return names[outcome];
}

void run_record_close(struct run_record *run) {
    vec_free(&run->requests);
    vec_free(&run->gaps);
}

static void shift(uint64_t *at_ns, uint64_t by_ns) {
    if (*at_ns) *at_ns += by_ns;
}

void run_record_append(struct run_record *to, const struct run_record *from) {
    const uint64_t by = to->duration_ns;
    const uint32_t gap_first = (uint32_t)to->gaps.count;
    if (!to->began_wall_s) to->began_wall_s = from->began_wall_s;
    for (size_t i = 0; i < from->gaps.count; i++) vec_push(&to->gaps, from->gaps.items[i]);
    for (size_t i = 0; i < from->requests.count; i++) {
        struct request_record r = from->requests.items[i];
        r.scheduled_ns += by, r.started_ns += by, r.ended_ns += by; // 0 is a time of these
        shift(&r.sent_ns, by), shift(&r.first_ns, by), shift(&r.last_ns, by);
        r.gap_first += gap_first;
        vec_push(&to->requests, r);
    }
    for (int o = 0; o < OUTCOMES; o++)
        if (!to->examples[o][0]) memcpy(to->examples[o], from->examples[o], EXAMPLE_BYTES);
    to->offered_ns = by + from->offered_ns;
    to->duration_ns += from->duration_ns;
    to->client_cpu_ns += from->client_cpu_ns;
    to->interrupted |= from->interrupted;
}
