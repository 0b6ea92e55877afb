// Rules about what surrounds a step: gaps between steps, masks, text, sockets.
#include "advisor/rule_functions.h"
#include "advisor/rule_kit.h"

#include <math.h>

// ------------------------------------------------------------------------------------------------- R15: gaps

// On a CPU, HTTP and text work share the cores with the step's threads.
static bool shares_its_cores(const struct evidence *e) {
    const struct machine_figures *m = &e->machine;
    double others = e->host.loop_busy_share + e->host.text_busy_share;
    return !e->setup.is_gpu && m->threads > 1 && m->threads >= m->physical_cores && others > threshold_gap_share;
}

static void leave_a_core(struct finding *f, const struct evidence *e, struct range gain) {
    const struct machine_figures *m = &e->machine;
    RULE_SAY(f->action, "Leave one core to HTTP and text work: %d compute threads instead of %d.", (int)m->threads - 1,
             (int)m->threads);
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, gain, NAN,
                "measured read bandwidth of %d over %d threads; at best the gap goes as well", (int)m->threads - 1,
                (int)m->threads);
    rule_input(f, "read_bandwidth_then", "bytes/s", m->read_curve[m->threads - 2], FIGURE_MEASURED);
    rule_input(f, "read_bandwidth_now", "bytes/s", m->read_curve[m->threads - 1], FIGURE_MEASURED);
    rule_set_knob(f, e, KNOB_THREADS, m->threads - 1);
}

static void plan_ahead(struct finding *f, const struct evidence *e, double gap) {
    RULE_SAY(f->action, "Plan the next step while the device works on this one.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, 1 / (1 - gap)}, 1 / (1 - gap),
                "1 / (1 - gap): at best planning hides behind the device's work, at worst nothing of it");
    rule_input(f, "host_gap_share", "share", gap, FIGURE_MEASURED);
    rule_set_flag(f, e, "--steps-in-flight 2");
}

static void say_where_gaps_come_from(struct finding *f, const struct evidence *e) {
    RULE_SAY(f->action, "%s",
             e->setup.is_gpu ? "Steps are planned ahead already. More sequences at once make each step longer, and "
                               "the gap a smaller share of it."
                             : "Nothing to set here. On a CPU, planning a step and handing out tokens use the cores "
                               "of the step; more sequences at once make each step longer, and the gap a smaller "
                               "share of it.");
    RULE_SAY(f->experiment, "optima bench %.120s --users 1, then --users 8", rule_url(e));
    RULE_SAY(f->success, "the gap's share of busy time falls with more users");
}

enum verdict_of_rule rule_host_gap(const struct evidence *e, struct rule_result *r) {
    const struct machine_figures *m = &e->machine;
    double gap = e->host.gap_share;
    if (!RULE_KNOWN(gap, e->host.gap_s, e->load.output_rate, e->load.idle_share) || gap > 0.95) return RULE_UNKNOWN;
    if (!rule_above(r, gap, threshold_gap_share))
        return rule_healthy(r, "host gap %s of busy time (fires above %s)", words_percent(gap).text,
                            words_percent(threshold_gap_share).text);
    struct finding *f = rule_finds(r, BOTTLENECK_HOST, TIME_HOST_GAP, gap * (1 - fmin(1, e->load.idle_share)));
    RULE_SAY(f->diagnosis, "Between two steps the %s waits %s for the host: %s of busy time.",
             e->setup.is_gpu ? "device" : "model", words_seconds(e->host.gap_s).text, words_percent(gap).text);
    rule_fact(f, "host_gap_share", "share", gap, FIGURE_MEASURED);
    rule_fact(f, "host_gap_per_step", "s", e->host.gap_s, FIGURE_MEASURED);
    if (RULE_KNOWN(e->host.loop_busy_share))
        rule_fact(f, "http_thread_busy", "share", fmin(1, e->host.loop_busy_share), FIGURE_MEASURED);
    bool has_curve = shares_its_cores(e) && m->threads <= m->n_read_curve && m->n_read_curve <= 64;
    double fewer = has_curve ? m->read_curve[m->threads - 2] / m->read_curve[m->threads - 1] : NAN;
    if (e->setup.is_gpu && e->setup.steps_in_flight == 1)
        plan_ahead(f, e, gap);
    else if (RULE_KNOWN(fewer) && fewer > 0 && fewer / (1 - gap) > threshold_gain_least)
        leave_a_core(f, e, (struct range){fewer, fewer / (1 - gap)});
    else
        say_where_gaps_come_from(f, e);
    if (!f->success[0]) RULE_SAY(f->success, "host gap below %s of busy time", words_percent(threshold_gap_share).text);
    RULE_SAY(f->why, "While the host commits one step and plans the next, nothing is computed. The gap has the same "
                     "length for one row or a hundred.");
    return RULE_FIRES;
}

// -------------------------------------------------------------------------------------------------- R20: masks

enum verdict_of_rule rule_masks_heavy(const struct evidence *e, struct rule_result *r) {
    double share = e->host.mask_share;
    if (!RULE_KNOWN(share, e->load.output_rate) || share > 0.95) return RULE_UNKNOWN; // also: nobody builds masks
    if (!rule_above(r, share, threshold_mask_share))
        return rule_healthy(r, "masks of grammars take %s of busy time (fires above %s)", words_percent(share).text,
                            words_percent(threshold_mask_share).text);
    struct finding *f = rule_finds(r, BOTTLENECK_HOST, TIME_HOST_GAP, share);
    RULE_SAY(f->diagnosis, "Steps wait for masks of grammars: %s of busy time.", words_percent(share).text);
    rule_fact(f, "mask_share", "share", share, FIGURE_MEASURED);
    RULE_SAY(f->action,
             "Nothing to set in the server. Send the same schema in the same words, so that its compiled form "
             "is found again, and keep free text out of it.");
    rule_effect(f, "output_tokens_per_s", e->load.output_rate, (struct range){1, 1 / (1 - share)}, 1 / (1 - share),
                "1 / (1 - share): at best masks cost nothing");
    rule_input(f, "mask_share", "share", share, FIGURE_MEASURED);
    RULE_SAY(f->experiment, "optima bench %.120s, with and without the schema in --extra", rule_url(e));
    RULE_SAY(f->success, "the difference in ITL p95 is what masks cost");
    RULE_SAY(f->why, "Which tokens a grammar allows depends on the text so far, so masks are made between two steps.");
    return RULE_FIRES;
}

// --------------------------------------------------------------------------------------------------- R21: text

enum verdict_of_rule rule_text_bound(const struct evidence *e, struct rule_result *r) {
    const struct host_figures *host = &e->host;
    double ttft = e->ttft.p50.mean, of_ttft = rule_share_of(host->text_s_per_request, ttft);
    double of_request = rule_share_of(host->text_s_per_request, e->load.residence_mean);
    if (!RULE_KNOWN(host->loop_busy_share, host->text_busy_share, host->text_s_per_request, ttft,
                    e->load.residence_mean) ||
        ttft <= 0)
        return RULE_UNKNOWN;
    bool by_loop = rule_above(r, host->loop_busy_share, threshold_thread_busy);
    bool by_text = rule_above(r, host->text_busy_share, threshold_thread_busy);
    bool by_time =
        rule_above(r, of_ttft, threshold_text_of_ttft) && rule_above(r, of_request, threshold_text_of_request);
    if (!by_loop && !by_text && !by_time)
        return rule_healthy(r, "text takes %s a request, %s of TTFT; the HTTP thread is %s busy",
                            words_seconds(host->text_s_per_request).text, words_percent(of_ttft).text,
                            words_percent(host->loop_busy_share).text);
    struct finding *f =
        rule_finds(r, BOTTLENECK_HOST, TIME_LINES,
                   fmax(of_request, fmax(by_loop ? host->loop_busy_share : 0, by_text ? host->text_busy_share : 0)));
    if (by_loop)
        RULE_SAY(f->diagnosis, "The thread that reads and writes HTTP is %s busy: tokens wait to be sent.",
                 words_percent(host->loop_busy_share).text);
    else
        RULE_SAY(f->diagnosis, "Template and tokenizer take %s a request, %s of the time to the first token.",
                 words_seconds(host->text_s_per_request).text, words_percent(of_ttft).text);
    rule_fact(f, "text_per_request", "s", host->text_s_per_request, FIGURE_MEASURED);
    rule_fact(f, "http_thread_busy", "share", fmin(1, host->loop_busy_share), FIGURE_MEASURED);
    rule_fact(f, "text_threads_busy", "share", fmin(1, host->text_busy_share), FIGURE_MEASURED);
    rule_fact(f, "ttft_p50", "s", ttft, FIGURE_MEASURED);
    RULE_SAY(f->action, "%s",
             by_loop ? "Nothing to set here: ask for whole answers (\"stream\": false) where nobody reads "
                       "along, or divide the streams between two servers."
                     : "Nothing to set here: send shorter prompts, or token ids to /v1/completions; if "
                       "the text is short, something slows these threads (a full processor?).");
    // Half of the text work goes, or all of it, and with it the waiting for the text of others.
    const double alone = e->prompt.ttft_short_alone, waiting = rule_share_of(e->queue.p50.mean, ttft);
    const bool has_alone = RULE_KNOWN(alone, waiting) && alone < ttft;
    const double least = fmin(1 - of_ttft, waiting + (has_alone ? 0.5 * alone / ttft : 0));
    rule_effect(
        f, "ttft_p50_s", ttft, (struct range){fmax(0.005, least), 1 - of_ttft / 2}, NAN,
        "at best the wait for the model and half of a prompt's modelled time, if known, are left; at worst half "
        "of the text's time goes");
    rule_input(f, "text_share_of_ttft", "share", of_ttft, FIGURE_MEASURED);
    if (has_alone) rule_input(f, "prompt_alone", "s", alone, FIGURE_MODELLED);
    RULE_SAY(f->experiment, "optima bench %.110s --prompt-tokens 16, then --prompt-tokens 512", rule_url(e));
    RULE_SAY(f->success, "text per request and TTFT grow together: then it is the text");
    RULE_SAY(f->why, "Text is turned into tokens before a request can be planned, on threads beside the model. What "
                     "they take is time in which the model may have nothing to do.");
    return RULE_FIRES;
}

// ---------------------------------------------------------------------------------------- R22, R23: sockets and events

enum verdict_of_rule rule_slow_readers(const struct evidence *e, struct rule_result *r) {
    double blocked = e->host.blocked_stream_share;
    if (!RULE_KNOWN(blocked) || blocked > 1) return RULE_UNKNOWN;
    if (!rule_above(r, blocked, threshold_blocked_streams))
        return rule_healthy(r, "%s of the streams waited for their reader (fires above %s)",
                            words_percent(blocked).text, words_percent(threshold_blocked_streams).text);
    struct finding *f = rule_finds(r, BOTTLENECK_NETWORK, TIME_LINES, blocked);
    RULE_SAY(f->diagnosis, "%s of the streams have a reader that does not take what is there for a tenth of a second.",
             words_percent(blocked).text);
    rule_fact(f, "blocked_streams", "share", blocked, FIGURE_MEASURED);
    RULE_SAY(f->action,
             "Nothing to change in the server: a slow reader never stops a step, its tokens wait in a buffer "
             "of its own. Look at these clients and the network or proxy in front of them.");
    RULE_SAY(f->experiment, "optima bench %.110s --users 8, then with --slow-reader 50%%", rule_url(e));
    RULE_SAY(f->success, "ITL p99 of the other streams within 3 %%");
    RULE_SAY(f->why, "What such a client measures as time between tokens is its own reading, not this server's speed.");
    f->benefit = blocked;
    return RULE_FIRES;
}

enum verdict_of_rule rule_tokens_share_events(const struct evidence *e, struct rule_result *r) {
    double tokens = e->host.tokens_per_event;
    if (!RULE_KNOWN(tokens) || tokens < 0.5) return RULE_UNKNOWN;
    if (!rule_above(r, tokens, threshold_tokens_per_event))
        return rule_healthy(r, "%s tokens an event (fires above %s)", words_number(tokens).text,
                            words_number(threshold_tokens_per_event).text);
    struct finding *f = rule_finds(r, BOTTLENECK_MEASUREMENT, TIME_LINES, 0);
    RULE_SAY(f->diagnosis,
             "An event of a stream carries %s tokens on average: clients that time events see longer gaps "
             "than there are between tokens.",
             words_number(tokens).text);
    rule_fact(f, "tokens_per_event", "tokens", tokens, FIGURE_MEASURED);
    RULE_SAY(f->action, "Nothing is slow here. Let clients divide by tokens (usage), or take this server's own ITL.");
    RULE_SAY(f->experiment, "optima bench %.120s --users 1", rule_url(e));
    RULE_SAY(f->success, "ITL by tokens agrees with the server's");
    RULE_SAY(f->why, "Tokens that are ready together, after accepted drafts or while a reader was busy, are written "
                     "together.");
    return RULE_FIRES;
}
