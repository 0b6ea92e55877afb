#include "engine/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/forward.h"
#include "engine/memory_plan.h"
#include "engine/step_cost.h"
#include "engine/step_packet.h"
#include "models/chat_template.h"
#include "models/shard.h"
#include "models/tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_IN_FLIGHT_MAX = 2 };

struct engine {
    struct model *model;
    struct model_spec *spec; // the model's, or this rank's shard of it
    struct model_spec shard;
    struct arena shard_memory;
    struct comm *comm;   // NULL: one rank
    void *packet;        // for rank 0's inputs on their way to the others
    struct err send_err; // why the others did not get a step; code 0: they did
    struct backend *backend;
    struct program *program;
    struct memory_plan plan;
    size_t input_bytes; // of all inputs
    // Inputs are used in turn: one more than can be in flight is never needed, because filling precedes submitting.
    struct step_input inputs[STEPS_IN_FLIGHT_MAX];
    void *input_memory[STEPS_IN_FLIGHT_MAX];
    struct cost_model cost;
    struct step_record records[STEPS_IN_FLIGHT_MAX];
    struct sample_result *results; // [logit_rows_max] of the step collected last
    uint64_t n_submitted, n_collected;
    uint64_t last_collected_ns;
};

// All arrays of one input in one block, so that a device can take them with one copy. base NULL: only the size counts.
static size_t input_layout(struct step_input *input, char *base, const struct engine_limits *limits) {
    size_t used = 0;
#define PLACE(field, count)                                                                                            \
    do {                                                                                                               \
        input->field = base ? (void *)(base + used) : NULL;                                                            \
        used += ((size_t)(count) * sizeof *input->field + 63) / 64 * 64;                                               \
    } while (0)
    PLACE(token, limits->rows_max);
    PLACE(position, limits->rows_max);
    PLACE(sequence, limits->rows_max);
    PLACE(sequences, limits->sequences_max);
    PLACE(block_table, limits->block_table_max);
    PLACE(logit_row, limits->logit_rows_max);
    PLACE(sample, limits->logit_rows_max);
    PLACE(edits, limits->edits_max);
    PLACE(seen, limits->seen_max);
#undef PLACE
    return used;
}

// Weights on their way to the device.
struct loading {
    struct backend *backend;
    const struct engine_options *options;
    uint64_t done, total; // bytes
};

static int load_weight(struct loading *loading, struct tensor *tensor, enum weight_format format, struct err *err) {
    int rc = backend_weight_load(loading->backend, tensor, format, err);
    loading->done += backend_weight_bytes(loading->backend, tensor, format);
    if (!rc && loading->options->progress)
        loading->options->progress(loading->options->progress_context, loading->done, loading->total);
    return rc;
}

// Whether a device makes copies that must fit beside what is there.
static bool copies_weights(const struct engine *engine, enum weight_format format) {
    const struct tensor *embed = &engine->spec->embed, *first = &engine->spec->layers[0].wq;
    return backend_holds_weights(engine->backend) || format != WEIGHT_AS_IS || embed->random_key ||
           tensor_format_is_quantised(embed->format) || tensor_format_is_quantised(first->format);
}

static int load_weights(struct engine *engine, const struct engine_options *options, enum weight_format format,
                        struct err *err) {
    struct model_spec *spec = engine->spec;
    struct loading loading = {.backend = engine->backend, .options = options};
    loading.total = memory_plan_weight_bytes(engine->backend, spec, format);
    int rc = 0;
    if (copies_weights(engine, format))
        rc = memory_plan_check_weights(engine->backend, spec, format, backend_memory_available(engine->backend), err);
    if (!rc) rc = load_weight(&loading, &spec->embed, memory_plan_embed_format(engine->backend, spec, format), err);
    if (!rc && spec->tied)
        spec->head.handle = spec->embed.handle;
    else if (!rc)
        rc = load_weight(&loading, &spec->head, memory_plan_head_format(engine->backend, &spec->head, format), err);
    for (int32_t i = 0; !rc && i < spec->n_layers; i++) {
        struct layer_spec *l = &spec->layers[i];
        struct tensor *matrix;
        for (size_t m = 0; !rc && (matrix = layer_matrix(spec, l, m)); m++)
            rc = load_weight(&loading, matrix, memory_plan_matrix_format(l, matrix, format), err);
    }
    return rc ? err_prefix(err, "%s", engine->model->path) : 0;
}

static int open_program(struct engine *engine, struct err *err) {
    const struct model_spec *spec = engine->spec;
    const struct engine_limits *limits = &engine->plan.limits;
    struct program_shape shape = {.rows_max = limits->rows_max,
                                  .sequences_max = limits->sequences_max,
                                  .logit_rows_max = limits->logit_rows_max,
                                  .hidden = spec->hidden,
                                  .q_width = spec->n_heads * spec->head_dim,
                                  .kv_width = spec->n_kv_heads * spec->head_dim,
                                  .mlp_width = spec->mlp_width,
                                  .n_experts = spec->n_experts,
                                  .n_hit = spec->n_hit,
                                  .expert_width = spec->expert_width,
                                  .vocab = spec->vocab,
                                  .n_ropes = spec->n_ropes,
                                  .ropes = spec->ropes,
                                  .context = limits->context,
                                  .edits_max = limits->edits_max,
                                  .seen_max = limits->seen_max,
                                  .comm = engine->comm,
                                  .vocab_first = spec->vocab_first,
                                  .vocab_rows = spec->embed.n_rows};
    if (spec->long_rope_beyond && limits->context > spec->long_rope_beyond) shape.ropes = &spec->long_rope;
    int rc = program_open(&engine->program, engine->backend, &shape, err);
    if (rc) return rc;
    forward_record(engine->program, spec, limits->vocab);
    return program_prepare(engine->program, err);
}

void engine_list_memory(const struct engine *engine, struct memory_ledger *ledger) {
    const struct engine_limits *limits = &engine->plan.limits;
    const struct model *model = engine->model;
    struct backend_memory memory;
    backend_memory(engine->backend, &memory);
    // What the device made, and what it uses where the model has it.
    bool holds = backend_holds_weights(engine->backend), random = model->spec.embed.random_key != 0;
    double n_millions = (double)model->spec.n_parameters / 1e6;
    if (memory.weights_bytes)
        memory_ledger_add(ledger, "weights", memory.weights_bytes, memory.weights_bytes,
                          "%.1f M parameters, from %s, %s", n_millions, model->source_format,
                          holds    ? "on the device"
                          : random ? "drawn at the start"
                                   : "packed for the kernels");
    if (memory.mapped_bytes)
        memory_ledger_add(ledger, "weights", memory.mapped_bytes, memory.mapped_bytes,
                          "%.1f M parameters, from %s, where the files are mapped", n_millions, model->source_format);
    memory_ledger_add(ledger, "KV cache", memory.kv_bytes, memory.kv_resident_bytes, "%d blocks of %d tokens, %s",
                      limits->n_blocks, limits->block_tokens, kv_format_name(engine->plan.kv.format));
    memory_ledger_add(ledger, "activations", memory.activation_bytes, memory.activation_resident_bytes,
                      "%d rows, %d rows of logits a step", limits->rows_max, limits->logit_rows_max);
    memory_ledger_add(ledger, "workspace", memory.workspace_bytes + engine->input_bytes,
                      memory.workspace_resident_bytes, "scratch and the inputs of %d steps", limits->steps_in_flight);
    if (memory.driver_bytes)
        memory_ledger_add(ledger, "driver", memory.driver_bytes, memory.driver_bytes,
                          "of the device: its driver, libraries and other programs");
    size_t text_bytes = model->tokenizer ? tokenizer_bytes(model->tokenizer) : 0;
    if (model->chat_template) text_bytes += chat_template_bytes(model->chat_template);
    memory_ledger_add(ledger, "text", text_bytes, text_bytes, "tokenizer%s",
                      model->chat_template ? " and chat template" : "");
}

static int take_shard(struct engine *engine, struct comm *comm, struct err *err) {
    engine->spec = &engine->model->spec;
    engine->comm = comm;
    if (!comm) return 0;
    engine->spec = &engine->shard;
    return model_shard(&engine->shard, &engine->model->spec, comm_rank(comm), comm_n_ranks(comm), &engine->shard_memory,
                       err);
}

// All ranks must make the same plan, and begin together.
static int agree_on_memory(struct engine *engine, uint64_t *available_bytes, struct err *err) {
    *available_bytes = backend_memory_available(engine->backend);
    if (!engine->comm) return 0;
    int n_ranks = comm_n_ranks(engine->comm);
    uint64_t *all = mem_alloc_zero((size_t)n_ranks, sizeof *all);
    int rc = comm_all_gather(engine->comm, available_bytes, sizeof *available_bytes, all, err);
    for (int i = 0; !rc && i < n_ranks; i++)
        if (all[i] < *available_bytes) *available_bytes = all[i];
    free(all);
    return rc;
}

static int engine_start(struct engine *engine, const struct engine_options *options, struct err *err) {
    const struct model *model = engine->model;
    int32_t n_token_ids = model->spec.vocab;
    // Rows of the head beyond the tokenizer's vocabulary are padding.
    if (model->tokenizer && tokenizer_vocab(model->tokenizer) < n_token_ids)
        n_token_ids = tokenizer_vocab(model->tokenizer);
    enum weight_format format;
    int rc = memory_plan_weight_format(&format, options->weights, err);
    if (!rc) rc = take_shard(engine, options->comm, err);
    if (!rc) rc = load_weights(engine, options, format, err);
    uint64_t left_bytes;
    if (!rc) rc = agree_on_memory(engine, &left_bytes, err);
    struct engine_options filled = *options;
    if (!filled.rows_max) filled.rows_max = memory_plan_rows(engine->backend);
    if (!rc)
        rc = memory_plan_make(&engine->plan, engine->spec, n_token_ids, &filled,
                              memory_plan_kv_budget(engine->backend, left_bytes), err);
    if (rc) return rc;
    struct engine_limits *limits = &engine->plan.limits;
    // On a CPU a step meets the other ranks when it is collected, which must not be mixed with sending the next one.
    if (!limits->steps_in_flight || engine->comm) limits->steps_in_flight = backend_steps_in_flight(engine->backend);
    assert(limits->steps_in_flight >= 1 && limits->steps_in_flight <= STEPS_IN_FLIGHT_MAX);
    cost_model_make(&engine->cost, engine->backend, engine->spec, format, &engine->plan.kv);
    rc = backend_kv_open(engine->backend, &engine->plan.kv, err);
    if (!rc) rc = open_program(engine, err);
    if (rc) return rc;
    struct step_input probe;
    size_t input_bytes = input_layout(&probe, NULL, limits);
    for (int i = 0; i < STEPS_IN_FLIGHT_MAX; i++) {
        engine->input_memory[i] = aligned_alloc(64, input_bytes);
        if (!engine->input_memory[i]) return err_set(err, ERR_IO, "no memory for the inputs of a step");
        input_layout(&engine->inputs[i], engine->input_memory[i], limits);
    }
    engine->results = mem_alloc_zero((size_t)limits->logit_rows_max, sizeof *engine->results);
    if (engine->comm) {
        engine->packet = mem_alloc(step_packet_bytes(input_bytes));
        uint64_t ready_bytes;
        rc = agree_on_memory(engine, &ready_bytes, err); // nobody is patient before all are here
        if (rc) return rc;
        comm_set_patience(engine->comm, COMM_PATIENCE_S);
    }
    engine->input_bytes = input_bytes * STEPS_IN_FLIGHT_MAX;
    return 0;
}

int engine_open(struct engine **out, struct model *model, struct backend *backend, const struct engine_options *options,
                struct err *err) {
    struct engine *engine = mem_alloc_zero(1, sizeof *engine);
    engine->model = model;
    engine->backend = backend;
    int rc = engine_start(engine, options, err);
    if (rc) {
        engine_close(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

void engine_close(struct engine *engine) {
    if (!engine) return;
    while (engine->n_collected < engine->n_submitted) {
        const struct sample_result *results;
        struct step_record record;
        if (engine_collect(engine, &results, &record, NULL)) continue; // a device that has failed collects in vain
    }
    if (engine->packet && comm_rank(engine->comm) == 0 &&
        step_packet_send(engine->comm, PACKET_END, NULL, engine->packet, NULL))
        log_warning("the other ranks were not told to stop");
    if (engine->program) program_close(engine->program);
    for (int i = 0; i < STEPS_IN_FLIGHT_MAX; i++) free(engine->input_memory[i]);
    free(engine->results);
    free(engine->packet);
    arena_close(&engine->shard_memory);
    free(engine);
}

const struct engine_limits *engine_limits(const struct engine *engine) {
    return &engine->plan.limits;
}

const struct kv_shape *engine_kv(const struct engine *engine) {
    return &engine->plan.kv;
}

const struct cost_model *engine_cost(const struct engine *engine) {
    return &engine->cost;
}

struct step_input *engine_next_input(struct engine *engine) {
    assert(engine_n_in_flight(engine) < engine->plan.limits.steps_in_flight);
    struct step_input *input = &engine->inputs[engine->n_submitted % STEPS_IN_FLIGHT_MAX];
    input->n_rows = input->n_sequences = input->n_logit_rows = 0;
    input->n_block_table = input->n_edits = input->n_seen = 0;
    return input;
}

uint64_t engine_submit(struct engine *engine) {
    const struct step_input *input = &engine->inputs[engine->n_submitted % STEPS_IN_FLIGHT_MAX];
    const struct engine_limits *limits = &engine->plan.limits;
    assert(input->n_rows > 0 && input->n_rows <= limits->rows_max);
    assert(input->n_sequences > 0 && input->n_sequences <= limits->sequences_max);
    assert(input->n_logit_rows >= 0 && input->n_logit_rows <= limits->logit_rows_max);
    uint64_t now = clock_now_ns();
    bool idle = engine->n_submitted == engine->n_collected;
    struct step_record *record = &engine->records[engine->n_submitted % STEPS_IN_FLIGHT_MAX];
    *record =
        (struct step_record){.ticket = engine->n_submitted + 1,
                             .submitted_ns = now,
                             .host_gap_ns = idle && engine->last_collected_ns ? now - engine->last_collected_ns : 0};
    step_cost_count(record, &engine->cost, input);
    if (engine->comm && comm_rank(engine->comm) == 0 && !engine->send_err.code)
        engine->send_err.code = step_packet_send(engine->comm, PACKET_STEP, input, engine->packet, &engine->send_err);
    backend_submit(engine->backend, engine->program, input);
    return ++engine->n_submitted;
}

int engine_collect(struct engine *engine, const struct sample_result **results, struct step_record *record,
                   struct err *err) {
    assert(engine->n_collected < engine->n_submitted);
    *record = engine->records[engine->n_collected % STEPS_IN_FLIGHT_MAX];
    int rc = backend_collect(engine->backend, engine->results, &record->times, err);
    if (!rc && engine->send_err.code) rc = err_set(err, engine->send_err.code, "%s", engine->send_err.text);
    record->n_padding_rows = record->times.n_padding_rows;
    if (record->times.n_experts_hit) step_cost_count_experts(record, &engine->cost, record->times.n_experts_hit);
    record->collected_ns = engine->last_collected_ns = clock_now_ns();
    engine->n_collected++;
    *results = engine->results;
    return rc;
}

int engine_threads(const struct engine *engine) {
    return backend_threads(engine->backend);
}

void engine_limit_threads(struct engine *engine, int n) {
    backend_limit_threads(engine->backend, n);
}

void engine_measure_peaks(struct engine *engine, struct backend_peaks *out) {
    backend_measure_peaks(engine->backend, out);
}

bool engine_touch_kv(struct engine *engine, int32_t n_blocks) {
    return backend_touch_kv(engine->backend, n_blocks);
}

int engine_n_ranks(const struct engine *engine) {
    return comm_n_ranks(engine->comm);
}

static int answer_check(struct engine *engine, struct err *err) {
    uint64_t available_bytes;
    return agree_on_memory(engine, &available_bytes, err);
}

int engine_check_ranks(struct engine *engine, struct err *err) {
    assert(engine->n_collected == engine->n_submitted);
    if (!engine->comm) return 0;
    int rc = step_packet_send(engine->comm, PACKET_CHECK, NULL, engine->packet, err);
    return rc ? rc : answer_check(engine, err);
}

int engine_follow(struct engine *engine, struct err *err) {
    assert(comm_rank(engine->comm) > 0);
    for (;;) {
        // A step may refer to the one before: as many stay in flight as rank 0 may have.
        while (engine_n_in_flight(engine) >= engine->plan.limits.steps_in_flight) {
            const struct sample_result *results;
            struct step_record record;
            int rc = engine_collect(engine, &results, &record, err);
            if (rc) return rc;
        }
        enum packet_kind kind;
        int rc = step_packet_receive(engine->comm, &kind, engine_next_input(engine), engine->packet, err);
        if (!rc && kind == PACKET_STEP) engine_submit(engine);
        if (!rc && kind == PACKET_CHECK) rc = answer_check(engine, err);
        if (rc || kind == PACKET_END) return rc;
    }
}

int32_t engine_n_in_flight(const struct engine *engine) {
    return (int32_t)(engine->n_submitted - engine->n_collected);
}

const float *engine_logits(struct engine *engine, int32_t logit_row) {
    return backend_logits(engine->backend, logit_row);
}
