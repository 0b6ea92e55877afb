#include "server/completion.h"

#include "advisor/advisor.h"
#include "base/clock.h"
#include "base/rng.h"
#include "server/server_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SUBMITTED_CHOICES_MAX = 64,              // of one request at a time; further prompts of its batch wait
    STREAM_PENDING_BYTES_MAX = 128 * 1024,   // beyond it text is joined until the socket has taken what it has
    STREAM_HELD_BYTES_MAX = 4 * 1024 * 1024, // joined text of a reader who is too slow
    ANSWER_BYTES_MAX = 256 * 1024 * 1024,    // of an answer that is collected
};
// How long a client may leave what is there for it, and how often that is looked at.
static const uint64_t BLOCKED_NS = 100u * 1000 * 1000, WATCH_NS = 20u * 1000 * 1000;

// ---------------------------------------------------------------------------------------------------- life

static void choice_close(struct choice *choice) {
    text_stream_close(&choice->stream);
    logprobs_json_close(&choice->logprobs);
    vec_free(&choice->undecided);
    str_close(&choice->text);
}

static void unlink_completion(struct completion *c) {
    struct server *server = c->server;
    *(c->previous ? &c->previous->next : &server->oldest) = c->next;
    *(c->next ? &c->next->previous : &server->newest) = c->previous;
}

// Takes its generations out of the step loop and frees it. The exchange has ended or its client has gone.
static void completion_free(struct completion *c) {
    struct server *server = c->server;
    for (int32_t i = 0; i < c->n_prompts; i++) {
        struct prompt *prompt = &c->prompts[i];
        if (prompt->generation_id && c->n_open) step_loop_cancel(server->engine.step_loop, prompt->generation_id, -1);
        if (prompt->generation_id) server_remove_generation(server, prompt->generation_id);
        vec_free(&prompt->ids);
        vec_free(&prompt->logprobs);
        str_close(&prompt->text);
    }
    if (c->choices) server->n_deferred -= c->n_prompts - c->n_submitted;
    for (int32_t i = 0; c->choices && i < c->n_choices; i++) choice_close(&c->choices[i]);
    unlink_completion(c);
    str_close(&c->body);
    str_close(&c->chunk_head);
    arena_close(&c->arena);
    free(c);
}

static struct advisor *advisor_of(const struct completion *c) {
    return c->server->engine.advisor;
}

static void trace_choice(const struct completion *c, const struct choice *choice, enum finish_reason finish) {
    const int64_t index = choice - c->choices, i_choice = index % c->request.n_choices;
    const struct prompt *prompt = &c->prompts[index / c->request.n_choices];
    const int32_t n_prompt = (int32_t)prompt->ids.count;
    if (finish == FINISH_ERROR) activity_add(&c->server->activity.n_failed, 1);
    // Who went away before the end says nothing about the server.
    if (finish == FINISH_ABORT || !advisor_of(c)) return;
    advisor_note_request(advisor_of(c), &(struct request_trace){.arrived_ns = c->arrived_ns,
                                                                .scheduled_ns = choice->scheduled_ns,
                                                                .first_token_ns = choice->first_token_ns,
                                                                .last_token_ns = choice->last_token_ns,
                                                                .finished_ns = clock_now_ns(),
                                                                .n_prompt = n_prompt,
                                                                // The others take the prompt from the first.
                                                                .n_cached = i_choice ? n_prompt : prompt->n_cached,
                                                                .n_generated = choice->n_generated,
                                                                .n_max = prompt->max_tokens,
                                                                .failed = finish == FINISH_ERROR});
}

static void note_gap(const struct completion *c, struct choice *choice) {
    if (choice->gap_ns && advisor_of(c))
        advisor_note_gap(advisor_of(c), choice->gap_ns, choice->gap_with_prompts, choice->n_gap_tokens);
    choice->gap_ns = 0;
}

static void observe_choice(const struct completion *c, const struct choice *choice, enum finish_reason finish) {
    const struct prompt *prompt = &c->prompts[(choice - c->choices) / c->request.n_choices];
    trace_choice(c, choice, finish);
    metrics_observe_choice(&c->server->metrics, &(struct choice_record){.finish = finish,
                                                                        .arrived_ns = c->arrived_ns,
                                                                        .scheduled_ns = choice->scheduled_ns,
                                                                        .first_token_ns = choice->first_token_ns,
                                                                        .last_token_ns = choice->last_token_ns,
                                                                        .finished_ns = clock_now_ns(),
                                                                        .n_prompt = (int32_t)prompt->ids.count,
                                                                        .n_generated = choice->n_generated,
                                                                        .n_max = prompt->max_tokens,
                                                                        .n_choices = (int32_t)c->request.n_choices});
}

// The choices that will not end by themselves end for this reason.
static void observe_rest(const struct completion *c, enum finish_reason finish) {
    for (int32_t i = 0; c->choices && i < c->n_choices; i++)
        if (c->choices[i].finish == FINISH_NONE) observe_choice(c, &c->choices[i], finish);
}

static void on_gone(void *context) {
    struct completion *c = context;
    c->exchange = NULL;
    if (c->is_working) {
        uv_cancel((uv_req_t *)&c->work); // after_work frees it in any case
        return;
    }
    observe_rest(c, FINISH_ABORT);
    completion_free(c);
}

static void on_drain(void *context) {
    completion_flush(context);
}

void completion_fail(struct completion *c, const struct api_error *error) {
    observe_rest(c, error->status >= 500 ? FINISH_ERROR : FINISH_ABORT);
    if (!c->exchange) return completion_free(c);
    if (c->stream_begun) {
        struct str *out = &c->server->scratch;
        str_clear(out);
        str_append_text(out, "data: ");
        api_error_body(error, out);
        str_append_text(out, "\n\n");
        http_exchange_stream_write(c->exchange, str_text(out), out->n_bytes);
        http_exchange_stream_write(c->exchange, "data: [DONE]\n\n", 14);
        http_exchange_stream_end(c->exchange);
    } else {
        server_reply_error(c->exchange, error);
    }
    c->exchange = NULL;
    if (!c->is_working) completion_free(c);
}

// ---------------------------------------------------------------------------------------------------- admission

// The loop answers everybody, text work one client. When all cores are busy, the loop goes first: with equal shares,
// each of its turns would wait behind megabytes of somebody's text.
static void give_way_to_loop(struct activity *activity) {
    enum { NICER = 5 }; // a third of a busy thread's share, so that a saturated machine still takes prompts
    static _Thread_local bool has_given_way;
    if (has_given_way) return;
    has_given_way = true;
    atomic_fetch_add(&activity->n_text_threads, 1);
    setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + NICER);
}

static void work_on_pool(uv_work_t *work) {
    struct completion *c = work->data;
    give_way_to_loop(&c->server->activity);
    const uint64_t begin_ns = activity_thread_ns();
    text_work(c);
    activity_add(&c->server->activity.text_busy_ns, activity_thread_ns() - begin_ns);
}

// Generated text continues what the prompt says, so that a first space is a space; behind nothing it is a beginning.
static struct detokenizer detokenizer_behind(const struct completion *c, const struct prompt *prompt) {
    struct detokenizer detokenizer = {.tokenizer = c->server->engine.model->tokenizer,
                                      .skip_special = c->request.skip_special};
    for (size_t i = 0; i < prompt->ids.count && !detokenizer.started; i++)
        detokenizer.started = !tokenizer_is_special(detokenizer.tokenizer, prompt->ids.items[i]);
    if (detokenizer.started) detokenizer.stripped = UINT32_MAX;
    return detokenizer;
}

static void open_choice(struct completion *c, struct choice *choice) {
    const struct tokenizer *tokenizer = c->server->engine.model->tokenizer;
    const struct prompt *prompt = &c->prompts[(choice - c->choices) / c->request.n_choices];
    bool wants_logprobs = c->request.n_top_logprobs >= 0;
    text_stream_open(&choice->stream, &(struct text_stream_options){.stops = &c->request.stops,
                                                                    .include_stop = c->request.include_stop,
                                                                    .track_tokens = wants_logprobs,
                                                                    .n_tokens_min = (int32_t)c->request.min_tokens});
    choice->detokenizer = detokenizer_behind(c, prompt);
    struct detokenizer beginning = {.tokenizer = tokenizer, .skip_special = c->request.skip_special};
    choice->logprobs = (struct logprobs_json){.tokenizer = tokenizer,
                                              .chat = c->endpoint == ENDPOINT_CHAT,
                                              .n_top = (int32_t)c->request.n_top_logprobs,
                                              .text = c->request.echo ? beginning : choice->detokenizer};
}

static void after_work(uv_work_t *work, int status) {
    struct completion *c = work->data;
    c->is_working = false;
    str_close(&c->body); // everything that the request needs was copied or is done with
    if (!c->exchange) {
        completion_free(c);
        return;
    }
    if (status) api_error_set(&c->error, 503, NULL, NULL, "The server is shutting down.");
    if (c->request.ignored.n_bytes) http_exchange_header(c->exchange, "x-optima-ignored", c->request.ignored.data);
    if (c->error.status) {
        completion_fail(c, &c->error);
        return;
    }
    if (!c->request.has_seed) c->request.seed = (int64_t)rng_mix64(c->server->seed++);
    c->n_choices = c->n_prompts * (int32_t)c->request.n_choices;
    c->choices = arena_alloc_zero(&c->arena, (size_t)c->n_choices, sizeof *c->choices);
    for (int32_t i = 0; i < c->n_choices; i++) open_choice(c, &c->choices[i]);
    c->server->n_deferred += c->n_prompts;
    completion_json_head(c);
    completion_submit(c);
}

static uint64_t cache_salt(const struct completion *c) {
    const char *salt = c->request.cache_salt;
    return salt ? hash_bytes_seeded(salt, strlen(salt)) | 1 : 0;
}

static int submit_prompt(struct completion *c, int32_t i_prompt, struct err *err) {
    const struct model *model = c->server->engine.model;
    const struct request *r = &c->request;
    struct prompt *prompt = &c->prompts[i_prompt];
    struct generation generation = {
        .id = server_add_generation(c->server, c, i_prompt),
        .prompt = prompt->ids.items,
        .n_prompt = (int32_t)prompt->ids.count,
        .n_choices = (int32_t)r->n_choices,
        .max_tokens = prompt->max_tokens,
        .min_tokens = (int32_t)r->min_tokens,
        .sampling = request_sampling(r, &model->defaults, (uint64_t)r->seed),
        .bias = r->bias,
        .n_bias = r->n_bias,
        .n_prompt_top_logprobs = (int32_t)r->n_prompt_top_logprobs,
        .key_id = c->key_id,
        .cache_salt = cache_salt(c),
        .arrived_ns = c->arrived_ns,
    };
    if (r->echo && r->n_top_logprobs > r->n_prompt_top_logprobs)
        generation.n_prompt_top_logprobs = (int32_t)r->n_top_logprobs;
    for (int32_t i = 0; i < r->n_stop_tokens; i++)
        generation.stop_tokens[generation.n_stop_tokens++] = r->stop_tokens[i];
    // ignore_eos is about the model's own end; the client's stop tokens stay.
    for (int32_t i = 0; i < model->n_stop_tokens && !r->ignore_eos; i++)
        generation.stop_tokens[generation.n_stop_tokens++] = model->stop_tokens[i];
    int rc = step_loop_submit(c->server->engine.step_loop, &generation, err);
    if (rc)
        server_remove_generation(c->server, generation.id);
    else
        prompt->generation_id = generation.id;
    return rc;
}

static void refuse(struct completion *c, const struct err *reason) {
    int rc = reason->code;
    struct api_error error = {0};
    if (rc == ERR_BUSY) {
        c->server->metrics.n_rejected++;
        activity_add(&c->server->activity.n_rejected, 1);
        server_reply_busy(c->server, c->exchange);
        c->exchange = NULL;
        completion_free(c);
        return;
    }
    if (rc == ERR_LIMIT)
        api_error_set(&error, 400, "context_length_exceeded", c->endpoint == ENDPOINT_CHAT ? "messages" : "prompt",
                      "The request exceeds the available context size: %s.", reason->text);
    else if (rc == ERR_CLOSED)
        api_error_set(&error, 503, NULL, NULL, "The server is shutting down.");
    else
        api_error_set(&error, 500, NULL, NULL, "The request could not be scheduled.");
    completion_fail(c, &error);
}

void completion_submit(struct completion *c) {
    int32_t n = (int32_t)c->request.n_choices;
    while (c->n_submitted < c->n_prompts && (!c->n_open || c->n_open + n <= SUBMITTED_CHOICES_MAX)) {
        struct err err = {0};
        int rc = submit_prompt(c, c->n_submitted, &err);
        if (rc == ERR_BUSY && c->n_submitted > 0) return; // the rest of a batch waits for room
        if (rc) {
            refuse(c, &err);
            return;
        }
        c->n_submitted++;
        c->n_open += n;
        c->server->n_deferred--;
        c->submitted_ns = clock_now_ns();
    }
}

static void make_id(struct completion *c) {
    uint64_t a = rng_mix64(c->server->seed++), b = rng_mix64(c->server->seed++);
    snprintf(c->id, sizeof c->id, "%s-%016llx%08llx", c->endpoint == ENDPOINT_CHAT ? "chatcmpl" : "cmpl",
             (unsigned long long)a, (unsigned long long)(b >> 32));
}

void completion_start(struct server *server, struct http_exchange *exchange, enum endpoint endpoint) {
    if (!server_check_ready(server, exchange)) return;
    const struct http_request *request = http_exchange_request(exchange);
    struct completion *c = mem_alloc_zero(1, sizeof *c);
    c->server = server;
    c->exchange = exchange;
    c->endpoint = endpoint;
    c->arrived_ns = request->arrived_ns;
    c->key_id = request->key_id;
    c->created_s = clock_wall_s();
    make_id(c);
    http_exchange_take_body(exchange, &c->body); // the exchange ends when the client goes, the worker goes on
    c->previous = server->newest;
    *(server->newest ? &server->newest->next : &server->oldest) = c;
    server->newest = c;
    http_exchange_watch(exchange, on_gone, on_drain, c);
    c->work.data = c;
    c->is_working = true;
    int rc = uv_queue_work(&server->loop, &c->work, work_on_pool, after_work);
    assert(rc == 0);
}

// ---------------------------------------------------------------------------------------------------- events

static void begin_choice(struct completion *c, struct choice *choice, struct prompt *prompt) {
    choice->begun = true;
    if (!c->request.echo) return;
    str_append(&choice->text, str_text(&prompt->text), prompt->text.n_bytes);
    if (c->request.n_top_logprobs < 0) return;
    logprobs_json_add(&choice->logprobs, prompt->ids.items[0], NULL);
    for (size_t i = 0; i < prompt->logprobs.count; i++)
        logprobs_json_add(&choice->logprobs, prompt->logprobs.items[i].token, &prompt->logprobs.items[i]);
}

// Log probabilities of tokens whose text is out go with it; those of tokens without text in the answer go nowhere.
static void settle_tokens(struct choice *choice) {
    enum token_fate fate;
    while ((fate = text_stream_next_fate(&choice->stream)) != TOKEN_PENDING) {
        const struct sample_result *sample = &choice->undecided.items[choice->undecided_first++];
        if (fate == TOKEN_RELEASED) logprobs_json_add(&choice->logprobs, sample->token, sample);
    }
    if (choice->undecided_first == choice->undecided.count) choice->undecided_first = choice->undecided.count = 0;
}

static void finish_choice(struct completion *c, struct choice *choice, enum finish_reason finish) {
    text_stream_finish(&choice->stream, &choice->text);
    settle_tokens(choice);
    choice->finish = finish;
    if (finish == FINISH_ERROR || finish == FINISH_ABORT) c->failure = finish;
    c->n_finished++;
    c->n_open--;
    note_gap(c, choice);
    observe_choice(c, choice, finish);
}

static void note_times(struct completion *c, struct choice *choice, const struct generation_event *event) {
    struct metrics *metrics = &c->server->metrics;
    if (!choice->first_token_ns) {
        choice->scheduled_ns = event->scheduled_ns;
        choice->first_token_ns = event->at_ns;
        metrics_observe(metrics, HISTOGRAM_TTFT, (double)(event->at_ns - c->arrived_ns) * 1e-9);
    } else {
        metrics_observe(metrics, HISTOGRAM_ITL, (double)(event->at_ns - choice->last_token_ns) * 1e-9);
    }
    if (choice->last_token_ns && event->at_ns > choice->last_token_ns) {
        note_gap(c, choice);
        choice->gap_ns = event->at_ns - choice->last_token_ns;
        choice->gap_with_prompts = event->with_prompts;
        choice->n_gap_tokens = 0;
    }
    choice->n_gap_tokens++;
    choice->last_token_ns = event->at_ns;
}

static size_t choice_bytes(const struct choice *choice) {
    return choice->text.n_bytes + logprobs_json_bytes(&choice->logprobs);
}

// True: a stop string has ended the choice.
static bool take_token(struct completion *c, struct choice *choice, const struct generation_event *event) {
    struct str *bytes = &c->server->scratch;
    note_times(c, choice, event);
    choice->n_generated++;
    // A token that ends the choice is no part of the text, unless the client wants to see what stopped it.
    if (event->finish == FINISH_STOP && !c->request.include_stop) return false;
    str_clear(bytes);
    detokenizer_push(&choice->detokenizer, event->sample.token, bytes);
    if (c->request.n_top_logprobs >= 0) vec_push(&choice->undecided, event->sample);
    bool stopped = text_stream_push(&choice->stream, str_text(bytes), bytes->n_bytes, &choice->text);
    settle_tokens(choice);
    return stopped;
}

void completion_take(struct completion *c, int32_t i_prompt, const struct generation_event *event) {
    struct prompt *prompt = &c->prompts[i_prompt];
    if (event->kind == EVENT_PROMPT_LOGPROB) {
        vec_push(&prompt->logprobs, event->sample);
        c->n_collected += sizeof event->sample;
        return;
    }
    struct choice *choice = &c->choices[i_prompt * c->request.n_choices + event->choice];
    if (choice->finish != FINISH_NONE) return; // ended here already; the step loop had not heard of it
    size_t n_before = choice_bytes(choice);
    if (!choice->begun) begin_choice(c, choice, prompt);
    if (event->kind == EVENT_TOKEN) {
        if (event->choice == 0 && event->index == 0) prompt->n_cached = event->n_cached;
        bool stopped = take_token(c, choice, event);
        if (stopped && event->finish == FINISH_NONE)
            step_loop_cancel(c->server->engine.step_loop, prompt->generation_id, event->choice);
        if (stopped)
            finish_choice(c, choice, FINISH_STOP);
        else if (event->finish != FINISH_NONE)
            finish_choice(c, choice, event->finish);
    } else {
        finish_choice(c, choice, event->finish);
    }
    c->n_collected += choice_bytes(choice) - n_before;
}

// ---------------------------------------------------------------------------------------------------- writing

static size_t held_bytes(const struct completion *c) {
    size_t n = 0;
    for (int32_t i = 0; i < c->n_choices; i++) n += choice_bytes(&c->choices[i]);
    return n;
}

// Whether the socket takes a chunk of about that size now; else on_drain comes back.
static bool has_room(const struct completion *c, size_t n_bytes) {
    size_t pending = http_exchange_stream_pending(c->exchange);
    return !pending || pending + n_bytes <= STREAM_PENDING_BYTES_MAX;
}

static void write_chunk(struct completion *c, struct choice *choice, bool role, bool finish) {
    struct str *out = &c->server->scratch;
    str_clear(out);
    completion_json_chunk(c, choice, role, finish, out);
    activity_add(&c->server->activity.n_events, 1);
    http_exchange_stream_write(c->exchange, str_text(out), out->n_bytes);
}

// Writes what one choice has; false: the socket is full.
static bool write_choice(struct completion *c, struct choice *choice) {
    bool is_chat = c->endpoint == ENDPOINT_CHAT, ends = choice->finish != FINISH_NONE;
    if (!choice->begun || choice->closed) return true;
    if (!has_room(c, choice_bytes(choice) + 1024)) return false;
    if (is_chat && !choice->announced) write_chunk(c, choice, true, false);
    choice->announced = true;
    if (choice->text.n_bytes && (is_chat || !ends)) write_chunk(c, choice, false, false);
    if (ends) write_chunk(c, choice, false, true);
    choice->closed = ends;
    return true;
}

static void end_stream(struct completion *c) {
    struct str *out = &c->server->scratch;
    if (c->request.include_usage) {
        str_clear(out);
        completion_json_usage_chunk(c, out);
        http_exchange_stream_write(c->exchange, str_text(out), out->n_bytes);
    }
    http_exchange_stream_write(c->exchange, "data: [DONE]\n\n", 14);
    http_exchange_stream_end(c->exchange);
    c->exchange = NULL;
    completion_free(c);
}

static void begin_stream(struct completion *c) {
    c->stream_begun = true;
    activity_add(&c->server->activity.n_streams, 1);
    http_exchange_header(c->exchange, "Cache-Control", "no-cache");
    http_exchange_header(c->exchange, "X-Accel-Buffering", "no"); // nginx would collect the stream
    http_exchange_stream_begin(c->exchange, 200, "text/event-stream; charset=utf-8");
}

// Counts a stream once whose client leaves for a while what is there for it.
static void watch_reader(struct completion *c) {
    const uint64_t now_ns = clock_now_ns();
    if (c->is_blocked || now_ns - c->watched_ns < WATCH_NS) return;
    c->watched_ns = now_ns;
    if (http_exchange_stream_untaken(c->exchange) == 0)
        c->untaken_ns = 0;
    else if (!c->untaken_ns)
        c->untaken_ns = now_ns;
    c->is_blocked = c->untaken_ns && now_ns - c->untaken_ns >= BLOCKED_NS;
    if (c->is_blocked) activity_add(&c->server->activity.n_streams_blocked, 1);
}

static void flush_stream(struct completion *c) {
    bool any = c->stream_begun, all_written = true;
    for (int32_t i = 0; i < c->n_choices && !any; i++) any = c->choices[i].begun;
    if (!any) return;
    if (!c->stream_begun) begin_stream(c);
    for (int32_t i = 0; i < c->n_choices && all_written; i++) all_written = write_choice(c, &c->choices[i]);
    watch_reader(c);
    if (all_written && c->n_finished == c->n_choices) {
        end_stream(c);
    } else if (!all_written && held_bytes(c) > STREAM_HELD_BYTES_MAX) {
        struct api_error error = {0};
        api_error_set(&error, 400, NULL, NULL, "The client reads too slowly.");
        completion_fail(c, &error);
    }
}

static void flush_answer(struct completion *c) {
    struct api_error error = {0};
    if (c->n_collected > ANSWER_BYTES_MAX) {
        api_error_set(&error, 400, "invalid_value", NULL,
                      "The answer is larger than %d MiB; ask for fewer tokens, choices or log probabilities.",
                      ANSWER_BYTES_MAX >> 20);
        completion_fail(c, &error);
    } else if (c->n_finished == c->n_choices) {
        struct str out = STR_INIT;
        completion_json_answer(c, &out);
        http_exchange_reply(c->exchange, 200, "application/json", str_text(&out), out.n_bytes);
        str_close(&out);
        c->exchange = NULL;
        completion_free(c);
    }
}

void completion_flush(struct completion *c) {
    if (!c->exchange || c->is_working || !c->choices) return;
    if (c->failure != FINISH_NONE) {
        struct api_error error = {0};
        bool closing = c->failure == FINISH_ABORT;
        api_error_set(&error, closing ? 503 : 500, NULL, NULL,
                      closing ? "The server is shutting down." : "The model failed to compute this request.");
        completion_fail(c, &error);
    } else if (c->request.stream) {
        flush_stream(c);
    } else {
        flush_answer(c);
    }
}
