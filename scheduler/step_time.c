#include "scheduler/step_time.h"

enum { LEARNED_ROWS_MIN = 16, PROMPT_ROWS_MIN = 32, PROMPT_ROWS_UNKNOWN = 64 };
static const double STEP_NS = 250e6;
static const double PROMPT_SHARE_MAX = 2; // of the time that decoding takes

void step_time_learn(struct step_time *time, const struct step_record *record, uint64_t duration_ns) {
    double ns = (double)duration_ns;
    if (record->n_prompt_rows == 0) duration_smooth(&time->decode_ns, ns);
    // A few rows drown in the noise of the step around them.
    if (record->n_prompt_rows < LEARNED_ROWS_MIN) return;
    double extra_ns = ns > time->decode_ns ? ns - time->decode_ns : 1;
    duration_smooth(&time->prompt_row_ns, extra_ns / record->n_prompt_rows);
}

int32_t step_time_prompt_rows(const struct step_time *time, int32_t rows_max) {
    if (time->prompt_row_ns <= 0) return rows_max < PROMPT_ROWS_UNKNOWN ? rows_max : PROMPT_ROWS_UNKNOWN;
    double allowed_ns = STEP_NS - time->decode_ns, share_ns = PROMPT_SHARE_MAX * time->decode_ns;
    if (allowed_ns < share_ns) allowed_ns = share_ns;
    if (allowed_ns >= time->prompt_row_ns * rows_max) return rows_max;
    int32_t n_rows = (int32_t)(allowed_ns / time->prompt_row_ns);
    if (n_rows < PROMPT_ROWS_MIN) n_rows = PROMPT_ROWS_MIN;
    return n_rows < rows_max ? n_rows : rows_max;
}
