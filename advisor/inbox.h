// What the server's threads tell the advisor, until its own thread takes it: a lock, held for some nanoseconds, and
// fixed memory. What does not fit is counted.
#pragma once

#include "advisor/advisor.h"
#include "advisor/sketch.h"

enum { NOTES_REQUESTS = 2048, NOTES_LATENCIES = 4096 };

struct notes {
    uint32_t gaps[2][SKETCH_BUCKETS]; // of steps without and with prompt rows
    double n_gap_tokens;
    int32_t n_requests, n_gaps; // n_gaps: of gap_s, the first ones
    uint64_t n_requests_lost;
    struct request_trace requests[NOTES_REQUESTS];
    float gap_s[NOTES_LATENCIES];
};

struct inbox;
struct inbox *inbox_open(void); // never NULL
void inbox_close(struct inbox *inbox);

// Any thread.
void inbox_note_request(struct inbox *inbox, const struct request_trace *trace);
void inbox_note_gap(struct inbox *inbox, uint64_t gap_ns, bool with_prompt, int32_t n_tokens);

// All notes since the last call; valid until the next. One thread.
const struct notes *inbox_take(struct inbox *inbox);
