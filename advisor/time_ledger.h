// Where the time went: shares of wall time that sum to 1. Each rule attacks one line.
//
// A step's time goes to its lines by the times of its operations where it was sampled, by those of steps like it where
// it was not. Rows that share one reading of the weights share its time as they would need it alone; rows for nobody,
// or drafts that were not kept, take only what they add.
#pragma once

#include "engine/step_record.h"
#include <stdbool.h>

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

// Kinds of steps that are alike in how their time divides, and groups of operations.
enum step_kind { STEP_DECODES, STEP_READS_PROMPTS, STEP_DOES_BOTH, STEP_KINDS };
enum op_group { GROUP_LINEAR, GROUP_ATTENTION, GROUP_HEAD, GROUP_SAMPLING, OP_GROUPS };
enum step_kind step_kind_of(const struct step_record *record);

// How steps' time divides, learned from those that were sampled.
struct time_split {
    double read_bytes_per_s, flops_per_s; // measured peaks; 0: not known, and what most machines have serves
    double group_share[STEP_KINDS][OP_GROUPS];
    bool is_known[STEP_KINDS];
};

// Adds the lines of one step to seconds[TIME_LINES]: of step_s, the time in which it was the oldest on the device, and
// of its host gap. Whatever the record says, step_s and the gap are divided without rest.
void time_split_step(struct time_split *split, const struct step_record *record, double step_s,
                     double seconds[TIME_LINES]);

// The ledger of a window of wall_s seconds (> 0) from the seconds of its lines, TIME_IDLE included. throttled: share of
// wall time in which the group or device was held back; it is taken from what steps took.
void time_ledger_make(struct time_ledger *out, const double seconds[TIME_LINES], double wall_s, double throttled);
