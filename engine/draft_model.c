#include "engine/draft_model.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/typical.h"
#include "engine/draft_slots.h"
#include "engine/memory_plan.h"
#include "models/tokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOTS_MAX = 64,      // sequences that may have drafts at a time
    MEMORY_SHARE = 16,   // of what is free, for the KV cache
    CATCH_UP_ROWS = 512, // in one step
};

enum { ROUND_TIMES = 8 }; // 1, 2, 3-4, 5-8, ...

struct draft_model {
    struct proposer common;
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct draft_slots slots;
    int32_t slot_blocks;                // of each slot: slot i has blocks i * slot_blocks ...
    int32_t vocab;                      // of the target: ids beyond it cannot be proposed
    struct typical rounds[ROUND_TIMES]; // nanoseconds of a step, by its rows
    struct typical row_ns;
};

// Of one query in the call that is going on.
struct drafting {
    struct draft_query *query;
    struct draft_slot *slot;
};

// ------------------------------------------------------------------------------------------------------ time

static int round_index(int32_t n_rows) {
    int i = 0;
    while (i < ROUND_TIMES - 1 && n_rows > 1 << i) i++;
    return i;
}

static double round_ns(const void *proposer, int32_t n_sequences) {
    const struct draft_model *draft = proposer;
    int index = round_index(n_sequences), nearest = -1;
    for (int i = 0; i < ROUND_TIMES; i++)
        if (draft->rounds[i].n_samples && (nearest < 0 || abs(i - index) < abs(nearest - index))) nearest = i;
    return nearest < 0 ? 0 : draft->rounds[nearest].value;
}

// A step in which some catch up says what a row costs only if it has many.
static void learn_rows(struct draft_model *draft, int32_t n_sequences, int32_t n_rows, double ns) {
    if (n_rows < 2 * n_sequences + 16) return;
    double row_ns = (ns - round_ns(draft, n_sequences)) / (n_rows - n_sequences);
    typical_learn(&draft->row_ns, row_ns > 0 ? row_ns : 0);
    draft->common.row_ns = draft->row_ns.value;
}

// ----------------------------------------------------------------------------------------------------- drafting

static void add_rows(struct draft_model *draft, struct step_input *input, struct drafting *drafting,
                     const int32_t *tokens, int32_t n_rows, bool draws) {
    struct draft_slot *slot = drafting->slot;
    const struct draft_query *query = drafting->query;
    int32_t first = slot->n_tokens, kv_len = first + n_rows, block_tokens = engine_limits(draft->engine)->block_tokens;
    int32_t first_block = (int32_t)(slot - draft->slots.items) * draft->slot_blocks;
    input->sequences[input->n_sequences] = (struct step_sequence){input->n_rows, n_rows, kv_len, input->n_block_table};
    for (int32_t i = 0; i * block_tokens < kv_len; i++) input->block_table[input->n_block_table++] = first_block + i;
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t row = input->n_rows++;
        input->token[row] = tokens[i];
        input->position[row] = first + i;
        input->sequence[row] = input->n_sequences;
        slot->tokens[slot->n_tokens++] = tokens[i];
    }
    input->n_sequences++;
    if (!draws) return;
    // Biases and penalties are the target's business: they change few tokens, and not the noise.
    struct sample_params *params = &input->sample[input->n_logit_rows];
    *params = *query->sampling;
    params->repetition_penalty = 1;
    params->presence_penalty = params->frequency_penalty = 0;
    params->choice_index = query->choice;
    params->position = kv_len;
    params->n_top_logprobs = params->forced_token = -1;
    params->edit_first = params->edit_count = params->seen_first = params->seen_count = 0;
    input->logit_row[input->n_logit_rows++] = input->n_rows - 1;
}

// Runs the step; a device that has failed will say so to the target, and then nothing is proposed.
static const struct sample_result *run_step(struct draft_model *draft, int32_t n_sequences, int32_t n_rows) {
    const struct sample_result *results;
    struct step_record record;
    uint64_t start_ns = clock_now_ns();
    engine_submit(draft->engine);
    if (engine_collect(draft->engine, &results, &record, NULL)) return NULL;
    double ns = (double)(clock_now_ns() - start_ns);
    if (n_rows == n_sequences)
        typical_learn(&draft->rounds[round_index(n_rows)], ns);
    else
        learn_rows(draft, n_sequences, n_rows, ns);
    // What disturbed this step will not disturb the next one: it counts as far as it could be the draft model's doing.
    double usual_ns = round_ns(draft, n_sequences) + draft->common.row_ns * (n_rows - n_sequences);
    draft->common.steps_ns += (uint64_t)(usual_ns > 0 && ns > 2 * usual_ns ? 2 * usual_ns : ns);
    return results;
}

// The tokens of a sequence that its slot lacks, as many as there is room for. True: all of them, so that it can draw.
static bool add_lag(struct draft_model *draft, struct step_input *input, struct drafting *drafting) {
    int32_t tokens[CATCH_UP_ROWS], room = CATCH_UP_ROWS, n = 0;
    int32_t n_left = engine_limits(draft->engine)->rows_max - input->n_rows;
    int32_t n_lag = draft_query_n_known(drafting->query) - drafting->slot->n_tokens;
    assert(n_lag > 0);
    if (room > n_left) room = n_left;
    while (n < n_lag && n < room) {
        tokens[n] = draft_query_token(drafting->query, drafting->slot->n_tokens + n);
        n++;
    }
    if (n > 0) add_rows(draft, input, drafting, tokens, n, n == n_lag);
    drafting->slot->n_agreed = drafting->slot->n_tokens;
    return n == n_lag;
}

static int compare_lag(const void *a, const void *b) {
    const struct drafting *x = a, *y = b;
    int32_t lag_x = draft_query_n_known(x->query) - x->slot->n_tokens;
    int32_t lag_y = draft_query_n_known(y->query) - y->slot->n_tokens;
    return (lag_x > lag_y) - (lag_x < lag_y);
}

// Every sequence catches up and draws its first draft. Keeps those that did; returns how many.
static int32_t catch_up(struct draft_model *draft, struct drafting *items, int32_t n) {
    struct step_input *input = engine_next_input(draft->engine);
    // Who lags little must not wait for who lags much.
    qsort(items, (size_t)n, sizeof *items, compare_lag);
    int32_t n_drawing = 0, n_seen = n;
    for (int32_t i = 0; i < n_seen; i++)
        if (add_lag(draft, input, &items[i])) items[n_drawing++] = items[i];
    if (input->n_rows == 0) return 0;
    const struct sample_result *results = run_step(draft, input->n_sequences, input->n_rows);
    if (!results) return 0;
    for (int32_t i = 0; i < n_drawing; i++) {
        struct draft_query *query = items[i].query;
        query->tokens[query->n++] = results[i].token;
    }
    return n_drawing;
}

// Sequences go on until they have their drafts. An id that the target lacks ends them.
static int32_t keep_going(const struct draft_model *draft, struct drafting *items, int32_t n) {
    int32_t n_kept = 0;
    for (int32_t i = 0; i < n; i++) {
        struct draft_query *query = items[i].query;
        if (query->tokens[query->n - 1] >= draft->vocab)
            query->n--;
        else if (query->n < query->n_max)
            items[n_kept++] = items[i];
    }
    return n_kept;
}

static int32_t run_round(struct draft_model *draft, struct drafting *items, int32_t n) {
    struct step_input *input = engine_next_input(draft->engine);
    for (int32_t i = 0; i < n; i++)
        add_rows(draft, input, &items[i], &items[i].query->tokens[items[i].query->n - 1], 1, true);
    const struct sample_result *results = run_step(draft, n, n);
    if (!results) return 0;
    for (int32_t i = 0; i < n; i++) items[i].query->tokens[items[i].query->n++] = results[i].token;
    return n;
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct draft_model *draft = (struct draft_model *)proposer;
    struct drafting items[SLOTS_MAX];
    int32_t n = 0;
    proposer->steps_ns = 0;
    draft_slots_begin(&draft->slots);
    for (int32_t i = 0; i < n_queries && n < draft->slots.n_slots; i++) {
        struct draft_slot *slot = draft_slots_find(&draft->slots, &queries[i]);
        if (!slot) continue;
        draft_slots_take(&draft->slots, slot, &queries[i]);
        items[n++] = (struct drafting){&queries[i], slot};
    }
    if (n == 0) return;
    n = keep_going(draft, items, catch_up(draft, items, n));
    while (n > 0) n = keep_going(draft, items, run_round(draft, items, n));
}

static int32_t lag(const struct proposer *proposer, const struct draft_query *query) {
    const struct draft_model *draft = (const struct draft_model *)proposer;
    const struct draft_slot *slot = draft_slots_find(&draft->slots, query);
    return slot ? draft_query_n_known(query) - 1 - draft_slots_n_agreed(slot, query) : -1;
}

static void end(struct proposer *proposer, const struct draft_query *query) {
    draft_slots_end(&((struct draft_model *)proposer)->slots, query);
}

static size_t bytes(const struct proposer *proposer) {
    const struct draft_model *draft = (const struct draft_model *)proposer;
    return sizeof *draft + draft_slots_bytes(&draft->slots);
}

// ------------------------------------------------------------------------------------------------ open and close

static void close_draft(struct proposer *proposer) {
    struct draft_model *draft = (struct draft_model *)proposer;
    draft_slots_close(&draft->slots);
    engine_close(draft->engine);
    if (draft->backend) backend_close(draft->backend);
    model_close(draft->model);
    free(draft);
}

bool draft_model_find(const char *target_path, char out[4096]) {
    if (!target_path || strcmp(target_path, "demo") == 0) {
        snprintf(out, 4096, "demo/draft");
        return true;
    }
    char config[4096 + 16];
    if (snprintf(out, 4096, "%s/draft", target_path) >= 4096) return false;
    snprintf(config, sizeof config, "%s/config.json", out);
    return access(config, R_OK) == 0;
}

static int32_t count_ids(const struct model *model) {
    int32_t n = model->tokenizer ? tokenizer_vocab(model->tokenizer) : model->spec.vocab;
    return n < model->spec.vocab ? n : model->spec.vocab;
}

int draft_model_check_tokens(const struct model *target, const struct model *draft, struct err *err) {
    if (count_ids(target) > draft->spec.vocab)
        return err_set(err, ERR_INVALID, "%s cannot draft for %s: it has %d tokens, the model %d", draft->path,
                       target->path, draft->spec.vocab, count_ids(target));
    if (!target->tokenizer || !draft->tokenizer) return 0;
    int32_t n_target = tokenizer_vocab(target->tokenizer), n_draft = tokenizer_vocab(draft->tokenizer);
    for (int32_t id = 0; id < n_target || id < n_draft; id++) {
        struct str_view a = {0}, b = {0};
        if (id < n_target) a = tokenizer_token_text(target->tokenizer, id);
        if (id < n_draft) b = tokenizer_token_text(draft->tokenizer, id);
        if (!a.data == !b.data && (!a.data || (a.n_bytes == b.n_bytes && memcmp(a.data, b.data, a.n_bytes) == 0)))
            continue;
        return err_set(err, ERR_INVALID, "%s cannot draft for %s: token %d is \"%.*s\" there and \"%.*s\" here",
                       draft->path, target->path, id, b.data ? (int)b.n_bytes : 0, b.data ? b.data : "",
                       a.data ? (int)a.n_bytes : 0, a.data ? a.data : "");
    }
    return 0;
}

static int open_engine(struct draft_model *draft, const struct draft_model_options *options, struct err *err) {
    const struct engine_limits *target = engine_limits(options->engine);
    int32_t context = target->context, n_ids = count_ids(draft->model);
    if (context > draft->model->spec.context_max) context = draft->model->spec.context_max;
    struct engine_options engine = {.context = context,
                                    .sequences_max =
                                        target->sequences_max < SLOTS_MAX ? target->sequences_max : SLOTS_MAX,
                                    .steps_in_flight = 1,
                                    .kv_format = options->kv_format,
                                    .weights = options->weights};
    struct memory_plan plan;
    uint64_t budget = backend_memory_available(draft->backend) / MEMORY_SHARE;
    int rc = memory_plan_make(&plan, &draft->model->spec, n_ids, &engine, budget, err);
    if (rc) return rc;
    engine.kv_bytes = (uint64_t)plan.limits.n_blocks * kv_bytes_per_block(&plan.kv);
    return engine_open(&draft->engine, draft->model, draft->backend, &engine, err);
}

static void open_slots(struct draft_model *draft) {
    const struct engine_limits *limits = engine_limits(draft->engine);
    draft->slot_blocks = (limits->context + limits->block_tokens - 1) / limits->block_tokens;
    int32_t n_slots = limits->n_blocks / draft->slot_blocks;
    if (n_slots > limits->sequences_max) n_slots = limits->sequences_max;
    draft_slots_open(&draft->slots, n_slots, limits->context);
}

static void fill_ledger(const struct draft_model *draft, struct memory_ledger *ledger) {
    struct memory_ledger own = {0};
    engine_list_memory(draft->engine, &own);
    uint64_t reserved = 0, committed = 0;
    for (int i = 0; i < own.n_rows; i++) {
        if (strcmp(own.rows[i].owner, "driver") == 0) continue; // the target's memory, seen from beside it
        reserved += own.rows[i].reserved_bytes;
        committed += own.rows[i].committed_bytes;
    }
    memory_ledger_add(ledger, "draft model", reserved, committed, "%.1f M parameters, KV cache of %d sequences",
                      (double)draft->model->spec.n_parameters / 1e6, draft->slots.n_slots);
}

int draft_model_open(struct proposer **out, const struct draft_model_options *options, struct memory_ledger *ledger,
                     struct err *err) {
    struct draft_model *draft = mem_alloc_zero(1, sizeof *draft);
    draft->common = (struct proposer){.name = "draft",
                                      .runs_steps = true,
                                      .propose = propose,
                                      .round_ns = round_ns,
                                      .lag = lag,
                                      .end = end,
                                      .bytes = bytes,
                                      .close = close_draft};
    draft->vocab = engine_limits(options->engine)->vocab;
    struct backend_options beside = options->backend_options;
    beside.beside = options->backend;
    int rc = model_open(&draft->model, &(struct model_options){.path = options->path}, err);
    if (!rc) rc = draft_model_check_tokens(options->target, draft->model, err);
    if (!rc) rc = backend_open(&draft->backend, &beside, err);
    if (!rc) rc = open_engine(draft, options, err);
    if (rc) {
        close_draft(&draft->common);
        return rc;
    }
    open_slots(draft);
    fill_ledger(draft, ledger);
    *out = &draft->common;
    return 0;
}
