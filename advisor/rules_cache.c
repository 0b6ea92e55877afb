// Rules about the KV cache and the prefixes that it keeps.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

static const double gib = 1073741824.0;

// Memory that the cache may still take.
static double spare_bytes(const struct evidence *e) {
    double spare = e->cache.free_memory_bytes - threshold_free_bytes;
    return spare > 0 ? spare : 0;
}

static double gib_rounded_up(double bytes) {
    double value = bytes / gib, step = value >= 4 ? 0.5 : value >= 0.5 ? 0.125 : 0.0078125;
    return ceil(value / step) * step;
}

static bool kv_is_full(const struct evidence *e) {
    return e->cache.occupancy >= threshold_kv_occupancy && rule_somebody_waits(e) &&
           !(e->load.full_share >= threshold_full_share);
}

// --------------------------------------------------------------------------------------------------- R4: exhausted

// Sequences that would run if there were blocks for them.
static double sequences_wanted(const struct evidence *e) {
    double cap = e->setup.knobs.knob[KNOB_SEQUENCES].value > 0 ? (double)e->setup.knobs.knob[KNOB_SEQUENCES].value
                                                               : (double)e->setup.sequences_max;
    return fmin(cap, ceil(e->load.running_mean + e->load.waiting_mean));
}

static void free_memory(struct finding *f, const struct evidence *e, double bytes) {
    RULE_SAY(f->action, "Give the KV cache %s instead of %s.", words_bytes(bytes).text,
             words_bytes(rule_kv_bytes(e)).text);
    rule_risk(f, "%s of the machine's free memory are taken.", words_bytes(bytes - rule_kv_bytes(e)).text);
    rule_set_flag(f, e, "--kv-gib %.10g", gib_rounded_up(bytes));
}

static const char *narrow_kv(const struct evidence *e) {
    return e->setup.is_gpu ? "fp8" : "int8";
}

static void narrow_format(struct finding *f, const struct evidence *e) {
    const char *format = narrow_kv(e);
    RULE_SAY(f->action, "There is no memory for a larger cache: keep it in %s, which takes %s of the bytes.", format,
             words_percent(rule_kv_ratio(e, format)).text);
    rule_set_flag(f, e, "--kv-format %s", format);
    rule_quality_gate(f, e, f->flag);
}

static void fewer_sequences(struct finding *f, const struct evidence *e) {
    double sequences = fmax(1, floor(rule_kv_sequences(e)));
    RULE_SAY(f->action, "There is no memory for a larger cache: run only the %.0f sequences that fit to their end.",
             sequences);
    rule_set_knob(f, e, KNOB_SEQUENCES, sequences);
}

// What to do, and by how many times it makes room.
static double make_room(struct finding *f, const struct evidence *e, double wanted) {
    double now = rule_kv_bytes(e), need = now * fmax(1.1, 1.1 * wanted / rule_kv_sequences(e));
    double room = fmin(need, now + spare_bytes(e));
    double narrow = 1 / rule_kv_ratio(e, narrow_kv(e));
    if (room >= (1 + threshold_free_share) * now) {
        free_memory(f, e, room);
        return room / now;
    }
    if (narrow > 1 + threshold_free_share) {
        narrow_format(f, e);
        return narrow;
    }
    fewer_sequences(f, e);
    return 1;
}

enum verdict_of_rule rule_kv_exhausted(const struct evidence *e, struct rule_result *r) {
    const struct cache_figures *cache = &e->cache;
    if (!RULE_KNOWN(cache->recomputed_tokens, cache->useful_tokens, cache->occupancy, e->load.queue_share,
                    e->load.running_mean, e->load.waiting_mean, e->load.output_rate, cache->free_memory_bytes,
                    rule_kv_bytes(e), rule_kv_sequences(e)) ||
        cache->useful_tokens <= 0 || rule_kv_sequences(e) <= 0 || e->load.running_mean <= 0)
        return RULE_UNKNOWN;
    double again = cache->recomputed_tokens / cache->useful_tokens;
    if (!rule_above(r, again, threshold_recompute_share) && !kv_is_full(e))
        return rule_healthy(r, "recomputed tokens %s (fires above %s); cache %s full", words_percent(again).text,
                            words_percent(threshold_recompute_share).text, words_percent(cache->occupancy).text);
    double lost = rule_busy_share(e, TIME_RECOMPUTE), wanted = sequences_wanted(e);
    struct finding *f = rule_finds(r, BOTTLENECK_KV, TIME_RECOMPUTE, fmax(lost, fmin(1, e->load.queue_share)));
    if (again > threshold_recompute_share * r->slack)
        RULE_SAY(f->diagnosis,
                 "The KV cache runs full: %s of the tokens were computed twice, because sequences had to "
                 "give up their blocks.",
                 words_percent(again).text);
    else
        RULE_SAY(f->diagnosis, "The KV cache is %s full: %s sequences run, %s wait for blocks.",
                 words_percent(cache->occupancy).text, words_number(e->load.running_mean).text,
                 words_number(e->load.waiting_mean).text);
    rule_fact(f, "kv_occupancy", "share", fmin(1, cache->occupancy), FIGURE_MEASURED);
    rule_fact(f, "recomputed_per_useful_token", "tokens", again, FIGURE_MEASURED);
    rule_fact(f, "preemptions", "", (double)cache->n_preemptions, FIGURE_MEASURED);
    rule_fact(f, "waiting_mean", "sequences", e->load.waiting_mean, FIGURE_MEASURED);
    rule_fact(f, "sequences_that_fit", "sequences", rule_kv_sequences(e), FIGURE_MODELLED);
    double room = make_room(f, e, wanted), without = 1 / (1 - lost);
    struct decode_point at = rule_decode_now(e);
    at.rows *= fmax(1, fmin(fmin(room, threshold_extrapolation), wanted / e->load.running_mean));
    struct range gain = rule_decode_gain(e, &at);
    if (gain.high > 1)
        rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){without, without * gain.high},
                    without * fmax(1, rule_decode_gain_cap(e, &at)),
                    "at least the time of recomputing goes; at best %s rows decode at once, by the fitted step model",
                    words_number(at.rows).text);
    else
        rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, without}, without,
                    "1 / (1 - share of recomputing) at best; what more rows would bring is not known");
    rule_input(f, "recompute_share_of_busy", "share", lost, FIGURE_MEASURED);
    rule_input(f, "room_factor", "", room, FIGURE_MODELLED);
    RULE_SAY(f->success, "output tokens/s higher by 2 %% or more, recomputed tokens below 0.2 %%");
    RULE_SAY(f->why, "A sequence without blocks waits, or takes those of another one, whose tokens are then computed "
                     "again. Both end when what runs fits.");
    return RULE_FIRES;
}

// ----------------------------------------------------------------------------------------- R6, R7: blocks and memory

enum verdict_of_rule rule_kv_fragmented(const struct evidence *e, struct rule_result *r) {
    const struct cache_figures *cache = &e->cache;
    if (!RULE_KNOWN(cache->waste_share, cache->occupancy, rule_kv_bytes(e)) || rule_kv_bytes(e) <= 0)
        return RULE_UNKNOWN;
    if (!rule_above(r, cache->waste_share, threshold_waste_share))
        return rule_healthy(r, "slots without a token %s (fires above %s)", words_percent(cache->waste_share).text,
                            words_percent(threshold_waste_share).text);
    double waste = fmin(cache->waste_share, 0.9);
    struct range factor = {1, 1 / (1 - waste)};
    if (!rule_above(r, cache->occupancy, threshold_admission_occupancy))
        return rule_wont_help(r, factor, "%s of the slots are empty ends of blocks, but only %s of the cache is in use",
                              words_percent(waste).text, words_percent(cache->occupancy).text);
    struct finding *f = rule_finds(r, BOTTLENECK_KV, TIME_LINES, waste);
    RULE_SAY(f->diagnosis,
             "%s of the slots in used blocks hold no token: sequences are short beside blocks of %d "
             "tokens.",
             words_percent(waste).text, (int)e->setup.block_tokens);
    rule_fact(f, "waste_share", "share", waste, FIGURE_MEASURED);
    rule_fact(f, "kv_occupancy", "share", fmin(1, cache->occupancy), FIGURE_MEASURED);
    rule_fact(f, "block_tokens", "tokens", e->setup.block_tokens, FIGURE_MEASURED);
    double bytes = rule_kv_bytes(e) / (1 - waste);
    RULE_SAY(f->action, "The size of a block is fixed; make up for the empty slots with a cache of %s.",
             words_bytes(bytes).text);
    rule_effect(f, "kv_tokens", (double)e->setup.n_blocks * e->setup.block_tokens, factor, factor.high,
                "capacity over (1 - waste), by as much as the cache grows");
    rule_input(f, "waste_share", "share", waste, FIGURE_MEASURED);
    rule_set_flag(f, e, "--kv-gib %.10g", gib_rounded_up(bytes));
    RULE_SAY(f->success, "tokens in the cache at the same occupancy 5 %% or more above now");
    RULE_SAY(f->why, "A sequence's last block is half empty on average. That matters only where blocks run short.");
    f->benefit *= fmin(1, cache->occupancy) * 0.1; // capacity, not speed: what is short says R4
    return RULE_FIRES;
}

enum verdict_of_rule rule_memory_unused(const struct evidence *e, struct rule_result *r) {
    const struct cache_figures *cache = &e->cache;
    double now = rule_kv_bytes(e);
    if (!RULE_KNOWN(cache->free_memory_bytes, cache->occupancy_max, cache->evicted_tokens, now) || now <= 0)
        return RULE_UNKNOWN;
    double spare = spare_bytes(e), missed = rule_share_of(cache->ideal_hits - cache->hits, cache->queries);
    if (spare < threshold_free_share * now)
        return rule_healthy(r, "%s are free, beside what the system keeps", words_bytes(spare).text);
    bool is_short = rule_above(r, cache->occupancy_max, 0.9) ||
                    (cache->evicted_tokens > 0 && rule_above(r, missed, threshold_hit_gap));
    if (!is_short)
        return rule_wont_help(r, (struct range){1, 1}, "%s are free, but the KV cache was at most %s full",
                              words_bytes(spare).text, words_percent(cache->occupancy_max).text);
    double then = fmin(now + spare, threshold_extrapolation * now);
    struct finding *f = rule_finds(r, BOTTLENECK_KV, TIME_LINES, fmin(1, cache->occupancy_max));
    RULE_SAY(f->diagnosis, "The KV cache was %s full and lost %s cached tokens, while %s of memory are free.",
             words_percent(cache->occupancy_max).text, words_number(cache->evicted_tokens).text,
             words_bytes(cache->free_memory_bytes).text);
    rule_fact(f, "kv_occupancy_max", "share", fmin(1, cache->occupancy_max), FIGURE_MEASURED);
    rule_fact(f, "evicted_tokens", "tokens", cache->evicted_tokens, FIGURE_MEASURED);
    rule_fact(f, "free_memory", "bytes", cache->free_memory_bytes, FIGURE_MEASURED);
    RULE_SAY(f->action, "Give the KV cache %s instead of %s.", words_bytes(then).text, words_bytes(now).text);
    double tokens = (double)e->setup.n_blocks * e->setup.block_tokens;
    rule_effect(f, "kv_tokens", tokens, (struct range){0.95 * then / now, then / now}, then / now,
                "bytes then over bytes now; up to 5 %% go to tables");
    rule_input(f, "kv_bytes", "bytes", now, FIGURE_MEASURED);
    rule_input(f, "free_memory", "bytes", cache->free_memory_bytes, FIGURE_MEASURED);
    rule_risk(f, "The machine keeps %s for everything else.", words_bytes(threshold_free_bytes).text);
    rule_set_flag(f, e, "--kv-gib %.10g", floor(then / gib * 128) / 128);
    RULE_SAY(f->success, "fewer evicted tokens, more found in the prefix cache, no page faults after ten minutes at "
                         "the longest context");
    RULE_SAY(f->why, "Blocks that nobody needs keep prefixes for later prompts, and let more sequences run when many "
                     "come at once.");
    f->benefit *= 0.1; // capacity, not speed
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------------ R10, R11: prefixes

static void prefix_facts(struct finding *f, const struct cache_figures *cache) {
    rule_fact(f, "prefix_hits", "share", rule_share_of(cache->hits, cache->queries), FIGURE_MEASURED);
    rule_fact(f, "prefix_hits_ideal", "share", rule_share_of(cache->ideal_hits, cache->queries), FIGURE_MEASURED);
    rule_fact(f, "prompt_tokens_looked_up", "tokens", cache->queries, FIGURE_MEASURED);
    RULE_SAY(f->why, "Tokens found in the prefix cache are not computed again. A prompt is found up to the first token "
                     "that differs from earlier ones.");
}

static enum verdict_of_rule prefix_lost(const struct evidence *e, struct rule_result *r, double found, double ideal) {
    const struct cache_figures *cache = &e->cache;
    struct finding *f = rule_finds(r, BOTTLENECK_COMPUTE, TIME_PROMPT, rule_busy_share(e, TIME_PROMPT));
    RULE_SAY(f->diagnosis, "%s of the prompts' tokens were found in the prefix cache, where %s could have been.",
             words_percent(found).text, words_percent(ideal).text);
    prefix_facts(f, cache);
    rule_fact(f, "evicted_tokens", "tokens", cache->evicted_tokens, FIGURE_MEASURED);
    const struct knob *knob = &e->setup.knobs.knob[KNOB_PREFIX_CACHE];
    bool is_off = !e->setup.has_prefix_cache || (knob->available && knob->value == 0);
    double half = 0.5 * (found + ideal);
    struct range factor =
        rule_ttft_factor(e, (1 - ideal) / (1 - found), (1 - (is_off ? 0.9 * ideal : half)) / (1 - found));
    rule_effect(f, "ttft_p50_s", e->ttft.p50.mean, factor, NAN,
                "prompt work x (1 - hits then) / (1 - hits now): at best all ideal hits, at worst %s and no "
                "less waiting",
                is_off ? "nine tenths of them" : "half of those missed");
    rule_input(f, "prefix_hits", "share", found, FIGURE_MEASURED);
    rule_input(f, "prefix_hits_ideal", "share", ideal, FIGURE_MEASURED);
    rule_input(f, "ttft_p50", "s", e->ttft.p50.mean, FIGURE_MEASURED);
    if (is_off) {
        RULE_SAY(f->action, "Switch the prefix cache on: leave --no-prefix-cache out.");
        rule_set_knob(f, e, KNOB_PREFIX_CACHE, 1);
        rule_risk(f, "How fast an answer begins tells whether somebody with the same key sent the same beginning.");
    } else {
        double bytes = fmin(rule_kv_bytes(e) * 2, rule_kv_bytes(e) + spare_bytes(e));
        if (bytes >= (1 + threshold_free_share) * rule_kv_bytes(e))
            free_memory(f, e, bytes);
        else {
            narrow_format(f, e);
            if (!(rule_kv_ratio(e, narrow_kv(e)) < 1)) return RULE_UNKNOWN;
        }
    }
    RULE_SAY(f->success, "prompt tokens computed a request fall, TTFT p50 within the range");
    return RULE_FIRES;
}

static enum verdict_of_rule prefix_churns(const struct evidence *e, struct rule_result *r, double found) {
    const struct cache_figures *cache = &e->cache;
    double prompt = e->load.prompt_tokens_mean, block = e->setup.block_tokens;
    struct finding *f = rule_finds(r, BOTTLENECK_COMPUTE, TIME_PROMPT, rule_busy_share(e, TIME_PROMPT));
    RULE_SAY(f->diagnosis,
             "%s of the prompts begin like an earlier one and part from it at about token %s: something "
             "that changes, such as the time, stands at the start.",
             words_percent(cache->early_divergence_share).text, words_number(cache->divergence_token).text);
    prefix_facts(f, cache);
    rule_fact(f, "early_divergence", "share", fmin(1, cache->early_divergence_share), FIGURE_MEASURED);
    rule_fact(f, "divergence_token", "tokens", cache->divergence_token, FIGURE_MEASURED);
    RULE_SAY(f->action, "Nothing to set here: the clients should move what changes (time, user, session) behind what "
                        "stays the same.");
    double ideal = fmax(found, fmin(1, cache->early_divergence_share) * fmax(0, 1 - block / prompt));
    rule_effect(f, "ttft_p50_s", e->ttft.p50.mean, rule_ttft_factor(e, fmax(0.02, (1 - ideal) / (1 - found)), 1), NAN,
                "prompt work x (1 - hits then) / (1 - hits now), if all but a block of these prompts were shared; at "
                "worst nothing behind the change is");
    rule_input(f, "prefix_hits", "share", found, FIGURE_MEASURED);
    rule_input(f, "prompt_tokens_mean", "tokens", prompt, FIGURE_MEASURED);
    rule_input(f, "early_divergence", "share", fmin(1, cache->early_divergence_share), FIGURE_MEASURED);
    RULE_SAY(f->experiment,
             "Send the same prompts with the changing part last, then compare prefix hits on %.120s/advisor",
             rule_url(e));
    RULE_SAY(f->success, "prefix hits rise, TTFT p50 within the range");
    return RULE_FIRES;
}

enum verdict_of_rule rule_prefix_misses(const struct evidence *e, struct rule_result *r) {
    const struct cache_figures *cache = &e->cache;
    if (!RULE_KNOWN(cache->queries, cache->hits, cache->ideal_hits, e->ttft.p50.mean) || cache->queries <= 0 ||
        e->ttft.p50.mean <= 0)
        return RULE_UNKNOWN;
    double found = fmin(rule_share_of(cache->hits, cache->queries), 0.99);
    double ideal = fmin(rule_share_of(cache->ideal_hits, cache->queries), 0.99);
    if (RULE_KNOWN(cache->evicted_tokens, cache->free_memory_bytes, rule_kv_bytes(e)) &&
        rule_above(r, ideal - found, threshold_hit_gap))
        return prefix_lost(e, r, found, ideal);
    if (RULE_KNOWN(cache->early_divergence_share, cache->divergence_token, e->load.prompt_tokens_mean) &&
        e->load.prompt_tokens_mean > 2.0 * e->setup.block_tokens && e->setup.has_prefix_cache &&
        rule_above(r, cache->early_divergence_share, threshold_divergence_share))
        return prefix_churns(e, r, found);
    return rule_healthy(r, "%s of the prompts' tokens found, %s possible (fires %s apart)", words_percent(found).text,
                        words_percent(ideal).text, words_percent(threshold_hit_gap).text);
}

enum verdict_of_rule rule_prefix_useless(const struct evidence *e, struct rule_result *r) {
    const struct cache_figures *cache = &e->cache;
    if (!e->setup.has_prefix_cache || !RULE_KNOWN(cache->queries, cache->ideal_hits, e->host.gap_share) ||
        cache->queries <= 0 || e->load.n_arrived < threshold_useless_requests || e->host.gap_share >= 1)
        return RULE_UNKNOWN;
    double ideal = rule_share_of(cache->ideal_hits, cache->queries), gap = e->host.gap_share;
    if (!rule_below(r, ideal, threshold_useless_hits))
        return rule_healthy(r, "%s of the prompts' tokens could be found (useless below %s)", words_percent(ideal).text,
                            words_percent(threshold_useless_hits).text);
    struct range factor = {1, 1 / (1 - gap)};
    if (factor.high < threshold_gain_least)
        return rule_wont_help(r, factor, "no prefixes to find (%s), but looking for them costs at most the host's %s",
                              words_percent(ideal).text, words_percent(gap).text);
    struct finding *f = rule_finds(r, BOTTLENECK_HOST, TIME_HOST_GAP, gap);
    RULE_SAY(f->diagnosis,
             "Prompts share almost nothing: even an unlimited prefix cache would find %s of their tokens.",
             words_percent(ideal).text);
    rule_fact(f, "prefix_hits_ideal", "share", ideal, FIGURE_MEASURED);
    rule_fact(f, "requests", "requests", (double)e->load.n_arrived, FIGURE_MEASURED);
    rule_fact(f, "host_gap_share", "share", gap, FIGURE_MEASURED);
    RULE_SAY(f->action, "Switch the prefix cache off; looking up and keeping blocks then costs nothing.");
    rule_effect(f, "output_tokens_per_s", fmax(0, e->load.output_rate), factor, factor.high,
                "1 / (1 - host gap) at best, if all of the gap were the cache's work");
    rule_input(f, "host_gap_share", "share", gap, FIGURE_MEASURED);
    rule_set_knob(f, e, KNOB_PREFIX_CACHE, 0);
    RULE_SAY(f->success, "host gap smaller, TTFT p50 not worse");
    RULE_SAY(f->why, "Every prompt is hashed and looked up block by block between two steps.");
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------------ R12: KV format

enum verdict_of_rule rule_kv_format(const struct evidence *e, struct rule_result *r) {
    double kv = e->efficiency.kv_share, ratio = rule_kv_ratio(e, narrow_kv(e));
    if (!RULE_KNOWN(kv, ratio, e->load.output_rate, e->efficiency.decode_time_share, e->cache.occupancy) || kv > 1)
        return RULE_UNKNOWN;
    if (ratio > 0.95) return rule_healthy(r, "the KV cache is %s already", e->setup.kv_format);
    double best = 1 / (1 - kv * (1 - ratio));
    bool is_full = kv_is_full(e) || e->cache.recomputed_tokens > threshold_recompute_share * e->cache.useful_tokens;
    if (!rule_above(r, kv, threshold_kv_share) && !is_full)
        return rule_wont_help(r, (struct range){1, best},
                              "%s KV cache: it is %s of the bytes of decoding, so at most %s", narrow_kv(e),
                              words_percent(kv).text, words_factor(best).text);
    if (e->efficiency.mbu_decode < threshold_decode_mbu_small && !is_full)
        return rule_wont_help(r, (struct range){1, best},
                              "%s KV cache: decoding reads at %s of the measured peak, so fewer bytes will hardly show",
                              narrow_kv(e), words_percent(e->efficiency.mbu_decode).text);
    struct decode_point at = rule_decode_now(e);
    at.kv_scale = fmin(1, ratio / threshold_kernel_worst);
    double low = rule_decode_gain(e, &at).low;
    at.kv_scale = ratio;
    double high = rule_decode_gain(e, &at).high;
    if (!RULE_KNOWN(low, high)) return RULE_UNKNOWN;
    struct finding *f =
        rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_DECODE_KV, kv * fmin(1, e->efficiency.decode_time_share));
    RULE_SAY(f->diagnosis, "The KV cache is %s of the bytes that decoding reads, in %s.", words_percent(kv).text,
             e->setup.kv_format);
    rule_fact(f, "kv_share", "share", kv, FIGURE_MODELLED);
    rule_fact(f, "context_mean", "tokens", fmax(0, e->efficiency.context_mean), FIGURE_MEASURED);
    rule_fact(f, "kv_occupancy", "share", fmin(1, e->cache.occupancy), FIGURE_MEASURED);
    RULE_SAY(f->action, "Keep the KV cache in %s: %s of the bytes, and room for %s times the tokens.", narrow_kv(e),
             words_percent(ratio).text, words_number(1 / ratio).text);
    rule_effect(
        f, "output_tokens_per_s", e->load.output_rate, (struct range){low, high}, rule_decode_gain_cap(e, &at),
        "bytes of a step with the KV cache at %s of now, by the fitted step model; kernels that unpack it reach "
        "80 to 100 %%",
        words_percent(ratio).text);
    rule_input(f, "kv_share", "share", kv, FIGURE_MODELLED);
    rule_input(f, "bytes_ratio", "share", ratio, FIGURE_MODELLED);
    rule_risk(f, "Answers change slightly, most at long contexts: run the quality gate on long texts too.");
    rule_set_flag(f, e, "--kv-format %s", narrow_kv(e));
    rule_quality_gate(f, e, f->flag);
    RULE_SAY(f->success, "output tokens/s within the range, quality gate passed");
    RULE_SAY(f->why, "Each token of context is read again for every token written. Half the bytes are half the time of "
                     "that part, and only of that part.");
    return RULE_FIRES;
}
