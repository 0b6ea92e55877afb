// Where the time went: shares of wall time that sum to 1. Each rule attacks one line.
#pragma once

enum time_line {
    TIME_IDLE,           // nobody asked for anything
    TIME_HOST_GAP,       // work was there, and the device waited: planning, committing, waking
    TIME_PROMPT,         // prompt rows, computed for the first time
    TIME_RECOMPUTE,      // rows that a preemption made necessary again
    TIME_DECODE_WEIGHTS, // layers' weights of decoding rows
    TIME_DECODE_KV,      // attention of decoding rows
    TIME_HEAD,           // final norm and logits
    TIME_SAMPLING,
    TIME_REJECTED_DRAFTS, // rows that were drafted, computed and not kept, and drafting them
    TIME_PADDING,         // rows of a graph's bucket that belong to nobody
    TIME_COMMUNICATION,   // between ranks
    TIME_THROTTLED,       // taken by quota, heat or power, of what would be the lines above
    TIME_LINES
};
const char *time_line_name(enum time_line line);  // "decode_weights": JSON and metrics
const char *time_line_title(enum time_line line); // "decode: weights": for people

struct time_ledger {
    double share[TIME_LINES]; // of wall time
    double sum;               // measured on its own: 1 when nothing is forgotten or counted twice
};
