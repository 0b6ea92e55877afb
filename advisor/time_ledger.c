#include "advisor/time_ledger.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name, *title;
} lines[TIME_LINES] = {
    [TIME_IDLE] = {"idle", "idle: no work"},
    [TIME_HOST_GAP] = {"host_gap", "host gap"},
    [TIME_PROMPT] = {"prompt", "prompts"},
    [TIME_RECOMPUTE] = {"recompute", "prompts: recomputed"},
    [TIME_DECODE_WEIGHTS] = {"decode_weights", "decode: weights"},
    [TIME_DECODE_KV] = {"decode_kv", "decode: KV cache"},
    [TIME_HEAD] = {"head", "head and logits"},
    [TIME_SAMPLING] = {"sampling", "sampling"},
    [TIME_REJECTED_DRAFTS] = {"rejected_drafts", "rejected drafts"},
    [TIME_PADDING] = {"padding", "padding"},
    [TIME_COMMUNICATION] = {"communication", "communication"},
    [TIME_THROTTLED] = {"throttled", "throttled"},
};

const char *time_line_name(enum time_line line) {
    return lines[line].name;
}

const char *time_line_title(enum time_line line) {
    return lines[line].title;
}

// Where no peak was measured, a machine that does this many operations while it reads a byte.
static const double USUAL_READ = 50e9, USUAL_FLOPS = 1e12;
static const double LEARN_RATE = 0.02;

enum step_kind step_kind_of(const struct step_record *r) {
    if (r->n_prompt_rows <= 0) return STEP_DECODES;
    return r->n_prompt_rows < r->n_rows ? STEP_DOES_BOTH : STEP_READS_PROMPTS;
}

// ------------------------------------------------------------------------------------------------- groups of
// operations

static enum op_group group_of(enum op_kind kind) {
    if (kind == OP_ATTENTION) return GROUP_ATTENTION;
    if (kind == OP_HEAD) return GROUP_HEAD;
    return kind == OP_SAMPLE ? GROUP_SAMPLING : GROUP_LINEAR;
}

// Shares of the operations' time. False: this step was not sampled.
static bool sampled_shares(const struct step_record *r, double share[OP_GROUPS]) {
    double sum = 0;
    memset(share, 0, OP_GROUPS * sizeof *share);
    for (int kind = 0; kind < OP_KINDS; kind++) {
        share[group_of((enum op_kind)kind)] += (double)r->times.op_ns[kind];
        sum += (double)r->times.op_ns[kind];
    }
    for (int g = 0; g < OP_GROUPS; g++) share[g] /= sum > 0 ? sum : 1;
    return sum > 0;
}

struct physics {
    double read, flops; // peaks
};

static double longer(struct physics p, double bytes, double flops) {
    return fmax(bytes / p.read, flops / p.flops);
}

static void physical_shares(struct physics p, const struct step_record *r, double share[OP_GROUPS]) {
    share[GROUP_LINEAR] = longer(p, r->weight_bytes, r->linear_flops);
    share[GROUP_ATTENTION] = longer(p, r->kv_bytes, r->attention_flops);
    share[GROUP_HEAD] = longer(p, r->head_bytes, r->head_flops);
    share[GROUP_SAMPLING] = 0;
    const double sum = share[GROUP_LINEAR] + share[GROUP_ATTENTION] + share[GROUP_HEAD];
    if (!(sum > 0)) share[GROUP_LINEAR] = 1; // a step that says nothing of itself
    for (int g = 0; g < OP_GROUPS && sum > 0; g++) share[g] /= sum;
}

static void find_shares(struct time_split *split, struct physics p, const struct step_record *r,
                        double share[OP_GROUPS]) {
    const enum step_kind kind = step_kind_of(r);
    double *typical = split->group_share[kind];
    if (sampled_shares(r, share)) {
        for (int g = 0; g < OP_GROUPS; g++)
            typical[g] = split->is_known[kind] ? typical[g] + LEARN_RATE * (share[g] - typical[g]) : share[g];
        split->is_known[kind] = true;
    } else if (split->is_known[kind]) {
        memcpy(share, typical, OP_GROUPS * sizeof *share);
    } else {
        physical_shares(p, r, share);
    }
}

// ----------------------------------------------------------------------------------------------------------- lines

// The part of a time of reading `bytes` and computing `flops` that `extra` of these operations add.
static double added(struct physics p, double bytes, double flops, double extra) {
    const double all = bytes / p.read + flops / p.flops;
    return all > 0 ? fmin(fmax(extra, 0) / p.flops / all, 1) : 0;
}

static double part(double of, double all) {
    return all > 0 ? fmin(fmax(of / all, 0), 1) : 0;
}

// How much of a time that decoding rows and prompt rows share is the decoding ones', by what each would take alone.
struct alone {
    double decode, prompt;
};
static double decode_share(struct alone alone, double decode_rows, double prompt_rows) {
    if (prompt_rows <= 0) return 1;
    const double sum = alone.decode + alone.prompt;
    return decode_rows <= 0 ? 0 : sum > 0 ? part(alone.decode, sum) : part(decode_rows, decode_rows + prompt_rows);
}

// Decoding rows' time: rejected drafts take what they add.
static void put_decode(double seconds[TIME_LINES], enum time_line line, double time, double rejected) {
    seconds[TIME_REJECTED_DRAFTS] += time * rejected;
    seconds[line] += time * (1 - rejected);
}

static void put_prompt(double seconds[TIME_LINES], double time, double recomputed) {
    seconds[TIME_RECOMPUTE] += time * recomputed;
    seconds[TIME_PROMPT] += time * (1 - recomputed);
}

static void split_operations(struct time_split *split, const struct step_record *r, double time,
                             double seconds[TIME_LINES]) {
    const struct physics p = {split->read_bytes_per_s > 0 ? split->read_bytes_per_s : USUAL_READ,
                              split->flops_per_s > 0 ? split->flops_per_s : USUAL_FLOPS};
    double share[OP_GROUPS];
    find_shares(split, p, r, share);
    const double prompt_rows = r->n_prompt_rows, decode_rows = r->n_rows - r->n_prompt_rows;
    const double row_flops = r->n_rows > 0 ? r->linear_flops / r->n_rows : 0;
    const double rejected = r->n_draft_rows > r->n_accepted ? r->n_draft_rows - r->n_accepted : 0;
    const double recomputed = part(r->n_recomputed_rows, prompt_rows);

    const double padding =
        time * share[GROUP_LINEAR] *
        added(p, r->weight_bytes, r->linear_flops + r->n_padding_rows * row_flops, r->n_padding_rows * row_flops);
    const double linear = time * share[GROUP_LINEAR] - padding;
    const struct alone alone = {longer(p, r->weight_bytes, decode_rows * row_flops),
                                longer(p, r->weight_bytes, prompt_rows * row_flops)};
    const double decode = decode_share(alone, decode_rows, prompt_rows);
    seconds[TIME_PADDING] += padding;
    put_decode(seconds, TIME_DECODE_WEIGHTS, linear * decode,
               added(p, r->weight_bytes, decode_rows * row_flops, rejected * row_flops));
    put_prompt(seconds, linear * (1 - decode), recomputed);

    const double attention = time * share[GROUP_ATTENTION], flops = r->attention_flops_decode;
    const struct alone reading = {longer(p, r->kv_bytes_decode, flops),
                                  longer(p, r->kv_bytes - r->kv_bytes_decode, r->attention_flops - flops)};
    const double decode_attention = decode_share(reading, decode_rows, prompt_rows);
    put_decode(seconds, TIME_DECODE_KV, attention * decode_attention,
               added(p, r->kv_bytes_decode, flops, flops * part(rejected, decode_rows)));
    put_prompt(seconds, attention * (1 - decode_attention), recomputed);

    put_decode(seconds, TIME_HEAD, time * share[GROUP_HEAD],
               added(p, r->head_bytes, r->head_flops, r->head_flops * part(rejected, r->n_logit_rows)));
    put_decode(seconds, TIME_SAMPLING, time * share[GROUP_SAMPLING], part(rejected, r->n_logit_rows));
}

void time_split_step(struct time_split *split, const struct step_record *r, double step_s, double seconds[TIME_LINES]) {
    const double gap = (double)r->host_gap_ns * 1e-9, device = (double)r->times.total_ns * 1e-9;
    const double computing = device > 0 ? fmin(device, step_s) : step_s;
    const double drafting = fmin((double)r->draft_ns * 1e-9, gap);
    const double useless = r->n_draft_rows > 0 ? part(r->n_draft_rows - r->n_accepted, r->n_draft_rows) : 1;
    seconds[TIME_REJECTED_DRAFTS] += drafting * useless;
    seconds[TIME_HOST_GAP] += gap - drafting * useless + step_s - computing;
    split_operations(split, r, computing, seconds);
}

void time_ledger_make(struct time_ledger *out, const double seconds[TIME_LINES], double wall_s, double throttled) {
    double sum = 0, steps = 0;
    for (int line = 0; line < TIME_LINES; line++) {
        out->share[line] = seconds[line] / wall_s;
        sum += out->share[line];
        if (line != TIME_IDLE && line != TIME_HOST_GAP) steps += out->share[line];
    }
    out->sum = sum;
    if (!(throttled > 0) || !(steps > 0)) return;
    const double taken = fmin(throttled, steps);
    for (int line = 0; line < TIME_LINES; line++)
        if (line != TIME_IDLE && line != TIME_HOST_GAP) out->share[line] *= 1 - taken / steps;
    out->share[TIME_THROTTLED] += taken;
}
