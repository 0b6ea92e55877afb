#include "tests/advisor/synthetic.h"

#include <math.h>
#include <string.h>

static const uint64_t SECOND_NS = 1000000000, TICK_NS = 100000000;

void synthetic_open(struct synthetic *s) {
    memset(s, 0, sizeof *s);
    s->origin_ns = s->now_ns = s->told_until_ns = 5 * SECOND_NS;
    s->tally = tally_open(s->origin_ns);
    s->limits = (struct tally_limits){.sequences = 8, .objective_ttft = NAN, .objective_itl = NAN};
}

void synthetic_close(struct synthetic *s) {
    tally_close(s->tally);
}

static void tell_until(struct synthetic *s, uint64_t at_ns, uint64_t idle_ns, bool rests) {
    const uint64_t before = (s->told_until_ns - s->origin_ns) / SECOND_NS;
    if ((at_ns - s->origin_ns) / SECOND_NS > before) {
        const struct advisor_sample sample = {
            .idle_ns_total = idle_ns, .n_running = rests ? 0 : 1, .n_generated_tokens_total = s->n_tokens};
        tally_close_second(s->tally, at_ns, &sample, &(struct machine_counters){.at_s = (double)at_ns * 1e-9});
    }
    size_t n = 0;
    while (n < s->n_waiting && s->waiting[n].collected_ns <= at_ns) {
        tally_step(s->tally, &s->split, &s->waiting[n++], s->n_lost, &s->limits);
        s->n_lost = 0;
    }
    memmove(s->waiting, s->waiting + n, (s->n_waiting - n) * sizeof *s->waiting);
    s->n_waiting -= n;
    s->told_until_ns = at_ns;
}

// Ticks that lie before the end of what happens now. idle: whether that is a rest, which began at idle_from.
static void tick_until(struct synthetic *s, uint64_t end_ns, bool rests, uint64_t from_ns) {
    while (s->told_until_ns + TICK_NS <= end_ns) {
        const uint64_t at = s->told_until_ns + TICK_NS;
        tell_until(s, at, s->idle_ns + (rests && at > from_ns ? at - from_ns : 0), rests);
    }
}

void synthetic_rest(struct synthetic *s, uint64_t ns) {
    tick_until(s, s->now_ns + ns, true, s->now_ns);
    s->now_ns += ns;
    s->idle_ns += ns;
    s->rest_s += (double)ns * 1e-9;
}

void synthetic_step(struct synthetic *s, const struct step_record *like, uint64_t gap_ns, uint64_t step_ns,
                    uint64_t overlap_ns) {
    struct step_record r = *like;
    if (overlap_ns > 0) gap_ns = 0;
    r.ticket = ++s->n_steps;
    r.submitted_ns = s->now_ns + gap_ns - overlap_ns;
    r.collected_ns = s->now_ns + gap_ns + step_ns;
    r.host_gap_ns = gap_ns;
    tick_until(s, r.collected_ns, false, 0);
    s->now_ns = r.collected_ns;
    s->waiting[s->n_waiting++] = r;
    s->n_tokens += (uint64_t)(r.n_rows - r.n_prompt_rows);
    s->step_s += (double)step_ns * 1e-9;
    s->gap_s += (double)gap_ns * 1e-9;
}

void synthetic_lose(struct synthetic *s, size_t n) {
    if (n > s->n_waiting) n = s->n_waiting;
    memmove(s->waiting, s->waiting + n, (s->n_waiting - n) * sizeof *s->waiting);
    s->n_waiting -= n;
    s->n_lost += n;
}

void synthetic_tell(struct synthetic *s) {
    tick_until(s, s->now_ns, true, s->now_ns);
    tell_until(s, s->now_ns, s->idle_ns, false);
}
