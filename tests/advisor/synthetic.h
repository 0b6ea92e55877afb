// A server that does not run: steps, gaps and rests at moments that a test decides, told to a tally as the advisor's
// thread would.
#pragma once

#include "advisor/tally.h"
#include "base/rng.h"

struct synthetic {
    struct tally *tally;
    struct time_split split;
    struct tally_limits limits;
    uint64_t origin_ns, now_ns; // now: the end of what has happened
    uint64_t idle_ns, told_until_ns;
    uint64_t n_steps, n_lost, n_tokens;
    struct step_record waiting[4096]; // collected, not yet told
    size_t n_waiting;
    // What is true, in seconds.
    double step_s, gap_s, rest_s;
};

void synthetic_open(struct synthetic *s);
void synthetic_close(struct synthetic *s);

// Rests without work.
void synthetic_rest(struct synthetic *s, uint64_t ns);
// A gap, and then a step of this length; `like` says the rest of the record. overlap_ns: how long before the step
// before was collected this one was submitted (then there is no gap).
void synthetic_step(struct synthetic *s, const struct step_record *like, uint64_t gap_ns, uint64_t step_ns,
                    uint64_t overlap_ns);
// The ring forgets the oldest n records that were not told.
void synthetic_lose(struct synthetic *s, size_t n);
// Tells everything that is not told yet. Done often enough by the others, ten times a second.
void synthetic_tell(struct synthetic *s);
