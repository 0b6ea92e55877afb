#include "scheduler/step_loop.h"

#include "base/clock.h"
#include "base/mem.h"
#include "scheduler/scheduler.h"
#include "scheduler/step_time.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RECORDS_KEPT = 8192,
    QUEUE_AUTO_PER_SEQUENCE = 4, // waiting sequences for each that can run
    RETRY_AFTER_S_MAX = 60,
    STEPS_PLANNED = 2,       // at most in flight
    BLOCKS_READY_SHARE = 16, // of the cache, whose memory is made ready before it is used
    BLOCKS_READY_FACTOR = 4, // times the blocks that were used until now, likewise
};
static const uint64_t CHECK_AFTER_NS = 50u * 1000 * 1000, MEASURE_AFTER_NS = 1000u * 1000 * 1000;

struct cancellation {
    uint64_t id;
    int32_t choice;
};

struct mail {
    struct request *first, *last;
    int32_t n_sequences;
    VEC_OF(struct cancellation) cancellations;
};

struct step_loop {
    struct engine *engine;
    struct scheduler *scheduler;
    struct step_loop_options options;
    int32_t queue_max;
    pthread_t thread;

    // The step thread's own.
    struct generation_events made; // since the last exchange
    struct mail taken;
    struct step_loop_stats counted;
    struct step_record last_record;
    bool has_record;
    struct step_time time;
    uint64_t n_finished;
    uint64_t rested_ns;                        // since the last step was submitted
    struct step_record planned[STEPS_PLANNED]; // what the engine does not know of the steps in flight
    struct scheduler_counters counters;        // when the last step had been planned
    int32_t prompt_rows;                       // KNOB_PROMPT_ROWS
    bool has_failed;                           // a step did: no more are submitted

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    bool closing;
    struct err failure; // of the step that failed; code 0: none did
    struct mail mail;
    int32_t n_living, n_places; // sequences that have not ended; sequences that can run
    struct generation_events ready, handed_over;
    size_t own_bytes; // of what is the step thread's own, scheduler included
    struct step_loop_stats stats;
    struct step_record *records; // [RECORDS_KEPT] a ring
    uint64_t n_records, n_records_taken;
    struct knobs knobs;
    bool knobs_changed;        // and not obeyed yet
    uint64_t resting_since_ns; // 0: it does not rest
    enum { PEAKS_UNWANTED, PEAKS_WANTED, PEAKS_KNOWN } peaks_state;
    struct backend_peaks peaks;
    uint64_t last_finish_ns;
    double finish_interval_ns; // smoothed time between ends of sequences; 0: none has ended
};

// ---------------------------------------------------------------------------------------------- the step thread

static void count_finished(struct step_loop *loop, uint64_t n, uint64_t now_ns) {
    if (n == 0) return;
    loop->n_living -= (int32_t)n;
    if (now_ns <= loop->last_finish_ns) return; // cancelled without a step
    if (loop->last_finish_ns)
        duration_smooth(&loop->finish_interval_ns, (double)(now_ns - loop->last_finish_ns) / (double)n);
    loop->last_finish_ns = now_ns;
}

static void obey(struct step_loop *loop, const struct knobs *knobs) {
    const struct knob *knob = knobs->knob;
    const int64_t drafts = knob[KNOB_DRAFTS].value;
    scheduler_set(loop->scheduler, &(struct scheduler_settings){.sequences_max = (int32_t)knob[KNOB_SEQUENCES].value,
                                                                .chunk_max = (int32_t)knob[KNOB_CHUNK].value,
                                                                .admission = (int32_t)knob[KNOB_ADMISSION].value,
                                                                .draft_tokens = drafts < 0    ? 0
                                                                                : drafts == 0 ? -1
                                                                                              : (int32_t)drafts,
                                                                .no_prefix_cache = !knob[KNOB_PREFIX_CACHE].value});
    loop->prompt_rows = (int32_t)knob[KNOB_PROMPT_ROWS].value;
    if (loop->prompt_rows) scheduler_set_prompt_rows_max(loop->scheduler, loop->prompt_rows);
    if (knob[KNOB_THREADS].available) engine_limit_threads(loop->engine, (int)knob[KNOB_THREADS].value);
}

static size_t count_own_bytes(const struct step_loop *loop) {
    return scheduler_bytes(loop->scheduler) + loop->made.capacity * sizeof *loop->made.items;
}

// Hands over what happened and takes what came. Calls wake when the receiver had nothing to read. False: closing.
static bool exchange(struct step_loop *loop) {
    struct scheduler_counters counters;
    scheduler_counters(loop->scheduler, &counters);
    struct step_loop_stats *stats = &loop->counted;
    stats->n_running = counters.n_running;
    stats->n_waiting = counters.n_waiting;
    stats->n_blocks_used = counters.n_blocks_used;
    stats->n_preemptions = counters.n_preemptions;
    stats->n_prompt_tokens = counters.n_prompt_tokens;
    stats->n_prompt_tokens_cached = counters.n_prompt_tokens_cached;
    stats->n_generated_tokens = counters.n_generated_tokens;
    stats->n_prefix_queries = counters.n_prefix_queries;
    stats->n_prefix_hits = counters.n_prefix_hits;
    stats->n_drafts = counters.n_drafts;
    stats->speculation_gain = counters.speculation_gain;
    stats->n_draft_tokens = counters.n_draft_tokens;
    stats->n_draft_tokens_accepted = counters.n_draft_tokens_accepted;
    memcpy(stats->n_accepted_at, counters.n_accepted_at, sizeof stats->n_accepted_at);
    stats->n_prefix_ideal = counters.n_prefix_ideal;
    stats->n_prefix_evicted = counters.n_prefix_evicted;
    stats->n_recomputed_tokens = counters.n_recomputed_tokens;
    stats->n_lookups = counters.n_lookups;
    stats->n_early_divergences = counters.n_early_divergences;
    stats->divergence_token = counters.divergence_token;
    stats->n_slots = counters.n_slots;
    stats->n_slot_tokens = counters.n_slot_tokens;
    stats->n_shadow_tokens = counters.n_shadow_tokens;
    stats->n_shadow_guesses = counters.n_shadow_guesses;
    stats->n_shadow_hits = counters.n_shadow_hits;
    const size_t own_bytes = count_own_bytes(loop);

    pthread_mutex_lock(&loop->mutex);
    bool wake = loop->ready.count == 0 && loop->made.count > 0;
    vec_reserve(&loop->ready, loop->ready.count + loop->made.count);
    for (size_t i = 0; i < loop->made.count; i++) loop->ready.items[loop->ready.count++] = loop->made.items[i];
    if (loop->has_record) loop->records[loop->n_records++ % RECORDS_KEPT] = loop->last_record;
    loop->stats = *stats;
    loop->own_bytes = own_bytes;
    const bool knobs_changed = loop->knobs_changed;
    const struct knobs knobs = loop->knobs;
    loop->knobs_changed = false;
    loop->n_places = counters.n_places;
    count_finished(loop, counters.n_finished - loop->n_finished, stats->last_step_ns);
    struct mail taken = loop->mail;
    loop->mail =
        (struct mail){.cancellations = {loop->taken.cancellations.items, 0, loop->taken.cancellations.capacity}};
    bool closing = loop->closing;
    pthread_mutex_unlock(&loop->mutex);

    if (knobs_changed) obey(loop, &knobs);
    loop->taken = taken;
    loop->n_finished = counters.n_finished;
    loop->made.count = 0;
    loop->has_record = false;
    if (wake && loop->options.wake) loop->options.wake(loop->options.wake_context);
    return !closing;
}

// Requests first: a cancellation in the same mail may mean one of them.
static void read_mail(struct step_loop *loop) {
    struct mail *mail = &loop->taken;
    while (mail->first) {
        struct request *request = mail->first;
        mail->first = request->next;
        scheduler_submit(loop->scheduler, request, &loop->made);
    }
    for (size_t i = 0; i < mail->cancellations.count; i++) {
        const struct cancellation *cancellation = &mail->cancellations.items[i];
        scheduler_cancel(loop->scheduler, cancellation->id, cancellation->choice, &loop->made);
    }
    mail->cancellations.count = 0;
}

// What only the scheduler and the loop know of a step, kept until its record comes.
static void note_plan(struct step_loop *loop, uint64_t ticket) {
    const struct scheduler_counters before = loop->counters;
    scheduler_counters(loop->scheduler, &loop->counters);
    loop->planned[ticket % STEPS_PLANNED] = (struct step_record){
        .idle_ns = loop->rested_ns,
        .draft_ns = loop->counters.draft_ns,
        .n_recomputed_rows = (int32_t)(loop->counters.n_recomputed_tokens - before.n_recomputed_tokens),
        .n_preempted = (int32_t)(loop->counters.n_preemptions - before.n_preemptions),
        .n_running = loop->counters.n_running,
        .n_waiting = loop->counters.n_waiting,
        .n_blocks_used = loop->counters.n_blocks_used};
    loop->rested_ns = 0;
}

static void complete_record(const struct step_loop *loop, struct step_record *record) {
    const struct step_record *planned = &loop->planned[record->ticket % STEPS_PLANNED];
    record->idle_ns = planned->idle_ns < record->host_gap_ns ? planned->idle_ns : record->host_gap_ns;
    record->host_gap_ns -= record->idle_ns;
    record->draft_ns = planned->draft_ns;
    record->n_recomputed_rows = planned->n_recomputed_rows;
    record->n_preempted = planned->n_preempted;
    record->n_running = planned->n_running;
    record->n_waiting = planned->n_waiting;
    record->n_blocks_used = planned->n_blocks_used;
}

static bool submit_step(struct step_loop *loop) {
    if (engine_n_in_flight(loop->engine) == engine_limits(loop->engine)->steps_in_flight) return false;
    struct step_input *input = engine_next_input(loop->engine);
    if (!scheduler_plan(loop->scheduler, input, clock_now_ns())) return false;
    note_plan(loop, engine_submit(loop->engine));
    return true;
}

static void count_step(struct step_loop *loop, const struct step_record *record) {
    static const int32_t bounds[ITERATION_BUCKETS] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
    struct step_loop_stats *stats = &loop->counted;
    int bucket = 0;
    while (bucket < ITERATION_BUCKETS && record->n_rows > bounds[bucket]) bucket++;
    stats->iteration_rows[bucket]++;
    stats->iteration_rows_sum += (uint64_t)record->n_rows;
    stats->n_steps++;
    uint64_t begin = record->submitted_ns > stats->last_step_ns ? record->submitted_ns : stats->last_step_ns;
    stats->busy_ns += record->collected_ns - begin;
    stats->last_step_ns = record->collected_ns;
}

// The device cannot be trusted any more: everything that lives ends, and nothing begins.
static void take_failure(struct step_loop *loop, const struct err *why) {
    scheduler_cancel_all(loop->scheduler, FINISH_ERROR, &loop->made);
    if (loop->has_failed) return;
    loop->has_failed = true;
    pthread_mutex_lock(&loop->mutex);
    loop->failure = *why;
    pthread_mutex_unlock(&loop->mutex);
    if (loop->options.wake) loop->options.wake(loop->options.wake_context);
}

static void collect_step(struct step_loop *loop) {
    const struct sample_result *results;
    struct err why = {0};
    if (engine_collect(loop->engine, &results, &loop->last_record, &why)) {
        take_failure(loop, &why);
        scheduler_commit(loop->scheduler, NULL, clock_now_ns(), &loop->made);
        return;
    }
    loop->has_record = true;
    complete_record(loop, &loop->last_record);
    uint64_t busy_before = loop->counted.busy_ns;
    count_step(loop, &loop->last_record);
    step_time_learn(&loop->time, &loop->last_record, loop->counted.busy_ns - busy_before);
    if (!loop->prompt_rows)
        scheduler_set_prompt_rows_max(loop->scheduler,
                                      step_time_prompt_rows(&loop->time, engine_limits(loop->engine)->rows_max));
    scheduler_commit(loop->scheduler, results, loop->last_record.collected_ns, &loop->made);
    scheduler_learn_time(loop->scheduler, loop->counted.busy_ns - busy_before);
    struct scheduler_counters counters;
    scheduler_counters(loop->scheduler, &counters);
    loop->last_record.n_accepted = (int32_t)(counters.n_draft_tokens_accepted - loop->counted.n_draft_tokens_accepted);
    loop->counted.n_draft_tokens_accepted = counters.n_draft_tokens_accepted;
}

static bool has_mail(const struct mail *mail) {
    return mail->first || mail->cancellations.count;
}

// Waits for mail, at most this long. The mutex is held.
static bool wait_for_mail(struct step_loop *loop, uint64_t at_most_ns) {
    uint64_t until_ns = clock_now_ns() + at_most_ns;
    const struct timespec until = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
    while (!has_mail(&loop->mail) && !loop->closing && !loop->knobs_changed)
        if (pthread_cond_timedwait(&loop->changed, &loop->mutex, &until) == ETIMEDOUT) return false;
    return true;
}

// How long to wait before there is something to do without mail. The mutex is held.
static uint64_t rest_at_most_ns(const struct step_loop *loop, bool checked) {
    if (!checked) return CHECK_AFTER_NS;
    return loop->peaks_state == PEAKS_WANTED ? MEASURE_AFTER_NS : ENGINE_CHECK_S * 1000000000ull;
}

// The mutex is held, but not while the device measures.
static void measure_peaks(struct step_loop *loop) {
    struct backend_peaks peaks;
    pthread_mutex_unlock(&loop->mutex);
    engine_measure_peaks(loop->engine, &peaks);
    pthread_mutex_lock(&loop->mutex);
    loop->peaks = peaks;
    loop->peaks_state = PEAKS_KNOWN;
}

// Makes memory ready for blocks that are likely to be used, piece by piece, until something comes: a part of the cache,
// and some times what was ever used.
static void touch_blocks(struct step_loop *loop) {
    const int32_t n_blocks = engine_limits(loop->engine)->n_blocks;
    struct scheduler_counters counters;
    scheduler_counters(loop->scheduler, &counters);
    const int64_t more = (int64_t)BLOCKS_READY_FACTOR * counters.n_blocks_touched;
    int32_t wanted = n_blocks / BLOCKS_READY_SHARE;
    if (wanted < more) wanted = more < n_blocks ? (int32_t)more : n_blocks;
    bool some = true;
    while (some && !wait_for_mail(loop, 0)) {
        pthread_mutex_unlock(&loop->mutex);
        some = engine_touch_kv(loop->engine, wanted);
        pthread_mutex_lock(&loop->mutex);
    }
}

// Sleeps until somebody sends something. Checks the books and touches memory once when nothing comes for a while, so
// that a request which follows closely does not wait for it, and from time to time whether the other ranks are there.
static void rest(struct step_loop *loop) {
    const bool alone = engine_n_ranks(loop->engine) == 1;
    bool checked = false;
    struct err why = {0};
    const uint64_t since_ns = clock_now_ns();
    pthread_mutex_lock(&loop->mutex);
    loop->resting_since_ns = since_ns;
    while (!why.code && !wait_for_mail(loop, rest_at_most_ns(loop, checked))) {
        const bool measures = loop->peaks_state == PEAKS_WANTED && !loop->has_failed;
        if (measures && clock_now_ns() - since_ns >= MEASURE_AFTER_NS) measure_peaks(loop);
        if (checked && alone) continue;
        pthread_mutex_unlock(&loop->mutex);
        if (checked && !loop->has_failed && engine_check_ranks(loop->engine, &why)) take_failure(loop, &why);
        scheduler_check_integrity(loop->scheduler);
        pthread_mutex_lock(&loop->mutex);
        if (!checked && !loop->has_failed) touch_blocks(loop);
        checked = true;
    }
    // Time without work says nothing about how fast sequences end.
    loop->last_finish_ns = clock_now_ns();
    loop->resting_since_ns = 0;
    loop->rested_ns += loop->last_finish_ns - since_ns;
    loop->counted.idle_ns += loop->last_finish_ns - since_ns;
    loop->stats.idle_ns = loop->counted.idle_ns;
    pthread_mutex_unlock(&loop->mutex);
}

static void *run(void *argument) {
    struct step_loop *loop = argument;
    while (exchange(loop)) {
        read_mail(loop);
        if (loop->has_failed) scheduler_cancel_all(loop->scheduler, FINISH_ERROR, &loop->made);
        bool submitted = !loop->has_failed && submit_step(loop);
        int32_t n_in_flight = engine_n_in_flight(loop->engine);
        if (n_in_flight == 0 && loop->made.count == 0)
            rest(loop);
        else if (n_in_flight > 0 && (!submitted || n_in_flight == engine_limits(loop->engine)->steps_in_flight))
            collect_step(loop);
    }
    read_mail(loop);
    scheduler_cancel_all(loop->scheduler, FINISH_ABORT, &loop->made);
    while (engine_n_in_flight(loop->engine) > 0) collect_step(loop);
    scheduler_check_integrity(loop->scheduler);
    return NULL;
}

// ------------------------------------------------------------------------------------------------ other threads

static void reserve_buffers(struct step_loop *loop) {
    size_t n = (size_t)engine_limits(loop->engine)->sequences_max * 4;
    vec_reserve(&loop->made, n);
    vec_reserve(&loop->ready, n);
    vec_reserve(&loop->handed_over, n);
    vec_reserve(&loop->mail.cancellations, n);
    vec_reserve(&loop->taken.cancellations, n);
    loop->records = mem_alloc_zero(RECORDS_KEPT, sizeof *loop->records);
}

static void free_loop(struct step_loop *loop) {
    scheduler_close(loop->scheduler);
    for (struct request *request = loop->mail.first, *next; request; request = next) {
        next = request->next;
        request_close(request);
    }
    vec_free(&loop->made);
    vec_free(&loop->ready);
    vec_free(&loop->handed_over);
    vec_free(&loop->mail.cancellations);
    vec_free(&loop->taken.cancellations);
    free(loop->records);
    pthread_mutex_destroy(&loop->mutex);
    pthread_cond_destroy(&loop->changed);
    free(loop);
}

static struct knob knob_of(enum knob_id id, const char *flag, int64_t value, int64_t low, int64_t high,
                           bool available) {
    return (struct knob){knob_name(id), flag, value, low, high, available};
}

static void open_knobs(struct step_loop *loop) {
    const struct engine_limits *limits = engine_limits(loop->engine);
    const struct scheduler_settings *settings = &loop->options.settings;
    const int32_t rows = limits->rows_max, prompt_rows = loop->options.prompt_rows;
    const int threads = engine_threads(loop->engine);
    const int64_t drafts = settings->draft_tokens == 0 ? -1 : settings->draft_tokens < 0 ? 0 : settings->draft_tokens;
    struct knob *knob = loop->knobs.knob;
    knob[KNOB_SEQUENCES] = knob_of(KNOB_SEQUENCES, "--sequences", loop->n_places, 1, limits->sequences_max, true);
    knob[KNOB_CHUNK] =
        knob_of(KNOB_CHUNK, "--chunk", settings->chunk_max < rows ? settings->chunk_max : rows, 0, rows, true);
    knob[KNOB_PROMPT_ROWS] =
        knob_of(KNOB_PROMPT_ROWS, "--prompt-rows", prompt_rows < rows ? prompt_rows : rows, 0, rows, true);
    knob[KNOB_ADMISSION] = knob_of(KNOB_ADMISSION, "--admission", settings->admission, 0, 100, true);
    knob[KNOB_DRAFTS] = knob_of(KNOB_DRAFTS, "--draft-tokens", drafts, -1, DRAFTS_MAX, loop->options.proposer != NULL);
    knob[KNOB_THREADS] = knob_of(KNOB_THREADS, "--threads", threads, 1, threads, threads > 1);
    knob[KNOB_PREFIX_CACHE] = knob_of(KNOB_PREFIX_CACHE, "--no-prefix-cache", !settings->no_prefix_cache, 0, 1, true);
}

static int check_options(const struct step_loop_options *options, struct err *err) {
    const struct scheduler_settings *settings = &options->settings;
    if (options->queue_max < 0 || settings->chunk_max < 0 || options->prompt_rows < 0 || settings->sequences_max < 0)
        return err_set(err, ERR_INVALID, "the limits of queue, chunk, prompt rows and sequences cannot be negative");
    if (settings->draft_tokens < -1 || settings->draft_tokens > DRAFTS_MAX)
        return err_set(err, ERR_INVALID, "%d drafts in a step; at most %d are possible", settings->draft_tokens,
                       DRAFTS_MAX);
    if (settings->admission < 0 || settings->admission > 100)
        return err_set(err, ERR_INVALID, "blocks for %d %% of a sequence's tokens; 0 to 100 are possible",
                       settings->admission);
    return 0;
}

int step_loop_open(struct step_loop **out, struct engine *engine, const struct step_loop_options *options,
                   struct err *err) {
    const struct engine_limits *limits = engine_limits(engine);
    int rc = check_options(options, err);
    if (rc) return rc;
    struct step_loop *loop = mem_alloc_zero(1, sizeof *loop);
    loop->engine = engine;
    loop->options = *options;
    loop->n_places = options->settings.sequences_max && options->settings.sequences_max < limits->sequences_max
                         ? options->settings.sequences_max
                         : limits->sequences_max;
    loop->queue_max = options->queue_max ? options->queue_max : loop->n_places * QUEUE_AUTO_PER_SEQUENCE;
    loop->counted.n_blocks = limits->n_blocks;
    loop->counted.block_tokens = limits->block_tokens;
    loop->counted.draft_tokens_max = options->proposer ? DRAFTS_MAX : 0;
    loop->stats = loop->counted;
    loop->scheduler = scheduler_open(
        &(struct scheduler_options){.limits = limits, .proposer = options->proposer, .settings = options->settings});
    open_knobs(loop);
    loop->prompt_rows = options->prompt_rows;
    if (loop->prompt_rows) scheduler_set_prompt_rows_max(loop->scheduler, loop->prompt_rows);
    pthread_mutex_init(&loop->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&loop->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    reserve_buffers(loop);
    loop->own_bytes = count_own_bytes(loop);
    if (pthread_create(&loop->thread, NULL, run, loop) != 0) {
        free_loop(loop);
        return err_set(err, ERR_IO, "the step thread could not be started");
    }
    pthread_setname_np(loop->thread, "step");
    *out = loop;
    return 0;
}

void step_loop_list_memory(struct step_loop *loop, struct memory_ledger *ledger) {
    const struct engine_limits *limits = engine_limits(loop->engine);
    pthread_mutex_lock(&loop->mutex);
    const size_t n_events = loop->ready.capacity + loop->handed_over.capacity, own_bytes = loop->own_bytes;
    pthread_mutex_unlock(&loop->mutex);
    const size_t n_bytes =
        sizeof *loop + own_bytes + RECORDS_KEPT * sizeof *loop->records + n_events * sizeof *loop->ready.items;
    memory_ledger_add(ledger, "scheduler", n_bytes, n_bytes, "%d blocks and their prefixes, %d step records",
                      limits->n_blocks, RECORDS_KEPT);
    size_t n_requests = (size_t)limits->sequences_max + (size_t)loop->queue_max;
    memory_ledger_add(ledger, "requests", n_requests * request_bytes_max(limits), 0, "%d running, %d waiting",
                      limits->sequences_max, loop->queue_max);
}

void step_loop_close(struct step_loop *loop) {
    if (!loop) return;
    pthread_mutex_lock(&loop->mutex);
    loop->closing = true;
    pthread_cond_signal(&loop->changed);
    pthread_mutex_unlock(&loop->mutex);
    pthread_join(loop->thread, NULL);
    free_loop(loop);
}

// Takes the request when there is room. A request with more choices than the queue holds waits alone.
static int post(struct step_loop *loop, struct request *request, struct err *err) {
    int32_t n = request->generation.n_choices;
    int32_t n_waiting_max = n > loop->queue_max ? n : loop->queue_max;
    if (loop->closing) return err_set(err, ERR_CLOSED, "the server is shutting down");
    if (loop->failure.code) return err_set(err, ERR_CLOSED, "the device has failed");
    if (loop->n_living + n > loop->n_places + n_waiting_max)
        return err_set(err, ERR_BUSY, "%d sequences are running or waiting, which is all there is room for",
                       loop->n_living);
    if (loop->mail.first)
        loop->mail.last->next = request;
    else
        loop->mail.first = request;
    loop->mail.last = request;
    loop->mail.n_sequences += n;
    loop->n_living += n;
    pthread_cond_signal(&loop->changed);
    return 0;
}

int step_loop_submit(struct step_loop *loop, const struct generation *generation, struct err *err) {
    struct request *request;
    int rc = request_open(&request, generation, engine_limits(loop->engine), err);
    if (rc) return rc;
    pthread_mutex_lock(&loop->mutex);
    rc = post(loop, request, err);
    pthread_mutex_unlock(&loop->mutex);
    if (rc) request_close(request);
    return rc;
}

void step_loop_cancel(struct step_loop *loop, uint64_t id, int32_t choice) {
    pthread_mutex_lock(&loop->mutex);
    vec_push(&loop->mail.cancellations, ((struct cancellation){id, choice}));
    pthread_cond_signal(&loop->changed);
    pthread_mutex_unlock(&loop->mutex);
}

bool step_loop_has_failed(struct step_loop *loop, struct err *why) {
    pthread_mutex_lock(&loop->mutex);
    *why = loop->failure;
    pthread_mutex_unlock(&loop->mutex);
    return why->code != 0;
}

int step_loop_retry_after_s(struct step_loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    int32_t n_waiting = loop->n_living - loop->stats.n_running;
    // Half of the queue: at once, all who were refused would come for the first free place.
    double seconds = loop->finish_interval_ns * (n_waiting > 0 ? n_waiting : 0) / 2 / 1e9;
    pthread_mutex_unlock(&loop->mutex);
    if (seconds > RETRY_AFTER_S_MAX) return RETRY_AFTER_S_MAX;
    return seconds > 1 ? (int)seconds + 1 : 1;
}

size_t step_loop_take_events(struct step_loop *loop, const struct generation_event **events) {
    pthread_mutex_lock(&loop->mutex);
    struct generation_events ready = loop->ready;
    loop->ready = loop->handed_over;
    loop->ready.count = 0;
    loop->handed_over = ready;
    pthread_mutex_unlock(&loop->mutex);
    *events = ready.items;
    return ready.count;
}

void step_loop_stats(struct step_loop *loop, struct step_loop_stats *out) {
    pthread_mutex_lock(&loop->mutex);
    *out = loop->stats;
    out->n_waiting += loop->mail.n_sequences;
    if (loop->resting_since_ns) out->idle_ns += clock_now_ns() - loop->resting_since_ns;
    pthread_mutex_unlock(&loop->mutex);
}

size_t step_loop_records(struct step_loop *loop, struct step_record *out, size_t n) {
    pthread_mutex_lock(&loop->mutex);
    uint64_t n_kept = loop->n_records < RECORDS_KEPT ? loop->n_records : RECORDS_KEPT;
    if (n > n_kept) n = (size_t)n_kept;
    for (size_t i = 0; i < n; i++) out[i] = loop->records[(loop->n_records - n + i) % RECORDS_KEPT];
    pthread_mutex_unlock(&loop->mutex);
    return n;
}

size_t step_loop_take_records(struct step_loop *loop, struct step_record *out, size_t n, uint64_t *n_lost) {
    pthread_mutex_lock(&loop->mutex);
    uint64_t first = loop->n_records_taken;
    if (loop->n_records - first > RECORDS_KEPT) first = loop->n_records - RECORDS_KEPT;
    *n_lost += first - loop->n_records_taken;
    if (n > loop->n_records - first) n = (size_t)(loop->n_records - first);
    for (size_t i = 0; i < n; i++) out[i] = loop->records[(first + i) % RECORDS_KEPT];
    loop->n_records_taken = first + n;
    pthread_mutex_unlock(&loop->mutex);
    return n;
}

bool step_loop_measure_peaks(struct step_loop *loop, struct backend_peaks *out) {
    pthread_mutex_lock(&loop->mutex);
    if (loop->peaks_state == PEAKS_UNWANTED) loop->peaks_state = PEAKS_WANTED;
    const bool known = loop->peaks_state == PEAKS_KNOWN;
    if (known) *out = loop->peaks;
    pthread_mutex_unlock(&loop->mutex);
    return known;
}

void step_loop_read_knobs(struct step_loop *loop, struct knobs *out) {
    pthread_mutex_lock(&loop->mutex);
    *out = loop->knobs;
    pthread_mutex_unlock(&loop->mutex);
}

void step_loop_set_knob(struct step_loop *loop, enum knob_id id, int64_t value) {
    pthread_mutex_lock(&loop->mutex);
    struct knob *knob = &loop->knobs.knob[id];
    assert(knob->available && value >= knob->low && value <= knob->high);
    loop->knobs_changed |= knob->value != value;
    knob->value = value;
    pthread_cond_signal(&loop->changed);
    pthread_mutex_unlock(&loop->mutex);
}
