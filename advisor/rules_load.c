// Rules about load: more than the server bears, hardly any, objectives missed, and numbers that cannot be true.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

// Requests a second that the server bears: as it works now, and with as many sequences as may run.
static struct range capacity(const struct evidence *e) {
    const struct load_figures *load = &e->load;
    double busy = 1 - load->idle_share, cap = (double)e->setup.knobs.knob[KNOB_SEQUENCES].value;
    if (!RULE_KNOWN(load->finish_rate, load->idle_share) || busy <= 0.001) return (struct range){NAN, NAN};
    double now = load->finish_rate / busy, blocks = rule_kv_sequences(e);
    struct decode_point at = rule_decode_now(e);
    double rows = fmin(cap > 0 ? cap : e->setup.sequences_max, threshold_extrapolation * at.rows);
    if (isfinite(blocks) && blocks < rows) rows = blocks;
    if (!(rows > at.rows)) return (struct range){now, now};
    at.rows = rows;
    struct range gain = rule_decode_gain(e, &at);
    if (!RULE_KNOWN(gain.low, gain.high)) return (struct range){NAN, NAN};
    return (struct range){now * fmax(1, gain.low), now * fmax(1, gain.high)};
}

// --------------------------------------------------------------------------------------------- R24, R25: too much

// Whether another rule's change would let the server bear what arrives, or much more than now: then that comes first.
// Clients that try again at once make arrivals look more than they are.
static bool change_would_bear(const struct evidence *e,
                              enum verdict_of_rule (*look)(const struct evidence *, struct rule_result *)) {
    struct rule_result result = {.slack = 1};
    if (look(e, &result) != RULE_FIRES || !result.finding.has_effect) return false;
    struct range factor = result.finding.effect.factor;
    double middle = 0.5 * (factor.low + factor.high);
    return middle >= threshold_gain_first || middle * e->load.finish_rate >= e->load.arrival_rate;
}

static void limit_queue(struct finding *f, const struct evidence *e, double objective) {
    double rate = e->load.finish_rate, p95 = e->ttft.p95.mean;
    double length = fmax(1, floor(rate * objective)), prompt = fmax(0, e->ttft.p50.mean - e->queue.p50.mean);
    double serving = fmax(0, e->e2e.p50.mean - e->queue.p50.mean);
    double low = 0.5 * length / rate / p95, high = fmin(1, (length / rate + prompt + serving) / p95);
    if (!RULE_KNOWN(low, high, prompt, serving) || low > high) return;
    rule_effect(
        f, "ttft_p95_s", p95, (struct range){low, high}, NAN,
        "a queue of %.0f requests at %s requests/s, half full; at worst full, with the prompt itself, and those that "
        "run end all at once",
        length, words_number(rate).text);
    rule_input(f, "finish_rate", "requests/s", rate, FIGURE_MEASURED);
    rule_input(f, "objective_ttft", "s", objective, FIGURE_USER);
    rule_risk(f, "Requests beyond the queue get 429 with the time after which to try again: count them.");
    rule_set_flag(f, e, "--queue %.0f", fmin(length, 1e6));
    RULE_SAY(f->success, "TTFT p95 at most %s for what is admitted, refused requests counted beside it",
             words_seconds(objective).text);
}

enum verdict_of_rule rule_overload(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    if (!RULE_KNOWN(load->arrival_rate, load->finish_rate, load->idle_share) || load->n_arrived < 1 ||
        load->finish_rate <= 0)
        return RULE_UNKNOWN;
    double refused = rule_share_of((double)load->n_rejected, (double)load->n_arrived);
    bool grows = load->concurrency_slope.low > 0 && load->ttft_slope.low > 0;
    if ((!grows && !rule_above(r, refused, threshold_rejected_share)) || load->arrival_rate <= load->finish_rate)
        return rule_healthy(r, "%s requests/s arrive, %s finish, %s are refused", words_number(load->arrival_rate).text,
                            words_number(load->finish_rate).text, words_percent(refused).text);
    if (rule_is_idle(e)) return RULE_UNKNOWN; // refused for another reason
    if (change_would_bear(e, rule_batch_too_small) || change_would_bear(e, rule_kv_exhausted) ||
        change_would_bear(e, rule_admission_conservative))
        return rule_wont_help(r, (struct range){1, 1},
                              "more arrives than is finished, but a setting holds the server back");
    double servers = ceil(load->arrival_rate / (threshold_target_utilisation * load->finish_rate));
    struct finding *f = rule_finds(r, BOTTLENECK_CAPACITY, TIME_LINES, 1 - fmin(1, load->idle_share));
    RULE_SAY(f->diagnosis, "%s requests/s arrive and %s are finished: the queue only grows.",
             words_number(load->arrival_rate).text, words_number(load->finish_rate).text);
    rule_fact(f, "arrival_rate", "requests/s", load->arrival_rate, FIGURE_MEASURED);
    rule_fact(f, "finish_rate", "requests/s", load->finish_rate, FIGURE_MEASURED);
    rule_fact(f, "refused", "share", refused, FIGURE_MEASURED);
    if (RULE_KNOWN(load->waiting_mean)) rule_fact(f, "waiting_mean", "sequences", load->waiting_mean, FIGURE_MEASURED);
    RULE_SAY(f->action,
             "No tuning bears this. %s servers like this one would, at four fifths of their capacity. Until "
             "then refuse early: a short queue and 429.",
             words_number(fmin(servers, 1e6)).text);
    struct figure objective = e->setup.objective_ttft;
    if (figure_known(objective) && RULE_KNOWN(objective.value, e->ttft.p95.mean) && e->ttft.p95.mean > objective.value)
        limit_queue(f, e, objective.value);
    if (!f->has_effect) {
        f->benefit = 1 - load->finish_rate / load->arrival_rate;
        RULE_SAY(f->experiment, "optima bench %.110s --rate %.3g, below what it finishes", rule_url(e),
                 fmin(1e9, threshold_target_utilisation * load->finish_rate));
        RULE_SAY(f->success, "the queue stays short and TTFT steady");
    }
    RULE_SAY(f->why, "When more arrives than leaves, waiting grows without end and every request misses its objective. "
                     "Those that are refused at once can go elsewhere.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_near_saturation(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    double most = capacity(e).high, used = load->arrival_rate / most;
    if (!RULE_KNOWN(used, load->queue_share, e->queue.p95.mean) || most <= 0) return RULE_UNKNOWN;
    if (!rule_above(r, used, threshold_saturation) || !rule_above(r, load->queue_share, threshold_queue_share))
        return rule_healthy(r, "%s of the requests that it would bear (fires above %s, where some wait)",
                            words_percent(used).text, words_percent(threshold_saturation).text);
    used = fmin(used, 0.999);
    double more = fmin(1.1 * used, 0.999), grows = more / (1 - more) / (used / (1 - used));
    struct finding *f = rule_finds(r, BOTTLENECK_CAPACITY, TIME_LINES, used);
    RULE_SAY(f->diagnosis,
             "%s requests/s are %s of what this server bears with these lengths: there is no room for a "
             "burst.",
             words_number(load->arrival_rate).text, words_percent(used).text);
    rule_fact(f, "arrival_rate", "requests/s", load->arrival_rate, FIGURE_MEASURED);
    rule_fact(f, "capacity", "requests/s", most, FIGURE_MODELLED);
    rule_fact(f, "queue_p95", "s", e->queue.p95.mean, FIGURE_MEASURED);
    if (1.1 * used < 1)
        RULE_SAY(f->action, "Plan for more capacity. Ten percent more requests would make waiting about %s as long.",
                 words_factor(grows).text);
    else
        RULE_SAY(f->action, "Plan for more capacity: ten percent more requests are more than it bears.");
    RULE_SAY(f->experiment, "optima bench %.110s --rate %.3g", rule_url(e), fmin(1e9, 1.1 * load->arrival_rate));
    RULE_SAY(f->success, "TTFT p99 at ten percent more load tells how much room is left");
    RULE_SAY(f->why, "Waiting grows like u / (1 - u), where u is the used share of capacity: from 0.8 to 0.9 it "
                     "doubles.");
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------- R26, R45: not to be
// trusted

enum verdict_of_rule rule_little_disagrees(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    double inside = load->concurrency_mean, through = load->finish_rate * load->residence_mean;
    if (!RULE_KNOWN(inside, through) || inside <= 0 || load->n_finished < threshold_little_requests || !e->steady ||
        load->concurrency_slope.low > 0 || load->concurrency_slope.high < 0 || e->window_s < 5 * load->residence_mean)
        return RULE_UNKNOWN;
    // Requests whose text is still worked on are in nobody's count yet.
    if (rule_share_of(e->host.text_s_per_request, load->residence_mean) > threshold_text_of_request)
        return RULE_UNKNOWN;
    double error = fabs(inside - through) / inside;
    if (!rule_above(r, error, threshold_little_error))
        return rule_healthy(r, "requests inside agree with rate x time to %s (fires above %s)",
                            words_percent(error).text, words_percent(threshold_little_error).text);
    struct finding *f = rule_finds(r, BOTTLENECK_MEASUREMENT, TIME_LINES, 0);
    RULE_SAY(f->diagnosis, "%s requests are inside on average, but rate x time makes %s: one of the three is wrong.",
             words_number(inside).text, words_number(through).text);
    rule_fact(f, "concurrency_mean", "requests", inside, FIGURE_MEASURED);
    rule_fact(f, "finish_rate", "requests/s", load->finish_rate, FIGURE_MEASURED);
    rule_fact(f, "residence_mean", "s", load->residence_mean, FIGURE_MEASURED);
    RULE_SAY(f->action, "Believe no other finding of this window. Measure again under steady load, longer than five "
                        "times a request takes.");
    RULE_SAY(f->experiment, "optima bench %.110s --users 4 --duration 120", rule_url(e));
    RULE_SAY(f->success, "both agree to 5 %%");
    RULE_SAY(f->why,
             "In a steady state the requests inside are the rate times the time that each stays (Little's law), "
             "whatever the server does.");
    f->benefit = 1;
    return RULE_FIRES;
}

enum verdict_of_rule rule_measurement_disturbed(const struct evidence *e, struct rule_result *r) {
    const struct load_figures *load = &e->load;
    double ended = (double)load->n_finished + (double)load->n_failed;
    if (load->n_finished < 0 || load->n_failed < 0 || ended < 20) return RULE_UNKNOWN;
    double failed = (double)load->n_failed / ended;
    if (!rule_above(r, failed, threshold_failed_share))
        return rule_healthy(r, "%s of the requests failed (fires above %s)", words_percent(failed).text,
                            words_percent(threshold_failed_share).text);
    struct finding *f = rule_finds(r, BOTTLENECK_MEASUREMENT, TIME_LINES, failed);
    RULE_SAY(f->diagnosis, "%s of the requests failed: times and rates mix work with failures.",
             words_percent(failed).text);
    rule_fact(f, "failed", "share", failed, FIGURE_MEASURED);
    rule_fact(f, "requests", "requests", ended, FIGURE_MEASURED);
    RULE_SAY(f->action, "Find out why first; the log has a line for each. Believe no other finding of this window.");
    RULE_SAY(f->experiment, "optima bench %.110s --users 1 --requests 20", rule_url(e));
    RULE_SAY(f->success, "no request fails");
    RULE_SAY(f->why, "A request that fails early looks fast, and one that fails late cost time and gave nothing.");
    f->benefit = 1;
    return RULE_FIRES;
}

// --------------------------------------------------------------------------------------------- R27: objectives missed

static void decompose_ttft(struct finding *f, const struct evidence *e, double objective) {
    double waiting = rule_share_of(e->queue.p95.mean, e->ttft.p95.mean);
    double text = rule_share_of(e->host.text_s_per_request, e->ttft.p95.mean);
    RULE_SAY(f->diagnosis,
             "The first token takes %s at the 95th percentile (objective %s): %s of it waiting, %s text "
             "work, the rest the prompt.",
             words_seconds(e->ttft.p95.mean).text, words_seconds(objective).text, words_percent(waiting).text,
             words_percent(text).text);
    RULE_SAY(f->action, "%s",
             waiting >= 0.5 ? "Most of it is waiting: see R1, R4, R5 and R24."
             : text >= 0.5  ? "Most of it is text work: see R21."
                            : "Most of it is the prompt: see R9, R10 and R29.");
    rule_fact(f, "ttft_p95", "s", e->ttft.p95.mean, FIGURE_MEASURED);
    rule_fact(f, "objective_ttft", "s", objective, FIGURE_USER);
    rule_fact(f, "waiting_share", "share", waiting, FIGURE_MEASURED);
}

static void decompose_itl(struct finding *f, const struct evidence *e, double objective) {
    double step = e->efficiency.decode_s_mean;
    RULE_SAY(f->diagnosis,
             "Gaps between tokens are %s at the 95th percentile (objective %s); a step without prompts "
             "takes %s.",
             words_seconds(e->itl.p95.mean).text, words_seconds(objective).text, words_seconds(step).text);
    RULE_SAY(f->action, "%s",
             step > objective ? "The step itself is longer than the objective: see R2, R13 and R33."
                              : "The step alone would keep it: see R8 and R22 for what stretches gaps.");
    rule_fact(f, "itl_p95", "s", e->itl.p95.mean, FIGURE_MEASURED);
    rule_fact(f, "objective_itl", "s", objective, FIGURE_USER);
    rule_fact(f, "decode_step", "s", step, FIGURE_MEASURED);
}

enum verdict_of_rule rule_objective_missed(const struct evidence *e, struct rule_result *r) {
    struct figure ttft = e->setup.objective_ttft, itl = e->setup.objective_itl;
    bool has_ttft = figure_known(ttft) && RULE_KNOWN(ttft.value, e->ttft.p95.mean, e->queue.p95.mean);
    bool has_itl = figure_known(itl) && RULE_KNOWN(itl.value, e->itl.p95.mean, e->efficiency.decode_s_mean);
    if (!has_ttft && !has_itl) return RULE_UNKNOWN; // a question asks for them
    bool misses_ttft = has_ttft && rule_above(r, e->ttft.p95.mean, ttft.value);
    bool misses_itl = has_itl && rule_above(r, e->itl.p95.mean, itl.value);
    if (!misses_ttft && !misses_itl) return rule_healthy(r, "objectives are met at the 95th percentile");
    struct finding *f = rule_finds(r, BOTTLENECK_SCHEDULING, TIME_LINES, 0);
    if (misses_ttft)
        decompose_ttft(f, e, ttft.value);
    else
        decompose_itl(f, e, itl.value);
    RULE_SAY(f->experiment, "optima bench %.100s --users 4 --slo ttft=%.0fms,itl=%.0fms", rule_url(e),
             1e3 * (has_ttft ? fmin(ttft.value, 1e6) : 1), 1e3 * (has_itl ? fmin(itl.value, 1e6) : 1));
    RULE_SAY(f->success, "the share of requests within both objectives rises, and refused ones are counted");
    RULE_SAY(f->why, "A missed objective is a symptom: what takes the largest part of the time is the cause. Shedding "
                     "load alone makes the rest look well.");
    return RULE_FIRES;
}

// ------------------------------------------------------------------------------------------------ R43, R44: too little

static double cost_per_million(const struct evidence *e) {
    return e->setup.price_per_hour.value / 3600 / e->load.output_rate * 1e6;
}

enum verdict_of_rule rule_over_provisioned(const struct evidence *e, struct rule_result *r) {
    struct range most = capacity(e);
    double used = e->load.arrival_rate / most.low, cost = cost_per_million(e);
    if (!figure_known(e->setup.price_per_hour)) return RULE_UNKNOWN; // a question asks for it
    if (!RULE_KNOWN(used, cost) || e->load.n_arrived < 1 || e->load.arrival_rate <= 0) return RULE_UNKNOWN;
    if (!rule_below(r, used, threshold_over_provisioned))
        return rule_healthy(r, "%s of the requests that it would bear (fires below %s)", words_percent(used).text,
                            words_percent(threshold_over_provisioned).text);
    double factor = used / threshold_target_utilisation;
    struct finding *f = rule_finds(r, BOTTLENECK_COST, TIME_IDLE, 1 - used);
    RULE_SAY(f->diagnosis, "The load is %s of what this server bears: most of the machine is paid for and not used.",
             words_percent(used).text);
    rule_fact(f, "arrival_rate", "requests/s", e->load.arrival_rate, FIGURE_MEASURED);
    rule_fact(f, "capacity", "requests/s", most.low, FIGURE_MODELLED);
    rule_fact(f, "price_per_hour", "", e->setup.price_per_hour.value, FIGURE_USER);
    RULE_SAY(f->action,
             "Put more models or more traffic on this machine, or take a smaller one. This window is no day: "
             "look at the busiest hour first.");
    rule_effect(
        f, "cost_per_m_output", cost,
        (struct range){factor * (1 - threshold_other_hardware), fmin(1, factor * (1 + threshold_other_hardware))}, NAN,
        "used share over four fifths: a machine of that size at a price in proportion; 30 %% either way, "
        "because other hardware has to be measured");
    rule_input(f, "used_share", "share", fmin(1, used), FIGURE_MODELLED);
    rule_input(f, "price_per_hour", "", e->setup.price_per_hour.value, FIGURE_USER);
    f->benefit *= 0.5; // money, but nobody waits for it
    RULE_SAY(f->experiment, "optima bench URL_OF_THE_OTHER_MACHINE --rate %.3g", fmin(1e9, e->load.arrival_rate));
    RULE_SAY(f->success, "the same load within its objectives at a lower price");
    RULE_SAY(f->why, "An hour costs the same whether it serves one request or ten thousand.");
    return RULE_FIRES;
}

enum verdict_of_rule rule_idle_costs(const struct evidence *e, struct rule_result *r) {
    double idle = e->load.idle_share, busy = 1 - idle, cost = cost_per_million(e);
    if (!figure_known(e->setup.price_per_hour)) return RULE_UNKNOWN; // a question asks for it
    if (!RULE_KNOWN(idle, busy, cost) || busy < 0.001) return RULE_UNKNOWN;
    if (!rule_above(r, idle, threshold_utilisation))
        return rule_healthy(r, "the machine is busy %s of the time (fires below %s)", words_percent(busy).text,
                            words_percent(1 - threshold_utilisation).text);
    struct finding *f = rule_finds(r, BOTTLENECK_COST, TIME_IDLE, idle);
    RULE_SAY(f->diagnosis,
             "Idle time is %s of the time and as much of the bill: a million output tokens cost %s, of "
             "which %s are for working.",
             words_percent(idle).text, words_number(cost).text, words_number(cost * busy).text);
    rule_fact(f, "busy_share", "share", busy, FIGURE_MEASURED);
    rule_fact(f, "cost_per_m_output", "", cost, FIGURE_MODELLED);
    rule_fact(f, "price_per_hour", "", e->setup.price_per_hour.value, FIGURE_USER);
    RULE_SAY(f->action, "Fill idle time with work that can wait, such as batches at night, or switch the machine off "
                        "then.");
    rule_effect(f, "cost_per_m_output", cost, (struct range){busy, 2 * busy / (1 + busy)}, busy,
                "idle time filled with as costly tokens: all of it, or half");
    rule_input(f, "busy_share", "share", busy, FIGURE_MEASURED);
    rule_input(f, "price_per_hour", "", e->setup.price_per_hour.value, FIGURE_USER);
    f->benefit *= 0.5; // money, but nobody waits for it
    RULE_SAY(f->experiment, "optima bench %.110s --users 4 --duration 60, and look at the cost again", rule_url(e));
    RULE_SAY(f->success, "cost per million tokens falls in proportion to busy time");
    RULE_SAY(f->why, "The price of an hour is shared by the tokens of that hour.");
    return RULE_FIRES;
}
