// Speculation does not change how often a token is drawn: more than a million draws of the real sampler, accepted and
// rejected as the scheduler does it, against probabilities that are computed here.
//
// The model is a table: the logits of the next token depend on the last one alone. So is the draft model, which has
// other logits.
#include "tests/test.h"

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "tests/scheduler/desk.h"

#include <math.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { DRAWS = 50 * 1000 };
#else
enum { DRAWS = 1100 * 1000 };
#endif
enum { VOCAB = 12, TOKENS = 500, DRAFTS = 4, AT_ONCE = 8 };

// How a draft is chosen.
enum guess {
    GUESS_SAME_NOISE, // as the draft model draws with the target's seed and position
    GUESS_OTHER_NOISE,
    GUESS_LIKELY,
    GUESS_BLIND,
};

struct world {
    struct proposer common;
    enum guess guess;
    float target[VOCAB][VOCAB], draft[VOCAB][VOCAB]; // logits behind each token
    const struct kernel_table *kernels;
    struct sample_scratch scratch;
    float memory[2 * VOCAB];
    struct sample_candidate candidates[VOCAB];
    uint64_t n_guesses;
    double counts[VOCAB][VOCAB]; // of tokens behind each token
    int32_t last[DRAWS / TOKENS + AT_ONCE + 1];
};

static int32_t draw(struct world *world, const float *logits, const struct sample_params *params) {
    struct step_input none = {0};
    struct sample_result result;
    world->kernels->sample(&result, logits, VOCAB, params, &none, &world->scratch);
    return result.token;
}

static int32_t guess(struct world *world, const struct draft_query *query, int32_t last, int32_t position) {
    const float *logits = world->draft[last];
    struct sample_params params = *query->sampling;
    params.position = position;
    params.forced_token = -1;
    params.edit_count = params.seen_count = 0;
    if (world->guess == GUESS_OTHER_NOISE) params.seed += 1000 * 1000;
    if (world->guess == GUESS_LIKELY) params.temperature = 0;
    if (world->guess == GUESS_BLIND) return (int32_t)(rng_u32(rng_key(3, 0, 0), world->n_guesses++) % VOCAB);
    return draw(world, logits, &params);
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct world *world = (struct world *)proposer;
    for (int32_t i = 0; i < n_queries; i++) {
        struct draft_query *query = &queries[i];
        int32_t n_known = draft_query_n_known(query), last = draft_query_token(query, n_known - 1);
        while (query->n < query->n_max) {
            last = guess(world, query, last, n_known + query->n);
            query->tokens[query->n++] = last;
        }
    }
}

static size_t no_bytes(const struct proposer *proposer) {
    (void)proposer;
    return 0;
}

static void open_world(struct world *world, enum guess guess) {
    *world = (struct world){.common = {.name = "table", .propose = propose, .bytes = no_bytes}, .guess = guess};
    world->kernels = cpu_kernels_find("auto");
    world->scratch = (struct sample_scratch){world->memory, world->memory + VOCAB, world->candidates};
    uint64_t n = 0, key = rng_key(17, 0, 0);
    for (int a = 0; a < VOCAB; a++)
        for (int b = 0; b < VOCAB; b++) {
            world->target[a][b] = (float)(rng_u32(key, n++) % 1000) / 400;
            world->draft[a][b] = world->target[a][b] + (float)(rng_u32(key, n++) % 1000) / 900;
        }
}

static void submit(struct desk *desk, const struct world *world, uint64_t id, float top_p) {
    static const int32_t prompt[] = {0};
    (void)world;
    struct generation g = {
        .id = id, .prompt = prompt, .n_prompt = 1, .n_choices = 1, .max_tokens = TOKENS, .n_prompt_top_logprobs = -1};
    g.sampling = (struct sample_params){
        .temperature = 0.9f, .top_p = top_p, .repetition_penalty = 1, .n_top_logprobs = -1, .seed = id};
    desk_submit(desk, &g);
}

static void run_step(struct desk *desk, struct world *world) {
    struct step_input *input = &desk->engine->inputs[0];
    struct sample_result results[64];
    input->n_rows = input->n_sequences = input->n_logit_rows = 0;
    input->n_block_table = input->n_edits = input->n_seen = 0;
    assert_true(scheduler_plan(desk->scheduler, input, 1));
    for (int32_t l = 0; l < input->n_logit_rows; l++)
        results[l].token = draw(world, world->target[input->token[input->logit_row[l]]], &input->sample[l]);
    scheduler_commit(desk->scheduler, results, 1, &desk->events);
    for (size_t i = 0; i < desk->events.count; i++) {
        const struct generation_event *event = &desk->events.items[i];
        int32_t *last = &world->last[event->id];
        world->counts[*last][event->sample.token]++;
        *last = event->sample.token;
    }
    desk->events.count = 0;
}

// Probabilities behind a token, at temperature 0.9, of the smallest set of tokens that reaches top_p.
static void expect(const float *logits, double top_p, double *out) {
    double sum = 0, kept = 0;
    bool keeps[VOCAB] = {false};
    for (int i = 0; i < VOCAB; i++) sum += out[i] = exp((double)logits[i] / (double)0.9f);
    for (int i = 0; i < VOCAB; i++) out[i] /= sum;
    while (kept < top_p - 1e-9) {
        int best = -1;
        for (int i = 0; i < VOCAB; i++)
            if (!keeps[i] && (best < 0 || out[i] > out[best])) best = i;
        if (best < 0) break;
        keeps[best] = true;
        kept += out[best];
    }
    for (int i = 0; i < VOCAB; i++) out[i] = keeps[i] ? out[i] / kept : 0;
}

// Of all transitions; *freedom: degrees of freedom.
static double chi_square(const struct world *world, double top_p, int *freedom) {
    double total = 0;
    *freedom = 0;
    for (int a = 0; a < VOCAB; a++) {
        double p[VOCAB], n = 0;
        expect(world->target[a], top_p, p);
        for (int b = 0; b < VOCAB; b++) n += world->counts[a][b];
        for (int b = 0; n > 0 && b < VOCAB; b++) {
            if (p[b] == 0) assert_true(world->counts[a][b] == 0);
            if (p[b] == 0) continue;
            total += (world->counts[a][b] - n * p[b]) * (world->counts[a][b] - n * p[b]) / (n * p[b]);
            ++*freedom;
        }
        if (n > 0) --*freedom;
    }
    return total;
}

// Share of the drafts behind accepted ones that rejection sampling would keep: 1 minus the total variation distance.
static double overlap(const struct world *world) {
    double sum = 0, n_all = 0;
    for (int a = 0; a < VOCAB; a++) {
        double p[VOCAB], q[VOCAB], n = 0, same = 0;
        expect(world->target[a], 1, p);
        expect(world->draft[a], 1, q);
        for (int b = 0; b < VOCAB; b++) same += fmin(p[b], q[b]), n += world->counts[a][b];
        sum += same * n;
        n_all += n;
    }
    return sum / n_all;
}

static double run_world(struct world *world, float top_p, uint64_t n_draws, double *acceptance) {
    struct desk desk = desk_make();
    desk.limits.vocab = VOCAB;
    desk.limits.logit_rows_max = desk.limits.rows_max = 64;
    desk.limits.sequences_max = AT_ONCE;
    desk.limits.n_blocks = 2000;
    desk.options.proposer = &world->common;
    desk.options.settings.draft_tokens = DRAFTS;
    desk.options.settings.no_prefix_cache = true;
    desk_start(&desk);
    uint64_t n_requests = n_draws / TOKENS + 1;
    for (uint64_t id = 1; id <= n_requests; id++) submit(&desk, world, id, top_p);
    while (desk_counters(&desk).n_finished < n_requests) run_step(&desk, world);
    struct scheduler_counters counters = desk_counters(&desk);
    assert_true(counters.n_generated_tokens >= n_draws);
    // Tried: drafts that stood behind accepted ones. Each query ends with one rejection or none.
    double tried = 0, before = (double)counters.n_drafts;
    for (int i = 0; i < DRAFTS; i++) tried += before, before = (double)counters.n_accepted_at[i];
    *acceptance = (double)counters.n_draft_tokens_accepted / tried;
    desk_close(&desk);
    int freedom;
    double chi = chi_square(world, (double)top_p, &freedom);
    return (chi - freedom) / sqrt(2.0 * freedom);
}

static void the_distribution_is_the_targets(void **state) {
    (void)state;
    static const struct {
        const char *what;
        enum guess guess;
        float top_p;
        uint64_t n_draws;
    } rows[] = {
        {"drafts with the same noise", GUESS_SAME_NOISE, 1, DRAWS},
        {"drafts with the same noise, top_p", GUESS_SAME_NOISE, 0.8f, DRAWS / 5},
        {"drafts with other noise", GUESS_OTHER_NOISE, 1, DRAWS / 10},
        {"the likeliest token as a draft", GUESS_LIKELY, 1, DRAWS / 10},
        {"blind drafts", GUESS_BLIND, 0.8f, DRAWS / 10},
    };
    static struct world world;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double acceptance;
        open_world(&world, rows[i].guess);
        double deviation = run_world(&world, rows[i].top_p, rows[i].n_draws, &acceptance), same = overlap(&world);
        printf("%s: chi-square %+.2f deviations from its mean, %.3f of the drafts accepted; rejection sampling %.3f\n",
               rows[i].what, deviation, acceptance, same);
        // Beyond 4 deviations there is less than one chance in ten thousand.
        assert_true(fabs(deviation) < 4);
        if (rows[i].guess != GUESS_SAME_NOISE || rows[i].top_p < 1) continue;
        // With common noise, drafts agree at least (1 - d) / (1 + d) of the time at a distance d, and at most 1 - d.
        assert_true(acceptance > same / (2 - same) - 0.01 && acceptance < same + 0.01);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_distribution_is_the_targets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
