// The step loop between threads: submitters, cancellers and one receiver, over an engine whose answers are known.
#include "tests/test.h"

#include "scheduler/step_loop.h"
#include "tests/scheduler/fake_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { VOCAB = 101, THREADS = 3, REQUESTS_PER_THREAD = 60, REQUESTS = THREADS * REQUESTS_PER_THREAD, PROMPT_MAX = 40 };

// The receiver's side of one request.
struct expectation {
    struct generation generation;
    int32_t prompt[PROMPT_MAX];
    struct fake_answer answers[2];
    int32_t n_received[2];
    enum finish_reason finish[2];
};

struct fixture {
    struct engine *engine;
    struct step_loop *loop;
    struct expectation expected[REQUESTS + 1]; // by id
    int32_t n_over;                            // choices
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool woken;
    int n_steps_allowed; // -1: any number
};

static void on_wake(void *context) {
    struct fixture *f = context;
    pthread_mutex_lock(&f->mutex);
    f->woken = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void wait_for_permission(void *context) {
    struct fixture *f = context;
    pthread_mutex_lock(&f->mutex);
    while (f->n_steps_allowed == 0) pthread_cond_wait(&f->changed, &f->mutex);
    if (f->n_steps_allowed > 0) f->n_steps_allowed--;
    pthread_mutex_unlock(&f->mutex);
}

static void allow_steps(struct fixture *f, int n) {
    pthread_mutex_lock(&f->mutex);
    f->n_steps_allowed = n;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static struct fixture *open_fixture(int32_t sequences_max, int32_t queue_max, int32_t steps_in_flight) {
    struct fixture *f = mem_alloc_zero(1, sizeof *f);
    struct engine_limits limits = {.context = 80,
                                   .rows_max = 24,
                                   .sequences_max = sequences_max,
                                   .logit_rows_max = sequences_max,
                                   .block_tokens = 4,
                                   .n_blocks = 60,
                                   .block_table_max = 20 * sequences_max,
                                   .edits_max = 64,
                                   .seen_max = 80,
                                   .steps_in_flight = steps_in_flight,
                                   .vocab = VOCAB};
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->n_steps_allowed = -1;
    f->engine = fake_engine_open(&limits);
    f->engine->before_collect = wait_for_permission;
    f->engine->context = f;
    struct step_loop_options options = {.queue_max = queue_max, .wake = on_wake, .wake_context = f};
    struct err err;
    assert_int_equal(step_loop_open(&f->loop, f->engine, &options, &err), 0);
    return f;
}

static void close_fixture(struct fixture *f) {
    allow_steps(f, -1);
    step_loop_close(f->loop);
    fake_engine_close(f->engine);
    for (int i = 0; i <= REQUESTS; i++)
        for (int32_t c = 0; c < f->expected[i].generation.n_choices; c++) fake_answer_close(&f->expected[i].answers[c]);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->changed);
    free(f);
}

static const struct generation *expect_request(struct fixture *f, uint64_t id, int32_t n_choices, int32_t max_tokens) {
    struct expectation *e = &f->expected[id];
    for (int32_t i = 0; i < PROMPT_MAX; i++)
        e->prompt[i] = (int32_t)(rng_u32(rng_key(id % 7, 0, 0), (uint64_t)i) % VOCAB);
    e->generation = (struct generation){.id = id,
                                        .prompt = e->prompt,
                                        .n_prompt = 1 + (int32_t)(rng_mix64(id) % PROMPT_MAX),
                                        .n_choices = n_choices,
                                        .max_tokens = max_tokens,
                                        .n_prompt_top_logprobs = -1,
                                        .key_id = id % 3};
    e->generation.sampling =
        (struct sample_params){.temperature = 1, .repetition_penalty = 1, .seed = id, .n_top_logprobs = -1};
    for (int32_t c = 0; c < n_choices; c++) e->answers[c] = fake_answer_make(&e->generation, c, VOCAB);
    return &e->generation;
}

static void receive(struct fixture *f, const struct generation_event *event) {
    struct expectation *e = &f->expected[event->id];
    assert_int_equal(e->finish[event->choice], FINISH_NONE);
    if (event->kind == EVENT_TOKEN) {
        assert_int_equal(event->index, e->n_received[event->choice]++);
        assert_int_equal(event->sample.token, e->answers[event->choice].tokens[event->index]);
        assert_true(event->scheduled_ns > 0 && event->at_ns >= event->scheduled_ns);
    }
    e->finish[event->choice] = event->finish;
    if (event->finish == FINISH_NONE) return;
    if (event->finish == FINISH_LENGTH)
        assert_int_equal(e->n_received[event->choice], e->generation.max_tokens);
    else
        assert_int_equal(event->finish, f->engine->fails_from ? FINISH_ERROR : FINISH_ABORT);
    pthread_mutex_lock(&f->mutex);
    f->n_over++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

// Receives until n_over choices have ended.
static void receive_until(struct fixture *f, int32_t n_over) {
    while (f->n_over < n_over) {
        pthread_mutex_lock(&f->mutex);
        while (!f->woken) pthread_cond_wait(&f->changed, &f->mutex);
        f->woken = false;
        pthread_mutex_unlock(&f->mutex);
        const struct generation_event *events;
        size_t n = step_loop_take_events(f->loop, &events);
        for (size_t i = 0; i < n; i++) receive(f, &events[i]);
    }
}

static void assert_idle(struct fixture *f) {
    // A step in flight may still hold blocks of what has ended; one more request comes after it.
    const struct generation *g = expect_request(f, 0, 1, 1);
    struct err err;
    assert_int_equal(step_loop_submit(f->loop, g, &err), 0);
    int32_t n_over = f->n_over + 1;
    receive_until(f, n_over);
    struct step_loop_stats stats;
    step_loop_stats(f->loop, &stats);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.n_blocks_used, 0);
}

struct client {
    struct fixture *fixture;
    int index;
};

static void *be_client(void *argument) {
    const struct client *client = argument;
    struct fixture *f = client->fixture;
    for (int i = 0; i < REQUESTS_PER_THREAD; i++) {
        uint64_t id = 1 + (uint64_t)(client->index * REQUESTS_PER_THREAD + i);
        const struct generation *g = &f->expected[id].generation;
        struct err err;
        int rc;
        // Read before the attempt: whatever ends after it makes room.
        for (;;) {
            pthread_mutex_lock(&f->mutex);
            int32_t n_over = f->n_over;
            pthread_mutex_unlock(&f->mutex);
            rc = step_loop_submit(f->loop, g, &err);
            if (rc != ERR_BUSY) break;
            int seconds = step_loop_retry_after_s(f->loop);
            if (seconds < 1 || seconds > 60) abort();
            pthread_mutex_lock(&f->mutex);
            while (f->n_over == n_over) pthread_cond_wait(&f->changed, &f->mutex);
            pthread_mutex_unlock(&f->mutex);
        }
        if (rc) abort();
        if (id % 5 == 0) step_loop_cancel(f->loop, id, id % 2 ? -1 : 0);
        struct step_loop_stats stats;
        step_loop_stats(f->loop, &stats);
    }
    return NULL;
}

static void many_threads_get_their_own_tokens(int32_t steps_in_flight) {
    struct fixture *f = open_fixture(6, 8, steps_in_flight);
    int32_t n_choices = 0;
    for (uint64_t id = 1; id <= REQUESTS; id++) {
        const struct generation *g = expect_request(f, id, 1 + id % 2, (int32_t)(id % 40));
        n_choices += g->n_choices;
    }
    pthread_t threads[THREADS];
    struct client clients[THREADS];
    for (int i = 0; i < THREADS; i++) {
        clients[i] = (struct client){f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, be_client, &clients[i]), 0);
    }
    receive_until(f, n_choices);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (uint64_t id = 1; id <= REQUESTS; id++)
        for (int32_t c = 0; c < f->expected[id].generation.n_choices; c++)
            if (id % 5 != 0) assert_int_equal(f->expected[id].finish[c], FINISH_LENGTH);
    assert_idle(f);
    close_fixture(f);
}

static void many_threads_one_step_in_flight(void **state) {
    (void)state;
    many_threads_get_their_own_tokens(1);
}

static void many_threads_two_steps_in_flight(void **state) {
    (void)state;
    many_threads_get_their_own_tokens(2);
}

static void a_full_queue_refuses_and_recovers(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 3, 1);
    allow_steps(f, 0);
    struct err err;
    for (uint64_t id = 1; id <= 5; id++)
        assert_int_equal(step_loop_submit(f->loop, expect_request(f, id, 1, 10), &err), 0);
    assert_int_equal(step_loop_submit(f->loop, expect_request(f, 6, 1, 10), &err), ERR_BUSY);
    assert_in_range(step_loop_retry_after_s(f->loop), 1, 60);
    allow_steps(f, -1);
    receive_until(f, 5);
    assert_idle(f);
    assert_int_equal(step_loop_submit(f->loop, &f->expected[6].generation, &err), 0);
    receive_until(f, 7);
    close_fixture(f);
}

static void what_can_never_run_is_refused(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 3, 1);
    struct err err;
    struct generation g = *expect_request(f, 1, 1, 10);
    g.max_tokens = 81 - g.n_prompt;
    assert_int_equal(step_loop_submit(f->loop, &g, &err), ERR_LIMIT);
    g.max_tokens = 1;
    f->expected[1].prompt[0] = VOCAB;
    assert_int_equal(step_loop_submit(f->loop, &g, &err), ERR_INVALID);
    assert_idle(f);
    close_fixture(f);
}

static void cancelled_requests_end_while_a_step_is_in_flight(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 8, 2);
    allow_steps(f, 3);
    struct err err;
    for (uint64_t id = 1; id <= 4; id++) // two run, two wait
        assert_int_equal(step_loop_submit(f->loop, expect_request(f, id, 2, 30), &err), 0);
    step_loop_cancel(f->loop, 1, -1);
    step_loop_cancel(f->loop, 2, 1);
    step_loop_cancel(f->loop, 4, -1);
    step_loop_cancel(f->loop, 999, -1);
    step_loop_cancel(f->loop, 3, 77);
    allow_steps(f, -1);
    receive_until(f, 8);
    assert_int_equal(f->expected[1].finish[0], FINISH_ABORT);
    assert_int_equal(f->expected[2].finish[0], FINISH_LENGTH);
    assert_int_equal(f->expected[2].finish[1], FINISH_ABORT);
    assert_int_equal(f->expected[3].finish[1], FINISH_LENGTH);
    assert_int_equal(f->expected[4].finish[1], FINISH_ABORT);
    assert_idle(f);
    close_fixture(f);
}

static void closing_aborts_what_lives(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 8, 2);
    struct err err;
    for (uint64_t id = 1; id <= 8; id++)
        assert_int_equal(step_loop_submit(f->loop, expect_request(f, id, 1, 40), &err), 0);
    close_fixture(f);
}

// Running, waiting and held sequences, those of steps behind the one that failed too, end with an error; nothing is
// accepted any more; the loop still closes.
static void a_failed_step_ends_everything(int32_t steps_in_flight) {
    struct fixture *f = open_fixture(2, 8, steps_in_flight);
    allow_steps(f, 0);
    f->engine->fails_from = 4;
    struct err err;
    for (uint64_t id = 1; id <= 4; id++)
        assert_int_equal(step_loop_submit(f->loop, expect_request(f, id, 2, 30), &err), 0);
    assert_false(step_loop_has_failed(f->loop, &err));
    allow_steps(f, -1);
    receive_until(f, 8);
    for (uint64_t id = 1; id <= 4; id++)
        for (int32_t c = 0; c < 2; c++) assert_int_equal(f->expected[id].finish[c], FINISH_ERROR);
    assert_true(step_loop_has_failed(f->loop, &err));
    assert_string_equal(err.text, "the fake device has failed");
    assert_int_equal(step_loop_submit(f->loop, expect_request(f, 5, 1, 30), &err), ERR_CLOSED);
    struct step_loop_stats stats;
    step_loop_stats(f->loop, &stats);
    assert_int_equal(stats.n_steps, 3);
    close_fixture(f);
}

static void a_failed_step_ends_everything_one_in_flight(void **state) {
    (void)state;
    a_failed_step_ends_everything(1);
}

static void a_failed_step_ends_everything_two_in_flight(void **state) {
    (void)state;
    a_failed_step_ends_everything(2);
}

static void records_and_statistics_count_steps(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 8, 1);
    struct generation g = *expect_request(f, 1, 1, 20);
    struct err err;
    assert_int_equal(step_loop_submit(f->loop, &g, &err), 0);
    receive_until(f, 1);
    assert_idle(f); // one prompt more
    struct step_loop_stats stats;
    step_loop_stats(f->loop, &stats);
    assert_int_equal(stats.n_generated_tokens, 21);
    assert_int_equal(stats.n_prompt_tokens, g.n_prompt + f->expected[0].generation.n_prompt);
    assert_int_equal(stats.iteration_rows_sum, 20 - 1 + stats.n_prompt_tokens - stats.n_prompt_tokens_cached);
    uint64_t n_steps = 0;
    for (int i = 0; i <= ITERATION_BUCKETS; i++) n_steps += stats.iteration_rows[i];
    assert_int_equal(n_steps, stats.n_steps);
    struct step_record records[64];
    size_t n = step_loop_records(f->loop, records, 64);
    assert_int_equal(n, stats.n_steps);
    for (size_t i = 0; i < n; i++) assert_int_equal(records[i].ticket, i + 1);
    assert_int_equal(records[n - 1].collected_ns, stats.last_step_ns);
    assert_true(stats.busy_ns > 0);
    close_fixture(f);
}

// What was not taken yet comes, once, in order; what the reader was too slow for is counted.
static void records_are_taken_once(void **state) {
    (void)state;
    struct fixture *f = open_fixture(2, 8, 1);
    struct generation g = *expect_request(f, 1, 1, 20);
    struct err err;
    assert_int_equal(step_loop_submit(f->loop, &g, &err), 0);
    receive_until(f, 1);
    assert_idle(f);
    struct step_loop_stats stats;
    step_loop_stats(f->loop, &stats);
    struct step_record records[5];
    uint64_t n_lost = 0, n_taken = 0;
    for (size_t n; (n = step_loop_take_records(f->loop, records, 5, &n_lost)) > 0; n_taken += n)
        for (size_t i = 0; i < n; i++) assert_int_equal(records[i].ticket, n_taken + i + 1);
    assert_int_equal(n_taken, stats.n_steps);
    assert_int_equal(n_lost, 0);
    close_fixture(f);
}

static void submit_some(struct fixture *f, uint64_t first, uint64_t end) {
    struct err err;
    for (uint64_t id = first; id < end; id++)
        assert_int_equal(step_loop_submit(f->loop, expect_request(f, id, 1, 20), &err), 0);
}

// receive() holds every token to the one that the request must get.
static void knobs_change_steps_and_no_answer(void **state) {
    (void)state;
    struct fixture *f = open_fixture(6, 64, 1);
    submit_some(f, 1, 13);
    for (uint64_t i = 0; i < 200; i++) {
        struct knobs knobs;
        step_loop_read_knobs(f->loop, &knobs);
        enum knob_id id = (enum knob_id)(rng_u32(rng_key(5, 0, 0), 2 * i) % KNOBS);
        const struct knob *knob = &knobs.knob[id];
        if (!knob->available) continue;
        uint32_t range = (uint32_t)(knob->high - knob->low + 1);
        step_loop_set_knob(f->loop, id, knob->low + rng_u32(rng_key(5, 0, 0), 2 * i + 1) % range);
    }
    receive_until(f, 12);
    step_loop_set_knob(f->loop, KNOB_SEQUENCES, 1);
    step_loop_set_knob(f->loop, KNOB_CHUNK, 3);
    step_loop_set_knob(f->loop, KNOB_THREADS, 2);
    uint64_t n_lost = 0;
    struct step_record records[64];
    while (step_loop_take_records(f->loop, records, 64, &n_lost)) continue;
    submit_some(f, 13, 19);
    receive_until(f, 18);
    assert_int_equal(f->engine->threads_max, 2);
    for (size_t n; (n = step_loop_take_records(f->loop, records, 64, &n_lost)) > 0;)
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(records[i].n_running, 1);
            assert_true(i == 0 || records[i].n_waiting <= 5);
        }
    struct knobs knobs;
    step_loop_read_knobs(f->loop, &knobs);
    assert_int_equal(knobs.knob[KNOB_SEQUENCES].value, 1);
    assert_int_equal(knobs.knob[KNOB_SEQUENCES].high, 6);
    assert_false(knobs.knob[KNOB_DRAFTS].available); // nobody guesses here
    close_fixture(f);
}

static void options_beyond_a_step_are_knobs_within_it(void **state) {
    (void)state;
    struct fixture *f = open_fixture(6, 64, 2);
    struct step_loop_options options = {.settings = {.chunk_max = 1000}, .prompt_rows = 1000};
    struct err err;
    struct knobs knobs;
    step_loop_close(f->loop);
    assert_int_equal(step_loop_open(&f->loop, f->engine, &options, &err), 0);
    step_loop_read_knobs(f->loop, &knobs);
    for (int id = 0; id < KNOBS; id++) {
        const struct knob *knob = &knobs.knob[id];
        if (!knob->available) continue;
        assert_true(knob->low <= knob->value && knob->value <= knob->high);
        step_loop_set_knob(f->loop, (enum knob_id)id, knob->value);
    }
    assert_int_equal(knobs.knob[KNOB_CHUNK].value, 24);
    assert_int_equal(knobs.knob[KNOB_PROMPT_ROWS].value, 24);
    close_fixture(f);
}

// Asked for while there is work, peaks are measured when there is none; requests before and after are served.
static void peaks_are_measured_when_nothing_runs(void **state) {
    (void)state;
    struct fixture *f = open_fixture(6, 64, 2);
    struct backend_peaks peaks;
    submit_some(f, 1, 13);
    assert_false(step_loop_measure_peaks(f->loop, &peaks)); // the first call asks
    receive_until(f, 12);
    for (int i = 0; i < 2000 && !step_loop_measure_peaks(f->loop, &peaks); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(step_loop_measure_peaks(f->loop, &peaks));
    assert_true(peaks.read_bytes_per_s == 1e9);
    submit_some(f, 13, 19);
    receive_until(f, 18);
    close_fixture(f);
}

static void wait_for_ready_blocks(struct fixture *f, int32_t n) {
    for (int i = 0; i < 2000 && atomic_load(&f->engine->n_blocks_ready) < n; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

// A sixteenth of the cache at first, four times what was used later, while nothing runs.
static void memory_of_blocks_is_made_ready_when_nothing_runs(void **state) {
    (void)state;
    struct fixture *f = open_fixture(6, 64, 2);
    wait_for_ready_blocks(f, 60 / 16);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_int_equal(atomic_load(&f->engine->n_blocks_ready), 60 / 16);
    submit_some(f, 1, 2);
    receive_until(f, 1);
    wait_for_ready_blocks(f, 4);
    assert_true(atomic_load(&f->engine->n_blocks_ready) >= 4);
    close_fixture(f);
}

// Of more keys than the queue had room for at first, read while they come: what is listed grows with them.
static void memory_is_listed_while_steps_run(void **state) {
    (void)state;
    struct fixture *f = open_fixture(6, 64, 2);
    struct memory_ledger before = {0}, after = {0};
    struct err err;
    step_loop_list_memory(f->loop, &before);
    for (uint64_t id = 1; id <= REQUESTS; id++) {
        struct generation g = *expect_request(f, id, 1, 2);
        g.key_id = id;
        assert_int_equal(step_loop_submit(f->loop, &g, &err), 0);
        struct memory_ledger ledger = {0};
        step_loop_list_memory(f->loop, &ledger);
        assert_true(ledger.rows[0].reserved_bytes >= before.rows[0].reserved_bytes);
        if (id % 32 == 0) receive_until(f, (int32_t)id);
    }
    receive_until(f, REQUESTS);
    step_loop_list_memory(f->loop, &after);
    assert_string_equal(after.rows[0].owner, "scheduler");
    assert_true(after.rows[0].reserved_bytes > before.rows[0].reserved_bytes);
    close_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_taken_once),
        cmocka_unit_test(knobs_change_steps_and_no_answer),
        cmocka_unit_test(options_beyond_a_step_are_knobs_within_it),
        cmocka_unit_test(peaks_are_measured_when_nothing_runs),
        cmocka_unit_test(memory_of_blocks_is_made_ready_when_nothing_runs),
        cmocka_unit_test(memory_is_listed_while_steps_run),
        cmocka_unit_test(many_threads_one_step_in_flight),
        cmocka_unit_test(many_threads_two_steps_in_flight),
        cmocka_unit_test(a_full_queue_refuses_and_recovers),
        cmocka_unit_test(what_can_never_run_is_refused),
        cmocka_unit_test(cancelled_requests_end_while_a_step_is_in_flight),
        cmocka_unit_test(closing_aborts_what_lives),
        cmocka_unit_test(a_failed_step_ends_everything_one_in_flight),
        cmocka_unit_test(a_failed_step_ends_everything_two_in_flight),
        cmocka_unit_test(records_and_statistics_count_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
