// A server that answers at known times and in known ways, for the load client's tests and benchmark. One thread.
#pragma once

#include <stdint.h>

enum stub_fault {
    STUB_FINE,
    STUB_RESETS,       // closes once it has read the request
    STUB_RESETS_LATER, // in mid-answer
    STUB_BAD_SSE,      // an event that is no JSON
    STUB_BAD_HTTP,     // no HTTP at all
    STUB_NEVER_ENDS,   // sends its events and then nothing
    STUB_SILENT,       // reads and says nothing
    STUB_ERROR_IN_200, // {"error": ...} with status 200
    STUB_ERROR_EVENT,  // an error in the middle of a stream
    STUB_REFUSES,      // 429 with a body
    STUB_NO_END,       // a stream that just ends
    STUB_CLOSES_IDLE,  // answers well, says keep-alive, and closes all the same
};

struct stub_options {
    enum stub_fault fault;
    uint64_t first_ns, gap_ns;   // from the request to the first event, and between events; 0: at once
    int n_events;                // of a stream
    int tokens_per_event;        // as usage tells
    int words_per_token_percent; // prompt tokens = words * 100 / this + 7; 0: no usage at all
    // Nothing is read or written in the first `stall_ns` of every `stall_every_ns`; 0: never.
    uint64_t stall_every_ns, stall_ns;
};

struct stub;
struct stub *stub_open(const struct stub_options *options); // aborts on failure
int stub_port(const struct stub *stub);
uint64_t stub_started_ns(const struct stub *stub); // clock_now_ns() at which the stalls are counted from
void stub_close(struct stub *stub);
