// An engine without a model: it defines the functions of engine/engine.h, so include it in one file of a test.
//
// The next token is a hash of all tokens before it, computed through a paged cache that remembers what was written to
// each slot: a wrong block table, a stale block, a wrong position, a missing or a second write give a wrong token or
// fail an assertion. A step runs when it is collected, but its slots are spoiled when it is submitted, so a block that
// is given away while a step in flight still reads it is noticed too.
#pragma once

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/engine.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct fake_slot {
    uint64_t value;
    bool pending; // will be written by a step that was submitted and not collected
};

struct engine {
    struct engine_limits limits;
    struct step_input inputs[2];
    struct sample_result *results[2]; // of the steps, in turn
    struct fake_slot *slots;          // [n_blocks, block_tokens]
    uint64_t n_submitted, n_collected;
    uint64_t submitted_ns[2];
    void (*before_collect)(void *context); // may be NULL
    void *context;
    int threads_max;
    _Atomic int32_t n_blocks_ready;
    uint64_t fails_from; // ticket of the first step that fails, as do all behind it; 0: none
};

// ---------------------------------------------------------------------------------------------------- the model

// What the cache holds at a position: depends on the token and on all before it.
static inline uint64_t fake_slot_value(uint64_t previous, int32_t token, int32_t position) {
    return rng_mix64(previous ^ ((uint64_t)(uint32_t)token << 32 | (uint32_t)position));
}

// What a row attends to: a sum over the slots up to its own.
static inline uint64_t fake_attend(uint64_t sum, uint64_t value, int32_t position) {
    return sum + value * (2 * (uint64_t)position + 1);
}

static inline uint64_t fake_edit_hash(struct logit_edit edit) {
    uint32_t bits;
    memcpy(&bits, &edit.add, sizeof bits);
    return rng_mix64((uint64_t)(uint32_t)edit.token << 32 | bits);
}

static inline uint64_t fake_seen_hash(struct seen_token seen) {
    return rng_mix64(~((uint64_t)(uint32_t)seen.token << 32 | (uint32_t)seen.n_generated));
}

// The drawn token, before bans. conditions: sums of the hashes of edits and seen tokens.
static inline uint64_t fake_draw(uint64_t attended, uint64_t conditions, const struct sample_params *params) {
    uint64_t key = rng_key(params->seed, (uint64_t)params->choice_index, (uint64_t)params->position);
    return rng_mix64(attended ^ rng_mix64(conditions ^ key));
}

static inline float fake_logprob(uint64_t attended, int32_t token) {
    return -(float)(rng_mix64(attended ^ (uint64_t)(uint32_t)token) >> 44);
}

// --------------------------------------------------------------------------------------------------- the engine

static struct engine *fake_engine_open(const struct engine_limits *limits) {
    struct engine *engine = mem_alloc_zero(1, sizeof *engine);
    engine->limits = *limits;
    for (int i = 0; i < 2; i++) {
        struct step_input *input = &engine->inputs[i];
        size_t n_rows = (size_t)limits->rows_max, n_logits = (size_t)limits->logit_rows_max;
        input->token = mem_alloc_zero(n_rows, sizeof *input->token);
        input->position = mem_alloc_zero(n_rows, sizeof *input->position);
        input->sequence = mem_alloc_zero(n_rows, sizeof *input->sequence);
        input->sequences = mem_alloc_zero((size_t)limits->sequences_max, sizeof *input->sequences);
        input->block_table = mem_alloc_zero((size_t)limits->block_table_max, sizeof *input->block_table);
        input->logit_row = mem_alloc_zero(n_logits, sizeof *input->logit_row);
        input->sample = mem_alloc_zero(n_logits, sizeof *input->sample);
        input->edits = mem_alloc_zero((size_t)limits->edits_max, sizeof *input->edits);
        input->seen = mem_alloc_zero((size_t)limits->seen_max, sizeof *input->seen);
        engine->results[i] = mem_alloc_zero(n_logits, sizeof **engine->results);
    }
    engine->slots = mem_alloc_zero((size_t)limits->n_blocks * (size_t)limits->block_tokens, sizeof *engine->slots);
    return engine;
}

static void fake_engine_close(struct engine *engine) {
    for (int i = 0; i < 2; i++) {
        struct step_input *input = &engine->inputs[i];
        void *const arrays[] = {input->token,       input->position,   input->sequence, input->sequences,
                                input->block_table, input->logit_row,  input->sample,   input->edits,
                                input->seen,        engine->results[i]};
        for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++) free(arrays[a]);
    }
    free(engine->slots);
    free(engine);
}

const struct engine_limits *engine_limits(const struct engine *engine) {
    return &engine->limits;
}

int engine_n_ranks(const struct engine *engine) {
    (void)engine;
    return 1;
}

int engine_threads(const struct engine *engine) {
    (void)engine;
    return 4;
}

bool engine_touch_kv(struct engine *engine, int32_t n_blocks) {
    assert_true(n_blocks > 0 && n_blocks <= engine->limits.n_blocks);
    const bool some = engine->n_blocks_ready < n_blocks;
    if (some) engine->n_blocks_ready++;
    return some;
}

void engine_limit_threads(struct engine *engine, int n) {
    engine->threads_max = n;
}

void engine_measure_peaks(struct engine *engine, struct backend_peaks *out) {
    assert(engine->n_submitted == engine->n_collected);
    *out = (struct backend_peaks){.read_bytes_per_s = 1e9};
}

int engine_check_ranks(struct engine *engine, struct err *err) {
    (void)engine, (void)err;
    return 0;
}

int32_t engine_n_in_flight(const struct engine *engine) {
    return (int32_t)(engine->n_submitted - engine->n_collected);
}

struct step_input *engine_next_input(struct engine *engine) {
    assert(engine_n_in_flight(engine) < engine->limits.steps_in_flight);
    struct step_input *input = &engine->inputs[engine->n_submitted % 2];
    input->n_rows = input->n_sequences = input->n_logit_rows = 0;
    input->n_block_table = input->n_edits = input->n_seen = 0;
    return input;
}

static struct fake_slot *fake_slot_at(struct engine *engine, const struct step_input *input,
                                      const struct step_sequence *sequence, int32_t position) {
    int32_t block_tokens = engine->limits.block_tokens;
    assert(position >= 0 && position < sequence->kv_len);
    int32_t block = input->block_table[sequence->block_first + position / block_tokens];
    assert(block >= 0 && block < engine->limits.n_blocks);
    return &engine->slots[block * block_tokens + position % block_tokens];
}

static void fake_check_input(const struct engine *engine, const struct step_input *input) {
    const struct engine_limits *limits = &engine->limits;
    assert(input->n_rows > 0 && input->n_rows <= limits->rows_max);
    assert(input->n_sequences > 0 && input->n_sequences <= limits->sequences_max);
    assert(input->n_logit_rows <= limits->logit_rows_max && input->n_block_table <= limits->block_table_max);
    assert(input->n_edits <= limits->edits_max && input->n_seen <= limits->seen_max);
    int32_t n_rows = 0, n_table = 0;
    for (int32_t s = 0; s < input->n_sequences; s++) {
        const struct step_sequence *sequence = &input->sequences[s];
        assert(sequence->row_first == n_rows && sequence->row_count > 0 && sequence->block_first == n_table);
        assert(sequence->kv_len >= sequence->row_count && sequence->kv_len <= limits->context);
        for (int32_t i = 0; i < sequence->row_count; i++) {
            assert(input->sequence[n_rows + i] == s);
            assert(input->position[n_rows + i] == sequence->kv_len - sequence->row_count + i);
        }
        n_rows += sequence->row_count;
        n_table += (sequence->kv_len + limits->block_tokens - 1) / limits->block_tokens;
    }
    assert(n_rows == input->n_rows && n_table == input->n_block_table);
    for (int32_t l = 0; l < input->n_logit_rows; l++) {
        assert(l == 0 || input->logit_row[l - 1] < input->logit_row[l]);
        assert(input->sample[l].position == input->position[input->logit_row[l]] + 1);
    }
}

uint64_t engine_submit(struct engine *engine) {
    struct step_input *input = &engine->inputs[engine->n_submitted % 2];
    fake_check_input(engine, input);
    const struct step_input *before = &engine->inputs[(engine->n_submitted + 1) % 2];
    for (int32_t row = 0; row < input->n_rows; row++) {
        if (input->token[row] < 0) {
            assert(engine_n_in_flight(engine) == 1 && -1 - input->token[row] < before->n_logit_rows);
        } else {
            assert(input->token[row] < engine->limits.vocab);
        }
        struct fake_slot *slot =
            fake_slot_at(engine, input, &input->sequences[input->sequence[row]], input->position[row]);
        assert(!slot->pending);
        *slot = (struct fake_slot){0xdeadbeefdeadbeef, true};
    }
    engine->submitted_ns[engine->n_submitted % 2] = clock_now_ns();
    return ++engine->n_submitted;
}

static uint64_t fake_run_row(struct engine *engine, const struct step_input *input, int32_t row, int32_t token) {
    const struct step_sequence *sequence = &input->sequences[input->sequence[row]];
    int32_t position = input->position[row];
    uint64_t sum = 0, previous = 0;
    for (int32_t p = 0; p < position; p++) {
        const struct fake_slot *slot = fake_slot_at(engine, input, sequence, p);
        assert(!slot->pending);
        previous = slot->value;
        sum = fake_attend(sum, previous, p);
    }
    struct fake_slot *slot = fake_slot_at(engine, input, sequence, position);
    *slot = (struct fake_slot){fake_slot_value(previous, token, position), false};
    return fake_attend(sum, slot->value, position);
}

static bool fake_is_banned(const struct step_input *input, const struct sample_params *params, int32_t token) {
    for (int32_t i = 0; i < params->edit_count; i++)
        if (input->edits[params->edit_first + i].token == token && isinf(input->edits[params->edit_first + i].add))
            return true;
    return false;
}

static struct sample_result fake_sample(const struct engine *engine, const struct step_input *input,
                                        const struct sample_params *params, uint64_t attended) {
    struct sample_result result = {.token = params->forced_token};
    uint64_t conditions = 0;
    for (int32_t i = 0; i < params->edit_count; i++) conditions += fake_edit_hash(input->edits[params->edit_first + i]);
    for (int32_t i = 0; i < params->seen_count; i++) conditions += fake_seen_hash(input->seen[params->seen_first + i]);
    if (result.token < 0) {
        result.token = (int32_t)(fake_draw(attended, conditions, params) % (uint64_t)engine->limits.vocab);
        while (fake_is_banned(input, params, result.token)) result.token = (result.token + 1) % engine->limits.vocab;
    }
    result.logprob = fake_logprob(attended, result.token);
    return result;
}

int engine_collect(struct engine *engine, const struct sample_result **results, struct step_record *record,
                   struct err *err) {
    assert(engine_n_in_flight(engine) > 0);
    if (engine->before_collect) engine->before_collect(engine->context);
    if (engine->fails_from && engine->n_collected + 1 >= engine->fails_from) {
        engine->n_collected++;
        return err_set(err, ERR_IO, "the fake device has failed");
    }
    const struct step_input *input = &engine->inputs[engine->n_collected % 2];
    struct sample_result *out = engine->results[engine->n_collected % 2];
    const struct sample_result *before = engine->results[(engine->n_collected + 1) % 2];
    int32_t l = 0;
    for (int32_t row = 0; row < input->n_rows; row++) {
        int32_t token = input->token[row];
        uint64_t attended = fake_run_row(engine, input, row, token < 0 ? before[-1 - token].token : token);
        if (l < input->n_logit_rows && input->logit_row[l] == row) {
            out[l] = fake_sample(engine, input, &input->sample[l], attended);
            l++;
        }
    }
    assert(l == input->n_logit_rows);
    uint64_t submitted_ns = engine->submitted_ns[engine->n_collected % 2];
    *record = (struct step_record){.ticket = ++engine->n_collected,
                                   .submitted_ns = submitted_ns,
                                   .collected_ns = clock_now_ns(),
                                   .n_rows = input->n_rows,
                                   .n_sequences = input->n_sequences,
                                   .n_logit_rows = input->n_logit_rows};
    *results = out;
    return 0;
}
