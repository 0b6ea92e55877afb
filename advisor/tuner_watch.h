// The last minute of a server, as experiments need it: is it steady enough to compare anything, and what is it like
// before? Fixed memory. Thread: one at a time.
#pragma once

#include "advisor/advisor.h"
#include "advisor/experiment.h"
#include "engine/step_record.h"

enum { WATCH_SECONDS = 60, WATCH_GAPS = 4096, WATCH_REQUESTS = 512, WATCH_KEPT = 256 };

struct watch_second {
    double output, concurrency, kv_occupancy;
    int64_t n_steps, n_errors, n_ended, n_prompt_tokens, n_answer_tokens;
    int32_t n_gaps, n_ttft, n_e2e; // kept of them
    float gaps[WATCH_KEPT], ttft[WATCH_KEPT / 4], e2e[WATCH_KEPT / 4];
    bool throttled;
};

struct watch {
    int64_t n_seconds; // ever
    struct watch_second seconds[WATCH_SECONDS];
    // Of the second that runs.
    int64_t n_steps, n_ended, n_prompt_tokens, n_answer_tokens;
    int32_t n_gaps, n_ttft, n_e2e;
    float gaps[WATCH_GAPS], ttft[WATCH_REQUESTS], e2e[WATCH_REQUESTS];
    // Of all steps, forgotten with a half-life of half a minute: without and with prompt rows.
    double step_s[2], decode_rows[2], prompt_rows[2];
    uint64_t last_collected_ns;
    bool has_sample;
    struct advisor_sample last;
    double last_at_s;
};

void watch_steps(struct watch *watch, const struct step_record *records, size_t n);
void watch_requests(struct watch *watch, const struct request_trace *traces, size_t n);
void watch_gaps(struct watch *watch, const float *seconds, size_t n);

// Ends the second; *out is valid until the next note. False: the first one, which only begins the count.
bool watch_end_second(struct watch *watch, double at_s, const struct advisor_sample *sample, int32_t n_blocks,
                      bool throttled, struct experiment_sample *out);

// What is seen from now on counts, not what was before: the server is not as it was.
void watch_restart(struct watch *watch);

// ERR_INVALID: why nothing can be compared now.
int watch_check(const struct watch *watch, struct err *err) __attribute__((warn_unused_result));
void watch_before(const struct watch *watch, struct experiment_before *out); // objectives are left to the caller

// Mean tokens of prompt and answer of requests that ended: what the work is like. NAN: none ended.
struct watch_mix {
    double prompt, answer;
};
struct watch_mix watch_mix(const struct watch *watch);
