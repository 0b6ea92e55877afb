// Rules about the machine: how work is split, heat and power, threads, NUMA, bandwidth, paging.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

// -------------------------------------------------------------------------------------------- R30: attention's split

enum verdict_of_rule rule_attention_splits(const struct evidence *e, struct rule_result *r) {
    const struct efficiency_figures *now = &e->efficiency;
    const double *share = e->ledger.share;
    double decoding = share[TIME_DECODE_WEIGHTS] + share[TIME_DECODE_KV] + share[TIME_HEAD];
    double parts = now->decode_rows_mean * e->setup.n_kv_heads;
    double least = now->decode_rows_mean * now->context_mean * e->setup.kv_bytes_per_token / e->peaks.read.value;
    if (!RULE_KNOWN(decoding, share[TIME_DECODE_KV], parts, least, now->decode_s_mean, e->load.output_rate) ||
        decoding <= 0 || least <= 0 || parts <= 0 || e->setup.n_processors < 1)
        return RULE_UNKNOWN;
    double seconds = now->decode_s_mean * share[TIME_DECODE_KV] / decoding, excess = seconds / least;
    double busy = rule_busy_share(e, TIME_DECODE_KV);
    if (!rule_above(r, excess, threshold_split_excess) || parts >= e->setup.n_processors || busy < 0.05)
        return rule_healthy(r, "attention takes %s of the time that its bytes need; %s parts for %d processors",
                            words_factor(excess).text, words_number(parts).text, (int)e->setup.n_processors);
    struct finding *f = rule_finds(r, BOTTLENECK_LATENCY, TIME_DECODE_KV, busy);
    RULE_SAY(f->diagnosis,
             "Attention has only %s independent parts (rows x KV heads) for %d processors and takes %s of "
             "the time that its bytes need.",
             words_number(parts).text, (int)e->setup.n_processors, words_factor(excess).text);
    rule_fact(f, "attention_parts", "parts", parts, FIGURE_MEASURED);
    rule_fact(f, "processors", "processors", e->setup.n_processors, FIGURE_MEASURED);
    rule_fact(f, "attention_per_step", "s", seconds, FIGURE_MEASURED);
    rule_fact(f, "least_by_bytes", "s", least, FIGURE_MODELLED);
    RULE_SAY(f->action, "Nothing to set here: this server splits long contexts by itself. More sequences at once would "
                        "give every processor a part.");
    double gain = rule_amdahl(busy, 1 / excess);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, gain}, gain,
                "Amdahl: attention's share at the time of its bytes at best");
    rule_input(f, "attention_share", "share", busy, FIGURE_MEASURED);
    rule_input(f, "time_over_least", "", excess, FIGURE_MODELLED);
    RULE_SAY(f->experiment, "optima bench %.110s --users 1 --prompt-tokens 2048, then --users 4", rule_url(e));
    RULE_SAY(f->success, "output tokens/s rise by more than the batch alone explains");
    RULE_SAY(f->why, "A processor without a part of the cache to read waits for the others.");
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------------ R37, R38: power

enum verdict_of_rule rule_throttled(const struct evidence *e, struct rule_result *r) {
    double hot = e->machine.thermal_share, clock = e->machine.frequency_share;
    if (!RULE_KNOWN(hot, e->load.output_rate) || hot > 1) return RULE_UNKNOWN;
    if (!rule_above(r, hot, threshold_throttle_share))
        return rule_healthy(r, "slowed by heat or power %s of the time (fires above %s)", words_percent(hot).text,
                            words_percent(threshold_throttle_share).text);
    bool has_clock = RULE_KNOWN(clock) && clock > 0.1 && clock <= 1;
    double most = has_clock && clock < threshold_frequency_share ? 1 / clock : 1 / (1 - 0.5 * hot);
    struct finding *f = rule_finds(r, BOTTLENECK_POWER, TIME_THROTTLED, hot);
    RULE_SAY(f->diagnosis, "Heat or a power limit slowed the processor %s of the time.", words_percent(hot).text);
    rule_fact(f, "throttled_by_heat_or_power", "share", hot, FIGURE_MEASURED);
    if (has_clock) rule_fact(f, "clock_over_highest_seen", "share", clock, FIGURE_MEASURED);
    if (RULE_KNOWN(e->machine.watts)) rule_fact(f, "power", "W", e->machine.watts, FIGURE_MEASURED);
    RULE_SAY(f->action, "Nothing to set in the server: look at cooling and at the power limit.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, most}, most,
                "nothing, if memory is the limit, whose clock stays; %s at best",
                has_clock && clock < threshold_frequency_share ? "the highest clock over that now"
                                                               : "half of the slowed time");
    rule_input(f, "throttled_by_heat_or_power", "share", hot, FIGURE_MEASURED);
    RULE_SAY(f->experiment, "optima bench %.110s --users 4, before and after", rule_url(e));
    RULE_SAY(f->success, "the slowed share below 1 %%, output tokens/s within the range");
    RULE_SAY(f->why, "A processor that is too hot lowers its clock. Reading memory hardly suffers, arithmetic does.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_energy(const struct evidence *e, struct rule_result *r) {
    double watts = e->machine.watts, idle = e->load.idle_share, joules = watts / e->load.output_rate;
    if (!RULE_KNOWN(watts, idle, joules) || idle > 1) return RULE_UNKNOWN;
    if (!rule_above(r, idle, threshold_idle_energy))
        return rule_healthy(r, "%s J an output token, %s of the time idle (fires above %s)", words_number(joules).text,
                            words_percent(idle).text, words_percent(threshold_idle_energy).text);
    struct finding *f = rule_finds(r, BOTTLENECK_COST, TIME_IDLE, idle);
    RULE_SAY(f->diagnosis, "An output token costs %s J, and the machine draws %s W while it is idle %s of the time.",
             words_number(joules).text, words_number(watts).text, words_percent(idle).text);
    rule_fact(f, "power", "W", watts, FIGURE_MEASURED);
    rule_fact(f, "idle_share", "share", idle, FIGURE_MEASURED);
    rule_fact(f, "joules_per_output_token", "J", joules, FIGURE_MEASURED);
    RULE_SAY(f->action, "Bring the work of several machines onto one, or let this one sleep between.");
    rule_effect(f, "joules_per_output_token", joules,
                (struct range){fmax(0.01, 1 - idle), 1 - threshold_idle_energy * idle}, fmax(0.01, 1 - idle),
                "idle time gone, if it draws between 30 and 100 %% of the mean power");
    rule_input(f, "idle_share", "share", idle, FIGURE_MEASURED);
    f->benefit *= 0.5; // energy, but nobody waits for it
    RULE_SAY(f->experiment, "optima bench %.110s --users 4, and look at joules a token", rule_url(e));
    RULE_SAY(f->success, "joules an output token fall");
    RULE_SAY(f->why, "A machine draws much of its power without any work; tokens of the same hour share it.");
    return RULE_FIRES;
}

// --------------------------------------------------------------------------------------------------- R39: threads

// Cores that the process really has.
static double cores_of(const struct machine_figures *m) {
    double cores = m->physical_cores;
    if (m->affinity_cores > 0 && m->affinity_cores < cores) cores = m->affinity_cores;
    if (m->quota_cores > 0 && m->quota_cores < cores) cores = m->quota_cores;
    return cores;
}

static double waiting_of(const struct machine_figures *m) {
    return fmin(0.95, fmax(RULE_KNOWN(m->wait_share) ? m->wait_share : 0,
                           RULE_KNOWN(m->throttled_share) ? m->throttled_share : 0));
}

static double read_at(const struct machine_figures *m, int threads) {
    return threads >= 1 && threads <= m->n_read_curve && threads <= 64 ? m->read_curve[threads - 1] : NAN;
}

static void say_threads(struct finding *f, const struct evidence *e, double cores, double waiting) {
    const struct machine_figures *m = &e->machine;
    int32_t wanted = (int32_t)fmax(1, floor(cores));
    RULE_SAY(f->diagnosis, "%d compute threads share %s cores%s: %s of their time they are ready and do not run.",
             (int)m->threads, words_number(cores).text,
             m->quota_cores > 0 && m->quota_cores <= cores ? " (the control group's quota)"
             : m->affinity_cores < m->physical_cores       ? " (that the process may use)"
                                                           : "",
             words_percent(waiting).text);
    if (wanted >= m->threads) {
        RULE_SAY(f->action, "Give the process more of the machine: %s cores are not enough even for %d threads.",
                 words_number(cores).text, (int)m->threads);
        RULE_SAY(f->experiment, "optima bench %.110s --users 4, before and after", rule_url(e));
        return;
    }
    RULE_SAY(f->action, "Use %d compute threads instead of %d.", (int)wanted, (int)m->threads);
    rule_set_knob(f, e, KNOB_THREADS, wanted);
}

static void say_crowd(struct finding *f, const struct evidence *e, double waiting) {
    double other = e->machine.other_cpu_share;
    RULE_SAY(f->diagnosis,
             "Other processes take %s of the processors: compute threads are ready and do not run %s of "
             "their time.",
             words_percent(other).text, words_percent(waiting).text);
    rule_fact(f, "other_processes", "share", fmin(1, other), FIGURE_MEASURED);
    RULE_SAY(f->action, "Nothing to set here: move the other processes away, a load client too, or give this one cores "
                        "of its own.");
    RULE_SAY(f->experiment, "optima bench %.110s --users 4", rule_url(e));
}

enum verdict_of_rule rule_threads(const struct evidence *e, struct rule_result *r) {
    const struct machine_figures *m = &e->machine;
    double cores = cores_of(m), waiting = waiting_of(m);
    if (e->setup.is_gpu || m->threads < 1 || !RULE_KNOWN(cores, e->load.output_rate) || cores <= 0 ||
        (!RULE_KNOWN(m->wait_share) && !RULE_KNOWN(m->throttled_share)))
        return RULE_UNKNOWN;
    bool too_many = m->threads > ceil(cores - 0.01) && !rule_is_idle(e);
    bool waits = rule_above(r, waiting, threshold_wait_share);
    if (!too_many && !waits)
        return rule_healthy(r, "%d threads on %s cores, %s of their time without one (fires above %s)", (int)m->threads,
                            words_number(cores).text, words_percent(waiting).text,
                            words_percent(threshold_wait_share).text);
    bool is_limited = m->threads > cores || m->throttled_share > threshold_throttle_share;
    if (!is_limited && !(m->other_cpu_share >= threshold_other_cpu))
        return rule_healthy(r, "threads wait %s of their time for a core; nothing large takes it",
                            words_percent(waiting).text);
    struct finding *f = rule_finds(r, BOTTLENECK_MACHINE, TIME_THROTTLED, waiting);
    if (is_limited)
        say_threads(f, e, cores, waiting);
    else
        say_crowd(f, e, waiting);
    rule_fact(f, "threads", "threads", m->threads, FIGURE_MEASURED);
    rule_fact(f, "cores", "cores", cores, FIGURE_MEASURED);
    rule_fact(f, "waiting_share", "share", waiting, FIGURE_MEASURED);
    if (RULE_KNOWN(m->involuntary_switches))
        rule_fact(f, "involuntary_switches", "1/s", m->involuntary_switches, FIGURE_MEASURED);
    double reading = read_at(m, (int)floor(cores)) / read_at(m, m->threads);
    double most = fmax(1 / (1 - waiting), RULE_KNOWN(reading) ? reading : 1);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, most}, NAN,
                "at best the time without a core goes, 1 / (1 - share), or bandwidth grows as measured by threads; at "
                "worst the same cores do the same work");
    rule_input(f, "waiting_share", "share", waiting, FIGURE_MEASURED);
    RULE_SAY(f->success, "threads without a core below %s, output tokens/s within the range",
             words_percent(threshold_wait_share).text);
    RULE_SAY(f->why, "All threads of a step meet at its end. One that has no core keeps all others waiting for it.");
    return RULE_FIRES;
}

// ---------------------------------------------------------------------------------------- R40, R41, R42: memory

enum verdict_of_rule rule_numa_remote(const struct evidence *e, struct rule_result *r) {
    double remote = e->machine.numa_remote_share;
    if (!RULE_KNOWN(remote, e->load.output_rate) || e->machine.numa_nodes < 2 || remote > 0.95) return RULE_UNKNOWN;
    if (!rule_above(r, remote, threshold_numa_remote))
        return rule_healthy(r, "%s of the memory lies on another node (fires above %s)", words_percent(remote).text,
                            words_percent(threshold_numa_remote).text);
    struct finding *f = rule_finds(r, BOTTLENECK_MACHINE, TIME_DECODE_WEIGHTS, remote);
    RULE_SAY(f->diagnosis, "%s of the memory lies on another NUMA node than the threads that read it.",
             words_percent(remote).text);
    rule_fact(f, "numa_remote", "share", remote, FIGURE_MEASURED);
    rule_fact(f, "numa_nodes", "nodes", e->machine.numa_nodes, FIGURE_MEASURED);
    RULE_SAY(f->action,
             "Start the server on one node: numactl --cpunodebind=0 --membind=0 optima serve ..., or one server "
             "a node.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, 1 / (1 - remote)}, 1 / (1 - remote),
                "1 / (1 - remote share): if what is remote cost nothing, at best");
    rule_input(f, "numa_remote", "share", remote, FIGURE_MEASURED);
    RULE_SAY(f->experiment, "optima bench %.110s --users 4, before and after", rule_url(e));
    RULE_SAY(f->success, "remote memory below 5 %%, output tokens/s within the range");
    RULE_SAY(f->why, "Memory of another node comes through the link between them, which is narrower than the node's "
                     "own channels.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_bandwidth_bound(const struct evidence *e, struct rule_result *r) {
    const struct machine_figures *m = &e->machine;
    double mbu = e->efficiency.mbu_decode;
    if (e->setup.is_gpu || !RULE_KNOWN(mbu, e->load.output_rate) || mbu <= 0 || m->n_read_curve < 1 ||
        m->n_read_curve > 64)
        return RULE_UNKNOWN;
    if (!rule_above(r, mbu, threshold_cpu_bandwidth))
        return rule_healthy(r, "decoding reads at %s of the measured peak (fires above %s)", words_percent(mbu).text,
                            words_percent(threshold_cpu_bandwidth).text);
    double best = 0;
    int knee = m->n_read_curve;
    for (int i = 0; i < m->n_read_curve; i++) best = fmax(best, m->read_curve[i]);
    while (knee > 1 && m->read_curve[knee - 2] >= threshold_knee_bandwidth * best) knee--;
    struct range more = {1, fmax(1, 1 / mbu)};
    if (!RULE_KNOWN(best) || best <= 0) return RULE_UNKNOWN;
    if (knee >= m->threads)
        return rule_wont_help(r, more, "more threads: decoding reads at %s of the measured peak, so at most %s",
                              words_percent(mbu).text, words_factor(more.high).text);
    double kept = m->read_curve[knee - 1] / best;
    struct finding *f =
        rule_finds(r, BOTTLENECK_BANDWIDTH, TIME_DECODE_WEIGHTS, fmin(1, fmax(0, e->efficiency.decode_time_share)));
    RULE_SAY(f->diagnosis, "Memory is the limit (%s of its measured peak), and %d threads read as fast as %d.",
             words_percent(mbu).text, knee, (int)m->threads);
    rule_fact(f, "mbu_decode", "share", fmin(1, mbu), FIGURE_MODELLED);
    rule_fact(f, "threads", "threads", m->threads, FIGURE_MEASURED);
    rule_fact(f, "read_bandwidth_then", "bytes/s", m->read_curve[knee - 1], FIGURE_MEASURED);
    rule_fact(f, "read_bandwidth_best", "bytes/s", best, FIGURE_MEASURED);
    RULE_SAY(
        f->action,
        "More threads will not help decoding. --threads %d would leave cores to others, and slow prompts down, which "
        "compute. What helps is fewer bytes (R13) or more rows that share them (R1).",
        knee);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){kept, 1}, 1,
                "measured read bandwidth of %d threads over the best", knee);
    rule_input(f, "bandwidth_kept", "share", fmin(1, kept), FIGURE_MEASURED);
    rule_input(f, "mbu_decode", "share", fmin(1, mbu), FIGURE_MODELLED);
    f->benefit = 0; // nothing gets faster
    RULE_SAY(f->experiment, "optima bench %.110s --users 4, then the same after a restart with fewer threads",
             rule_url(e));
    RULE_SAY(f->success, "output tokens/s not below 0.97x while cores are free");
    RULE_SAY(f->why, "A few threads can ask for all that memory delivers. Further ones wait for the same channels.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_page_faults(const struct evidence *e, struct rule_result *r) {
    const struct machine_figures *m = &e->machine;
    double mbu = e->efficiency.mbu_decode;
    if (!RULE_KNOWN(m->major_faults, m->resident_bytes, e->setup.weight_bytes, mbu, e->load.output_rate))
        return RULE_UNKNOWN;
    if (!rule_above(r, m->major_faults, threshold_major_faults))
        return rule_healthy(r, "%s pages a second come from disk (fires above %s)", words_number(m->major_faults).text,
                            words_number(threshold_major_faults).text);
    double most = 1 / fmin(1, fmax(mbu, 0.001));
    struct finding *f = rule_finds(r, BOTTLENECK_MACHINE, TIME_DECODE_WEIGHTS, fmax(0, 1 - mbu));
    RULE_SAY(f->diagnosis, "Memory runs short: %s pages a second are read from disk while tokens wait.",
             words_number(m->major_faults).text);
    rule_fact(f, "major_faults", "1/s", m->major_faults, FIGURE_MEASURED);
    rule_fact(f, "resident", "bytes", m->resident_bytes, FIGURE_MEASURED);
    rule_fact(f, "weights", "bytes", e->setup.weight_bytes, FIGURE_MEASURED);
    if (RULE_KNOWN(m->available_bytes)) rule_fact(f, "available", "bytes", m->available_bytes, FIGURE_MEASURED);
    RULE_SAY(f->action,
             "Give the process more memory, or make it smaller: narrower weights (--weights int8) or a smaller "
             "KV cache (--kv-gib).");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, most}, most,
                "at best decoding reads at the measured peak instead of %s of it", words_percent(mbu).text);
    rule_input(f, "mbu_decode", "share", fmin(1, mbu), FIGURE_MODELLED);
    RULE_SAY(f->experiment, "optima bench %.110s --users 4, before and after", rule_url(e));
    RULE_SAY(f->success, "no page from disk while requests run, output tokens/s within the range");
    RULE_SAY(f->why,
             "Weights are mapped from their file. What the system has dropped from memory comes back from disk, "
             "a hundred times slower, in every step.");
    return RULE_FIRES;
}
