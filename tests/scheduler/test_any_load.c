// Through the real engine, a request gets the same tokens and the same logprobs, bit for bit, whatever else runs: alone
// or in a crowd, in chunks of any size, after prefix hits, after preemption, with one or two threads and steps in
// flight, with right and wrong drafts.
#include "tests/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/draft_model.h"
#include "scheduler/step_loop.h"

#include <pthread.h>

enum { REQUESTS = 24, CHOICES_MAX = 2, CONTEXT = 64, VOCAB = 128, PROMPT_MAX = 48 };

struct question {
    struct generation generation;
    int32_t prompt[PROMPT_MAX];
    struct logit_edit bias[2];
};

// Everything that came back: it is compared as memory.
struct answer {
    struct sample_result tokens[CHOICES_MAX][CONTEXT], prompt[PROMPT_MAX];
    int32_t n_tokens[CHOICES_MAX], n_prompt;
};

struct load {
    const char *what;
    bool one_by_one, no_prefix_cache;
    int32_t chunk_max, rows_max, sequences_max, steps_in_flight, n_blocks;
    int n_threads;
    bool preempts, hits;                 // what must happen under this load
    int32_t draft_tokens, wrong_percent; // drafts of what the request gets, so many of them spoiled; 0: none
    bool ngram;                          // drafts by prompt lookup instead
    bool itself;                         // drafts by the same model, in an engine of its own
    bool turns_knobs;                    // all of them, at random, while it runs
};

// Knows the answers, and errs on purpose.
struct oracle {
    struct proposer common;
    const struct answer *expected;
    int32_t wrong_percent;
    uint64_t n_calls;
};

struct server {
    struct oracle oracle;
    struct proposer *proposer; // NULL: the oracle
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct step_loop *loop;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool woken, all_submitted;
    bool turns_knobs;
    uint32_t n_turned[KNOBS], n_turns; // of the step thread
};

static void turn_knobs(struct server *server) {
    const uint64_t turn = server->n_turns++, key = rng_key(31, turn, 0);
    struct knobs knobs;
    step_loop_read_knobs(server->loop, &knobs);
    for (int id = 0; id < KNOBS; id++) {
        const struct knob *knob = &knobs.knob[id];
        if (!knob->available || (turn > 0 && rng_u32(key, (uint64_t)id) % 2)) continue;
        const int64_t n_values = knob->high - knob->low + 1;
        step_loop_set_knob(server->loop, (enum knob_id)id, knob->low + rng_u32(key, 100 + (uint64_t)id) % n_values);
        server->n_turned[id]++;
    }
}

static void on_wake(void *context) {
    struct server *server = context;
    pthread_mutex_lock(&server->mutex);
    server->woken = true;
    pthread_cond_broadcast(&server->changed);
    // A crowd is a crowd on any machine: after its first events, the step thread waits until everybody has come.
    while (!server->all_submitted) pthread_cond_wait(&server->changed, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
    if (server->turns_knobs) turn_knobs(server);
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct oracle *oracle = (struct oracle *)proposer;
    uint64_t key = rng_key(99, ++oracle->n_calls, 0);
    for (int32_t i = 0; i < n_queries; i++) {
        struct draft_query *query = &queries[i];
        const struct answer *answer = &oracle->expected[query->id - 1];
        query->n = 1 + (int32_t)(rng_u32(key, 1000 + (uint64_t)i) % (uint32_t)query->n_max);
        for (int32_t t = 0; t < query->n; t++) {
            int32_t index = query->n_generated + t;
            uint64_t draw = (uint64_t)(i * DRAFTS_MAX + t);
            bool knows = index < answer->n_tokens[query->choice] &&
                         rng_u32(key, 5000 + draw) % 100 >= (uint32_t)oracle->wrong_percent;
            query->tokens[t] =
                knows ? answer->tokens[query->choice][index].token : (int32_t)(rng_u32(key, 9000 + draw) % VOCAB);
        }
    }
}

static size_t no_bytes(const struct proposer *proposer) {
    (void)proposer;
    return 0;
}

static void open_draft(struct server *server, const char *model_path, const struct backend_options *backend) {
    struct err err = {0};
    struct memory_ledger ledger = {0};
    struct draft_model_options options = {.path = model_path,
                                          .target = server->model,
                                          .engine = server->engine,
                                          .backend = server->backend,
                                          .backend_options = *backend,
                                          .kv_format = "f32"};
    if (draft_model_open(&server->proposer, &options, &ledger, &err)) fail_msg("%s", err.text);
    assert_int_equal(ledger.n_rows, 1);
}

static void open_server(struct server *server, const char *model_path, const struct load *load,
                        const struct answer *expected) {
    struct err err = {0};
    struct model_options model = {.path = model_path};
    struct backend_options backend = {.device = "cpu", .instruction_set = "auto", .n_threads = load->n_threads};
    if (model_open(&server->model, &model, &err)) fail_msg("%s", err.text);
    if (backend_open(&server->backend, &backend, &err)) fail_msg("%s", err.text);
    const struct model_spec *spec = &server->model->spec;
    struct kv_shape kv = {.n_layers = spec->n_layers,
                          .n_kv_heads = spec->n_kv_heads,
                          .head_dim = spec->head_dim,
                          .block_tokens = 16,
                          .n_blocks = load->n_blocks,
                          .format = KV_F32};
    struct engine_options engine = {.rows_max = load->rows_max,
                                    .sequences_max = load->sequences_max,
                                    .steps_in_flight = load->steps_in_flight,
                                    .speculates = load->draft_tokens > 0,
                                    .kv_bytes = (uint64_t)load->n_blocks * kv_bytes_per_block(&kv),
                                    .kv_format = "f32"};
    if (engine_open(&server->engine, server->model, server->backend, &engine, &err)) fail_msg("%s", err.text);
    assert_int_equal(engine_limits(server->engine)->n_blocks, load->n_blocks);
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->changed, NULL);
    struct step_loop_options options = {.queue_max = 2 * REQUESTS,
                                        .settings = {.no_prefix_cache = load->no_prefix_cache,
                                                     .chunk_max = load->chunk_max,
                                                     .draft_tokens = load->draft_tokens},
                                        .wake = on_wake,
                                        .wake_context = server};
    server->oracle = (struct oracle){.common = {.name = "oracle", .propose = propose, .bytes = no_bytes},
                                     .expected = expected,
                                     .wrong_percent = load->wrong_percent};
    if (load->ngram) server->proposer = ngram_proposer_open();
    if (load->itself) open_draft(server, model_path, &backend);
    server->turns_knobs = load->turns_knobs;
    if (load->draft_tokens) options.proposer = server->proposer ? server->proposer : &server->oracle.common;
    if (step_loop_open(&server->loop, server->engine, &options, &err)) fail_msg("%s", err.text);
}

static void close_server(struct server *server) {
    step_loop_close(server->loop);
    proposer_close(server->proposer);
    engine_close(server->engine);
    backend_close(server->backend);
    model_close(server->model);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->changed);
}

// Plain ones have nothing that a draft model does not know about: penalties, biases, bans and stop tokens.
static void make_questions(struct question *questions, bool is_plain) {
    for (int32_t q = 0; q < REQUESTS; q++) {
        uint64_t key = rng_key(7, (uint64_t)q, 0), shared_key = rng_key(8, (uint64_t)q % 3, 0);
        struct question *question = &questions[q];
        struct generation *g = &question->generation;
        int32_t n_shared = (int32_t)(rng_u32(key, 0) % PROMPT_MAX);
        for (int32_t i = 0; i < PROMPT_MAX; i++)
            question->prompt[i] = (int32_t)(rng_u32(i < n_shared ? shared_key : key, 100 + (uint64_t)i) % VOCAB);
        *g = (struct generation){.id = (uint64_t)q + 1,
                                 .prompt = question->prompt,
                                 .n_prompt = 1 + (int32_t)(rng_u32(key, 1) % (q % 3 ? 14 : PROMPT_MAX)),
                                 .n_choices = 1 + q % CHOICES_MAX,
                                 .n_prompt_top_logprobs = q % 6 == 5 ? 2 : -1,
                                 .bias = question->bias,
                                 .key_id = (uint64_t)q % 2};
        g->max_tokens = q % 2 == 0 ? CONTEXT - g->n_prompt : 10;
        g->ignore_eos = q % 4 == 0;
        g->n_stop_tokens = 1;
        g->stop_tokens[0] = (int32_t)(rng_u32(key, 2) % VOCAB);
        g->min_tokens = q % 5;
        g->sampling = (struct sample_params){.temperature = q % 3 ? 1.0f : 0,
                                             .top_k = q % 4 == 1 ? 40 : 0,
                                             .top_p = q % 4 == 2 ? 0.9f : 1,
                                             .min_p = q % 8 == 3 ? 0.05f : 0,
                                             .repetition_penalty = q % 5 == 1 ? 1.2f : 1,
                                             .presence_penalty = q % 5 == 2 ? 0.7f : 0,
                                             .frequency_penalty = q % 5 == 3 ? 0.4f : 0,
                                             .seed = (uint64_t)q,
                                             .n_top_logprobs = 3};
        if (q % 7 == 0) {
            g->n_bias = 2;
            question->bias[0] = (struct logit_edit){5, 4.5f};
            question->bias[1] = (struct logit_edit){9, -3.0f};
        }
        if (!is_plain) continue;
        g->n_bias = g->n_stop_tokens = g->min_tokens = 0;
        g->sampling.repetition_penalty = 1;
        g->sampling.presence_penalty = g->sampling.frequency_penalty = 0;
    }
}

// Only what the contract gives a meaning to.
static struct sample_result meaningful(const struct sample_result *sample) {
    struct sample_result out = {.token = sample->token, .n_top = sample->n_top, .logprob = sample->logprob};
    memcpy(out.top_token, sample->top_token, (size_t)sample->n_top * sizeof *out.top_token);
    memcpy(out.top_logprob, sample->top_logprob, (size_t)sample->n_top * sizeof *out.top_logprob);
    return out;
}

// Takes events until n choices have ended.
static void receive(struct server *server, struct answer *answers, int32_t n) {
    while (n > 0) {
        pthread_mutex_lock(&server->mutex);
        while (!server->woken) pthread_cond_wait(&server->changed, &server->mutex);
        server->woken = false;
        pthread_mutex_unlock(&server->mutex);
        const struct generation_event *events;
        size_t n_events = step_loop_take_events(server->loop, &events);
        for (size_t i = 0; i < n_events; i++) {
            const struct generation_event *event = &events[i];
            struct answer *answer = &answers[event->id - 1];
            if (event->kind == EVENT_PROMPT_LOGPROB)
                answer->prompt[answer->n_prompt++] = meaningful(&event->sample);
            else if (event->kind == EVENT_TOKEN)
                answer->tokens[event->choice][answer->n_tokens[event->choice]++] = meaningful(&event->sample);
            else
                fail_msg("request %d ended with reason %d", (int)event->id, (int)event->finish);
            n -= event->finish != FINISH_NONE;
        }
    }
}

static void ask(const char *model_path, const struct load *load, const struct question *questions, bool is_plain,
                const struct answer *expected, struct answer *answers) {
    struct server server = {0};
    open_server(&server, model_path, load, expected);
    server.all_submitted = load->one_by_one;
    int32_t n_waiting = 0;
    for (int32_t q = 0; q < REQUESTS; q++) {
        struct err err;
        if (step_loop_submit(server.loop, &questions[q].generation, &err)) fail_msg("%s", err.text);
        n_waiting += questions[q].generation.n_choices;
        if (!load->one_by_one) continue;
        receive(&server, answers, n_waiting);
        n_waiting = 0;
    }
    pthread_mutex_lock(&server.mutex);
    server.all_submitted = true;
    pthread_cond_broadcast(&server.changed);
    pthread_mutex_unlock(&server.mutex);
    receive(&server, answers, n_waiting);
    struct step_loop_stats stats;
    step_loop_stats(server.loop, &stats);
    // Whether there was one depends on how fast steps are; the simulation preempts for certain.
    if (load->preempts && !stats.n_preemptions) print_message("%s: no sequence was preempted\n", model_path);
    if (load->hits) assert_true(stats.n_prefix_hits > 0);
    const bool drafts = load->draft_tokens && !load->turns_knobs;
    if (drafts) assert_true(stats.n_draft_tokens > REQUESTS);
    struct knobs knobs;
    step_loop_read_knobs(server.loop, &knobs);
    for (int id = 0; id < KNOBS; id++)
        if (load->turns_knobs && knobs.knob[id].available) assert_true(server.n_turned[id] > 0);
    if (drafts && !load->ngram && load->wrong_percent < 100) assert_true(stats.n_draft_tokens_accepted > REQUESTS);
    // What a model says twice, it says alike: with its own draft, whatever was rejected, shared or preempted before.
    if (load->itself && is_plain) assert_int_equal(stats.n_draft_tokens_accepted, stats.n_draft_tokens);
    close_server(&server);
}

static void compare(const struct load *load, const struct answer *got, const struct answer *expected) {
    for (int32_t q = 0; q < REQUESTS; q++) {
        if (memcmp(&got[q], &expected[q], sizeof *got) == 0) continue;
        for (int32_t c = 0; c < CHOICES_MAX; c++)
            for (int32_t i = 0; i < expected[q].n_tokens[c]; i++)
                if (memcmp(&got[q].tokens[c][i], &expected[q].tokens[c][i], sizeof **got->tokens) != 0)
                    fail_msg("%s: request %d, choice %d, token %d is %d (%.9g) instead of %d (%.9g)", load->what, q, c,
                             i, got[q].tokens[c][i].token, (double)got[q].tokens[c][i].logprob,
                             expected[q].tokens[c][i].token, (double)expected[q].tokens[c][i].logprob);
        fail_msg("%s: request %d: prompt logprobs or lengths differ", load->what, q);
    }
}

static const struct load all_loads[] = {
    {"two threads", true, true, 0, 512, 16, 1, 400, 2, false, false, 0, 0, false, false, false},
    {"a crowd", false, true, 0, 512, 16, 1, 400, 1, false, false, 0, 0, false, false, false},
    {"a crowd on two threads with prefix hits", false, false, 0, 256, 32, 1, 400, 2, false, true, 0, 0, false, false,
     false},
    {"one after the other with prefix hits", true, false, 0, 64, 4, 1, 400, 2, false, true, 0, 0, false, false, false},
    {"chunks of three", false, false, 3, 24, 8, 1, 400, 1, false, false, 0, 0, false, false, false},
    {"few rows", false, true, 0, 9, 8, 1, 400, 2, false, false, 0, 0, false, false, false},
    {"preemption", false, false, 0, 64, 8, 1, 8, 1, true, false, 0, 0, false, false, false},
    {"preemption without a cache", false, true, 5, 32, 16, 1, 10, 2, true, false, 0, 0, false, false, false},
    {"two steps in flight", false, false, 0, 64, 8, 2, 400, 2, false, false, 0, 0, false, false, false},
    {"two steps in flight with preemption", false, false, 7, 40, 16, 2, 9, 1, true, false, 0, 0, false, false, false},
    {"right drafts, alone", true, true, 0, 512, 16, 1, 400, 2, false, false, DRAFTS_MAX, 0, false, false, false},
    {"one draft at a time in a crowd", false, false, 0, 256, 32, 1, 400, 1, false, true, 1, 30, false, false, false},
    {"drafts in a crowd with prefix hits", false, false, 0, 256, 32, 1, 400, 2, false, true, 4, 20, false, false,
     false},
    {"wrong drafts", false, false, 0, 64, 8, 1, 400, 1, false, false, 7, 100, false, false, false},
    {"drafts and preemption", false, false, 5, 64, 8, 1, 9, 2, true, false, 3, 20, false, false, false},
    {"drafts with two steps in flight and preemption", false, false, 7, 40, 16, 2, 9, 1, true, false, 5, 20, false,
     false, false},
    {"prompt lookup", false, false, 0, 128, 16, 1, 400, 2, false, false, 6, 0, true, false, false},
    {"its own drafts, alone", true, true, 0, 512, 16, 1, 400, 1, false, false, 4, 0, false, true, false},
    {"its own drafts in a crowd with prefix hits", false, false, 0, 256, 32, 1, 400, 2, false, true, 3, 0, false, true,
     false},
    {"knobs that turn", false, false, 0, 64, 16, 1, 400, 2, false, false, 0, 0, false, false, true},
    {"knobs that turn, with drafts, preemption and two steps in flight", false, false, 0, 40, 16, 2, 12, 2, true, false,
     5, 20, false, false, true},
    {"its own drafts and preemption", false, false, 5, 64, 8, 1, 9, 2, true, false, 5, 0, false, true, false},
};

static void check_loads(const char *model_path, const struct load *loads, size_t n_loads, bool is_plain) {
    static const struct load alone = {"alone", true,  true,  0, 512, 16,    1,     400,
                                      1,       false, false, 0, 0,   false, false, false};
    static struct question questions[REQUESTS];
    static struct answer expected[REQUESTS], got[REQUESTS];
    make_questions(questions, is_plain);
    memset(expected, 0, sizeof expected);
    ask(model_path, &alone, questions, is_plain, NULL, expected);
    for (size_t i = 0; i < n_loads; i++) {
        memset(got, 0, sizeof got);
        ask(model_path, &loads[i], questions, is_plain, expected, got);
        compare(&loads[i], got, expected);
    }
}

static void check_model(const char *model_path) {
    check_loads(model_path, all_loads, sizeof all_loads / sizeof *all_loads, false);
}

static void llama_answers_alike(void **state) {
    (void)state;
    check_model(TEST_SOURCE_DIR "/tests/golden/llama3_tied");
}

static void mistral_with_a_window_answers_alike(void **state) {
    (void)state;
    check_model(TEST_SOURCE_DIR "/tests/golden/mistral_window");
}

static void qwen_answers_alike(void **state) {
    (void)state;
    check_model(TEST_SOURCE_DIR "/tests/golden/qwen3");
}

static void a_model_accepts_all_of_its_own_drafts(void **state) {
    (void)state;
    static const struct load loads[] = {
        {"alone", true, true, 0, 512, 16, 1, 400, 1, false, false, 4, 0, false, true, false},
        {"prefix hits", false, false, 0, 256, 32, 1, 400, 2, false, true, 3, 0, false, true, false},
        {"preemption", false, false, 5, 64, 8, 1, 9, 2, true, false, 5, 0, false, true, false},
        {"chunks", false, false, 3, 24, 8, 1, 400, 1, false, false, 2, 0, false, true, false},
    };
    check_loads(TEST_SOURCE_DIR "/tests/golden/llama3_tied", loads, sizeof loads / sizeof *loads, true);
    check_loads(TEST_SOURCE_DIR "/tests/golden/mistral_window", loads, sizeof loads / sizeof *loads, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_answers_alike),
        cmocka_unit_test(mistral_with_a_window_answers_alike),
        cmocka_unit_test(qwen_answers_alike),
        cmocka_unit_test(a_model_accepts_all_of_its_own_drafts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
