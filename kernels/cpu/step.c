// One step on the CPU: the workers go through the program together, with a barrier behind each stage. In a stage they
// take items (output rows, heads, tiles of attention) from a shared counter; who computes an item changes nothing.
#include "base/clock.h"
#include "kernels/cpu/step.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    TIMES_EVERY = 16, // small steps report the time of operations this often
    TASKS_AHEAD = 4,  // tasks of attention a worker, with which the next are taken ahead
};
static const double TIMED_OP_NS = 20e3; // mean work of an operation, beside which looking at the clock is nothing

// After a failure the step only runs to its end.
void meet_sum(struct run *run, float *values, size_t n) {
    struct cpu_program *p = run->program;
    if (run->worker == 0 && !p->comm_err.code)
        p->comm_err.code = comm_sum(p->common.shape.comm, values, n, &p->comm_err);
    stage_end(run);
}

// ------------------------------------------------------------------------------------------------ inputs of products

void operand_serve(struct operand *operand, const struct tensor *weight) {
    operand->forms[row_form(weight->format)] = true;
}

static void operand_row(const struct run *run, const struct operand *operand, int32_t r) {
    const struct cpu_program *p = run->program;
    size_t n = (size_t)operand->n;
    const float *from = operand->source + (size_t)(operand->rows ? operand->rows[r] : r) * n;
    float *normed = p->normed + (size_t)r * n;
    if (operand->norm_weight)
        run->kernels->norm_rms(normed, from, operand->norm_weight, operand->norm_eps, operand->n);
    else if (operand->rows)
        memcpy(normed, from, n * sizeof *normed);
    if (operand->norm_weight || operand->rows) from = normed;
    for (enum row_form form = ROWS_EXACT + 1; form < ROW_FORMS; form++)
        if (operand->forms[form])
            run->kernels->activation_prepare(p->rows[form], r, from, row_form_format(form), operand->n, 0, operand->n);
}

static bool needs_preparing(const struct operand *operand) {
    bool needs = operand->norm_weight || operand->rows;
    for (enum row_form form = ROWS_EXACT + 1; form < ROW_FORMS; form++) needs |= operand->forms[form];
    return needs && !operand->made;
}

void operand_make(struct run *run, struct operand *operand) {
    const bool copies = operand->norm_weight || operand->rows;
    operand->exact = copies ? run->program->normed : operand->source;
    if (!needs_preparing(operand)) return;
    int32_t first, count;
    while (take(run, operand->n_rows, chunk_rows(run, operand->n_rows), &first, &count))
        for (int32_t r = first; r < first + count; r++) operand_row(run, operand, r);
    stage_end(run);
}

// Whether the operation prepares its results for the matrix behind it while they are made. Heads that share keys and
// values are made together.
static bool makes_rows(const struct op *op) {
    const struct op_attention *attention = &op->attention;
    if (op->kind == OP_ATTENTION)
        return attention->n_heads / attention->n_kv_heads * attention->head_dim % ACTIVATION_INPUTS == 0;
    return op->kind == OP_MLP_IN;
}

// Prepares elements [first, first + count) of x, a row of the running operation's results.
static void make_row(const struct run *run, int32_t row, const float *x, int32_t first, int32_t count) {
    const struct tensor *behind = &run->op[1].linear_add.weight;
    if (makes_rows(run->op) && row_form(behind->format) != ROWS_EXACT)
        run->kernels->activation_prepare(run->program->made, row, x, behind->format, behind->n_cols, first, count);
}

void observe(const struct run *run, const struct operand *operand, const struct tensor *weight) {
    const struct input_observer *observer = run->program->backend->observer;
    if (observer)
        observer->see(observer->context, weight->handle, operand->exact, operand->n_rows, operand->n, run->worker,
                      run->n_workers);
}

void multiply(const struct run *run, const struct operand *operand, const struct output *output, int32_t first,
              int32_t count) {
    const enum tensor_format format = output->weight->format;
    const bool exact = row_form(format) == ROWS_EXACT;
    const void *rows = exact           ? (const void *)operand->exact
                       : operand->made ? operand->made
                                       : run->program->rows[row_form(format)];
    struct matmul m = {.weight = output->weight,
                       .bias = output->bias,
                       .activations = rows,
                       .activation_stride = exact ? (size_t)operand->n * sizeof(float)
                                                  : run->kernels->activation_bytes(format, operand->n),
                       .out = output->to,
                       .out_stride = (size_t)(output->stride ? output->stride : output->weight->n_rows),
                       .n_rows = operand->n_rows,
                       .out_first = first,
                       .out_count = count};
    run->kernels->matmul(&m);
}

// -------------------------------------------------------------------------------------------------------- operations

static void make_rope_row(struct cpu_program *p, int32_t row, int32_t position) {
    for (int32_t i = 0; i < p->common.shape.n_ropes; i++) {
        const struct rope_spec *rope = &p->common.ropes[i];
        size_t half = (size_t)rope->n_dims / 2;
        float *cosine = p->rope_cosine[i] + (size_t)row * half, *sine = p->rope_sine[i] + (size_t)row * half;
        for (size_t d = 0; d < half; d++) {
            float angle = (float)position * rope->inverse_frequency[d];
            cosine[d] = cosf(angle) * rope->scale;
            sine[d] = sinf(angle) * rope->scale;
        }
    }
}

static void run_embed(struct run *run, const struct op_embed *op) {
    struct cpu_program *p = run->program;
    const struct program_shape *shape = &p->common.shape;
    int32_t first, count;
    while (take(run, run->input->n_rows, chunk_rows(run, run->input->n_rows), &first, &count))
        for (int32_t r = first; r < first + count; r++) {
            float *out = p->residual + (size_t)r * (size_t)shape->hidden;
            int32_t token = p->token[r] - shape->vocab_first;
            if (token >= 0 && token < shape->vocab_rows)
                run->kernels->embed_row(out, &op->table, token, op->scale);
            else // another rank has it
                memset(out, 0, (size_t)shape->hidden * sizeof *out);
            make_rope_row(p, r, run->input->position[r]);
        }
    stage_end(run);
    if (shape->comm) meet_sum(run, p->residual, (size_t)run->input->n_rows * (size_t)shape->hidden);
}

// Where a row's keys and values are stored.
static int32_t row_block(const struct step_input *input, int32_t row) {
    const int32_t block_first = input->sequences[input->sequence[row]].block_first;
    return input->block_table[block_first + input->position[row] / KV_BLOCK_TOKENS];
}

static void finish_head(const struct run *run, const struct op_attention_in *op, int32_t row, float *head,
                        const float *norm) {
    if (norm && !op->norms_all_heads) run->kernels->norm_rms(head, head, norm, op->norm_eps, op->head_dim);
    if (op->rope < 0) return;
    const struct rope_spec *rope = &run->program->common.ropes[op->rope];
    size_t at = (size_t)row * (size_t)rope->n_dims / 2;
    run->kernels->rope_head(head, run->program->rope_cosine[op->rope] + at, run->program->rope_sine[op->rope] + at,
                            rope->n_dims, rope->interleaved);
}

// Norms and rotates the heads that share one head of keys and values, and stores those.
static void finish_group(const struct run *run, const struct op_attention_in *op, const struct kv_layer *kv,
                         int32_t row, int32_t kv_head) {
    const struct cpu_program *p = run->program;
    const struct step_input *input = run->input;
    const int32_t n_group = op->n_heads / op->n_kv_heads, position = input->position[row];
    float *query = p->query + (size_t)row * (size_t)p->common.shape.q_width;
    float *key = p->key + (size_t)row * (size_t)p->common.shape.kv_width + kv_head * op->head_dim;
    const float *value = p->value + (size_t)row * (size_t)p->common.shape.kv_width + kv_head * op->head_dim;
    for (int32_t h = kv_head * n_group; h < (kv_head + 1) * n_group; h++)
        finish_head(run, op, row, query + h * op->head_dim, op->q_norm);
    finish_head(run, op, row, key, op->k_norm);
    run->kernels->kv_write(kv, row_block(input, row), kv_head, position % KV_BLOCK_TOKENS, key, value);
}

static void finish_rows(struct run *run, const struct op_attention_in *op) {
    const struct cpu_program *p = run->program;
    const struct kv_layer kv = cpu_kv_layer(p->backend, op->layer);
    const int32_t n_heads = op->n_kv_heads, n_items = run->input->n_rows * n_heads;
    int32_t first, count, chunk = chunk_rows(run, n_items);
    if (op->norms_all_heads) chunk = (chunk + n_heads - 1) / n_heads * n_heads; // whole rows
    while (take(run, n_items, chunk, &first, &count))
        for (int32_t i = first; i < first + count; i++) {
            const int32_t row = i / n_heads;
            if (op->norms_all_heads && i % n_heads == 0) {
                float *query = p->query + (size_t)row * (size_t)p->common.shape.q_width;
                float *key = p->key + (size_t)row * (size_t)p->common.shape.kv_width;
                run->kernels->norm_rms(query, query, op->q_norm, op->norm_eps, op->n_heads * op->head_dim);
                run->kernels->norm_rms(key, key, op->k_norm, op->norm_eps, n_heads * op->head_dim);
            }
            finish_group(run, op, &kv, row, i % n_heads);
        }
    stage_end(run);
}

static void run_attention_in(struct run *run, const struct op_attention_in *op) {
    struct cpu_program *p = run->program;
    int32_t n_rows = run->input->n_rows, n_out = p->common.shape.q_width + 2 * p->common.shape.kv_width, first, count;
    const struct output outputs[] = {
        {&op->wq, op->bq, p->query, 0}, {&op->wk, op->bk, p->key, 0}, {&op->wv, op->bv, p->value, 0}};
    struct operand operand = {.source = p->residual,
                              .norm_weight = op->norm_weight,
                              .norm_eps = op->norm_eps,
                              .n_rows = n_rows,
                              .n = p->common.shape.hidden};
    for (int i = 0; i < 3; i++) operand_serve(&operand, outputs[i].weight);
    operand_make(run, &operand);
    observe(run, &operand, &op->wq);
    while (take_outputs(run, n_out, &first, &count)) {
        // The three matrices are one range of outputs.
        for (int32_t i = 0, begin = 0; i < 3; begin += outputs[i++].weight->n_rows) {
            int32_t low = first > begin ? first - begin : 0, high = first + count - begin;
            if (high > outputs[i].weight->n_rows) high = outputs[i].weight->n_rows;
            if (high > low) multiply(run, &operand, &outputs[i], low, high - low);
        }
    }
    stage_end(run);
    finish_rows(run, op);
}

// Items are tiles times heads of keys and values: by sequence, so that what neighbours read lies side by side, then by
// head, whose keys and values all tiles of a sequence share.
static int32_t item_head(const struct run *run, const struct op_attention *op, int32_t item) {
    const struct attention_tile *some = &run->program->tiles[item / op->n_kv_heads];
    return (item - some->first * op->n_kv_heads) / some->count;
}

static const struct attention_tile *item_tile(const struct run *run, const struct op_attention *op, int32_t item) {
    const struct attention_tile *some = &run->program->tiles[item / op->n_kv_heads];
    return &run->program->tiles[some->first + (item - some->first * op->n_kv_heads) % some->count];
}

static struct attention_task make_task(const struct run *run, const struct op_attention *op, int32_t item) {
    const struct cpu_program *p = run->program;
    const struct attention_tile *tile = item_tile(run, op, item);
    int32_t kv_head = item_head(run, op, item), group = op->n_heads / op->n_kv_heads;
    return (struct attention_task){
        .kv = cpu_kv_layer(p->backend, op->layer),
        .block_table = run->input->block_table + run->input->sequences[tile->sequence].block_first,
        .query = p->query + (size_t)tile->row_first * (size_t)p->common.shape.q_width + kv_head * group * op->head_dim,
        .query_stride = (size_t)p->common.shape.q_width,
        .kv_head = kv_head,
        .n_group = group,
        .n_rows = tile->n_rows,
        .position = run->input->position[tile->row_first],
        .scale = op->scale,
        .soft_cap = op->soft_cap,
        .window = op->window};
}

// The ranges of positions that any query of the task sees.
static void task_splits(const struct attention_task *task, int32_t *first, int32_t *end) {
    int32_t oldest = task->window ? task->position - task->window + 1 : 0;
    *first = oldest > 0 ? oldest / ATTENTION_SPLIT_TOKENS : 0;
    *end = (task->position + task->n_rows - 1) / ATTENTION_SPLIT_TOKENS + 1;
}

// Takes the scores of the heads' sinks into the sums.
static void add_sinks(const struct attention_task *task, const float *sinks, struct attention_partial *total) {
    for (int32_t i = 0; i < task->n_rows * task->n_group; i++) {
        const float sink = sinks[task->kv_head * task->n_group + i % task->n_group];
        const float largest = fmaxf(total->max[i], sink), factor = expf(total->max[i] - largest);
        float *out = total->out + (size_t)i * (size_t)task->kv.head_dim;
        for (int32_t d = 0; d < task->kv.head_dim; d++) out[d] *= factor;
        total->sum[i] = total->sum[i] * factor + expf(sink - largest);
        total->max[i] = largest;
    }
}

static void finish_task(const struct run *run, const struct op_attention *op, const struct attention_task *task,
                        struct attention_partial *total, int32_t item) {
    const struct cpu_program *p = run->program;
    const size_t width = (size_t)p->common.shape.q_width;
    const int32_t row = item_tile(run, op, item)->row_first, count = task->n_group * task->kv.head_dim;
    const int32_t first = task->kv_head * count;
    float *out = p->attention + (size_t)row * width;
    if (op->sinks) add_sinks(task, op->sinks, total);
    run->kernels->attention_finish(task, total, out + first, width);
    for (int32_t r = 0; r < task->n_rows; r++) make_row(run, row + r, out + (size_t)r * width, first, count);
}

// One worker computes all positions of a task, range after range, and fetches the beginning of the next; -1: none.
static void attend_whole(const struct run *run, const struct op_attention *op, int32_t item, int32_t next_item) {
    struct worker_scratch *scratch = &run->program->scratch[run->worker];
    struct attention_task task = make_task(run, op, item), next;
    if (next_item >= 0) {
        next = make_task(run, op, next_item);
        task.next = &next;
    }
    int32_t first, end;
    task_splits(&task, &first, &end);
    run->kernels->attention_split(&task, first, &scratch->total);
    for (int32_t split = first + 1; split < end; split++) {
        run->kernels->attention_split(&task, split, &scratch->partial);
        run->kernels->attention_merge(&scratch->total, &scratch->partial, task.n_rows * task.n_group, op->head_dim);
    }
    finish_task(run, op, &task, &scratch->total, item);
}

// Merges in the order of attend_whole what workers computed apart.
static void attend_merged(const struct run *run, const struct op_attention *op, int32_t item) {
    struct attention_partial *partials = run->program->partials + (size_t)item * (size_t)run->step->n_splits;
    struct attention_task task = make_task(run, op, item);
    int32_t first, end;
    task_splits(&task, &first, &end);
    for (int32_t split = first + 1; split < end; split++)
        run->kernels->attention_merge(&partials[first], &partials[split], task.n_rows * task.n_group, op->head_dim);
    finish_task(run, op, &task, &partials[first], item);
}

static int32_t chunk_tasks(const struct run *run, int32_t n) {
    int32_t chunk = n / (16 * run->n_workers);
    return chunk < 1 ? 1 : chunk;
}

// Where there is plenty, a worker takes its next tasks before it computes those that it has, because the memory they
// read can be fetched then.
static void attend_all(struct run *run, const struct op_attention *op, int32_t n_items) {
    const int32_t chunk = chunk_tasks(run, n_items);
    const bool takes_ahead = n_items >= TASKS_AHEAD * chunk * run->n_workers;
    int32_t item, count, next_item = 0, next_count = 0;
    for (bool some = take(run, n_items, chunk, &item, &count); some; item = next_item, count = next_count) {
        some = takes_ahead && take(run, n_items, chunk, &next_item, &next_count);
        for (int32_t i = 0; i < count; i++)
            attend_whole(run, op, item + i, i + 1 < count ? item + i + 1 : some ? next_item : -1);
        if (!takes_ahead) some = take(run, n_items, chunk, &next_item, &next_count);
    }
    stage_end(run);
}

static void run_attention(struct run *run, const struct op_attention *op) {
    int32_t n_items = run->step->n_tiles * op->n_kv_heads, n_splits = run->step->n_splits, item, count;
    if (n_splits == 1) {
        attend_all(run, op, n_items);
        return;
    }
    int32_t part;
    while (take(run, n_items * n_splits, 1, &part, &count)) {
        struct attention_task task = make_task(run, op, part / n_splits);
        int32_t first, end, split = part % n_splits;
        task_splits(&task, &first, &end);
        if (split >= first && split < end) run->kernels->attention_split(&task, split, &run->program->partials[part]);
    }
    stage_end(run);
    while (take(run, n_items, 1, &item, &count)) attend_merged(run, op, item);
    stage_end(run);
}

static void run_linear_add(struct run *run, const struct op_linear_add *op) {
    struct cpu_program *p = run->program;
    int32_t n_rows = run->input->n_rows, hidden = p->common.shape.hidden, first, count;
    struct operand operand = {.source = op->source == SOURCE_MLP ? p->gate : p->attention,
                              .n_rows = n_rows,
                              .n = op->weight.n_cols,
                              .made = makes_rows(run->op - 1) ? p->made : NULL};
    operand_serve(&operand, &op->weight);
    operand_make(run, &operand);
    observe(run, &operand, &op->weight);
    const struct output output = {&op->weight, op->bias, p->linear, 0};
    const bool at_once = !op->post_norm_weight && !p->common.shape.comm;
    while (take_outputs(run, hidden, &first, &count)) {
        multiply(run, &operand, &output, first, count);
        for (int32_t r = 0; r < n_rows && at_once; r++) {
            size_t at = (size_t)r * (size_t)hidden + (size_t)first;
            run->kernels->add_scaled(p->residual + at, p->linear + at, op->scale, count);
        }
    }
    stage_end(run);
    if (at_once) return;
    if (p->common.shape.comm) meet_sum(run, p->linear, (size_t)n_rows * (size_t)hidden);
    while (take(run, n_rows, chunk_rows(run, n_rows), &first, &count))
        for (int32_t r = first; r < first + count; r++) {
            float *linear = p->linear + (size_t)r * (size_t)hidden;
            if (op->post_norm_weight)
                run->kernels->norm_rms(linear, linear, op->post_norm_weight, op->post_norm_eps, hidden);
            run->kernels->add_scaled(p->residual + (size_t)r * (size_t)hidden, linear, op->scale, hidden);
        }
    stage_end(run);
}

static void run_mlp_in(struct run *run, const struct op_mlp_in *op) {
    struct cpu_program *p = run->program;
    int32_t n_rows = run->input->n_rows, width = p->common.shape.mlp_width, first, count;
    struct operand operand = {.source = p->residual,
                              .norm_weight = op->norm_weight,
                              .norm_eps = op->norm_eps,
                              .n_rows = n_rows,
                              .n = p->common.shape.hidden};
    operand_serve(&operand, &op->gate);
    operand_serve(&operand, &op->up);
    operand_make(run, &operand);
    observe(run, &operand, &op->gate);
    const struct output gate = {&op->gate, op->gate_bias, p->gate, 0}, up = {&op->up, op->up_bias, p->up, 0};
    while (take_outputs(run, width, &first, &count)) {
        multiply(run, &operand, &gate, first, count);
        multiply(run, &operand, &up, first, count);
        for (int32_t r = 0; r < n_rows; r++) {
            float *row = p->gate + (size_t)r * (size_t)width;
            run->kernels->gate_mul(row + first, p->up + (row - p->gate) + first, op->activation, count);
            make_row(run, r, row, first, count);
        }
    }
    stage_end(run);
}

// With ranks, as many for all of them.
static int32_t own_logits_stride(const struct cpu_program *p) {
    const struct program_shape *shape = &p->common.shape;
    int32_t n_ranks = comm_n_ranks(shape->comm);
    return (shape->vocab + n_ranks - 1) / n_ranks;
}

// Every rank gets the logits of the whole vocabulary, and draws the same tokens from them.
static void meet_logits(struct run *run, int32_t n_rows) {
    struct cpu_program *p = run->program;
    const struct program_shape *shape = &p->common.shape;
    const size_t stride = (size_t)own_logits_stride(p), vocab = (size_t)shape->vocab, rows = (size_t)n_rows;
    if (run->worker == 0 && rows > 0 && !p->comm_err.code)
        p->comm_err.code =
            comm_all_gather(shape->comm, p->own_logits, rows * stride * sizeof(float), p->all_logits, &p->comm_err);
    stage_end(run);
    int32_t first, count;
    while (take(run, n_rows, 1, &first, &count))
        for (size_t at = 0; at < vocab; at += stride) {
            size_t n = vocab - at < stride ? vocab - at : stride, rank = at / stride;
            memcpy(p->logits + (size_t)first * vocab + at, p->all_logits + (rank * rows + (size_t)first) * stride,
                   n * sizeof(float));
        }
    stage_end(run);
}

static void run_head(struct run *run, const struct op_head *op) {
    struct cpu_program *p = run->program;
    int32_t n_rows = run->input->n_logit_rows, n_out = op->weight.n_rows, first, count;
    int32_t stride = own_logits_stride(p);
    struct operand operand = {.source = p->residual,
                              .rows = run->input->logit_row,
                              .norm_weight = op->norm_weight,
                              .norm_eps = op->norm_eps,
                              .n_rows = n_rows,
                              .n = p->common.shape.hidden};
    operand_serve(&operand, &op->weight);
    operand_make(run, &operand);
    const struct output output = {.weight = &op->weight, .to = p->own_logits, .stride = stride};
    while (take_outputs(run, n_out, &first, &count)) {
        multiply(run, &operand, &output, first, count);
        for (int32_t r = 0; r < n_rows && (op->scale != 1 || op->soft_cap > 0); r++)
            run->kernels->scale_cap(p->own_logits + (size_t)r * (size_t)stride + first, op->scale, op->soft_cap, count);
    }
    stage_end(run);
    if (p->common.shape.comm) meet_logits(run, n_rows);
}

static void run_sample(struct run *run, const struct op_sample *op) {
    struct cpu_program *p = run->program;
    int32_t row, count;
    while (take(run, run->input->n_logit_rows, 1, &row, &count))
        run->kernels->sample(&p->results[row], p->logits + (size_t)row * (size_t)p->common.shape.vocab, op->vocab,
                             &run->input->sample[row], run->input, &p->scratch[run->worker].sample);
    stage_end(run);
}

static void run_op(struct run *run, const struct op *op) {
    switch (op->kind) {
    case OP_EMBED:
        run_embed(run, &op->embed);
        break;
    case OP_ATTENTION_IN:
        run_attention_in(run, &op->attention_in);
        break;
    case OP_ATTENTION:
        run_attention(run, &op->attention);
        break;
    case OP_LINEAR_ADD:
        run_linear_add(run, &op->linear_add);
        break;
    case OP_MLP_IN:
        run_mlp_in(run, &op->mlp_in);
        break;
    case OP_MOE:
        run_moe(run, &op->moe);
        break;
    case OP_HEAD:
        run_head(run, &op->head);
        break;
    case OP_SAMPLE:
        run_sample(run, &op->sample);
        break;
    case OP_KINDS:
        assert(false);
    }
}

// ------------------------------------------------------------------------------------------------------------ a step

static void step_worker(void *argument, int worker, int n_workers) {
    const struct step *step = argument;
    struct cpu_program *p = step->program;
    struct run run = {.step = step,
                      .program = p,
                      .kernels = p->backend->kernels,
                      .input = step->input,
                      .worker = worker,
                      .n_workers = n_workers};
    bool timed = step->times && worker == 0;
    uint64_t before = timed ? clock_now_ns() : 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        run.stage = i * STAGES_MAX;
        run.op = &p->ops[i];
        run_op(&run, run.op);
        assert(run.stage <= (i + 1) * STAGES_MAX);
        if (!timed) continue;
        uint64_t now = clock_now_ns();
        step->times->op_ns[p->ops[i].kind] += now - before;
        before = now;
    }
}

static void resolve_tokens(const struct step *step) {
    const struct step_input *input = step->input;
    struct cpu_program *p = step->program;
    for (int32_t r = 0; r < input->n_rows; r++) {
        int32_t token = input->token[r];
        if (token < 0) {
            assert(step->before);
            token = step->before[-1 - token].token;
        }
        assert(token >= 0 && token < p->common.shape.vocab);
        p->token[r] = token;
    }
}

// Cuts the rows of each sequence into tiles.
static int32_t make_tiles(struct cpu_program *p, const struct step_input *input) {
    int32_t rows = ATTENTION_QUERIES_MAX / p->group_max, n = 0;
    for (int32_t s = 0; s < input->n_sequences; s++) {
        const struct step_sequence *sequence = &input->sequences[s];
        const int32_t first = n, count = (sequence->row_count + rows - 1) / rows;
        for (int32_t done = 0; done < sequence->row_count; done += rows) {
            int32_t left = sequence->row_count - done;
            p->tiles[n++] = (struct attention_tile){.sequence = s,
                                                    .first = first,
                                                    .count = count,
                                                    .row_first = sequence->row_first + done,
                                                    .n_rows = left < rows ? left : rows};
        }
    }
    return n;
}

// Into how many ranges of positions tiles are split, so that all workers have a part.
static int32_t count_splits(const struct cpu_program *p, const struct step_input *input, int32_t n_tiles,
                            int n_workers) {
    int32_t n_items = n_tiles * p->backend->common.kv.n_kv_heads, longest = 0;
    if (n_workers == 1 || n_items >= SPLIT_TILES_PER_WORKER * n_workers) return 1;
    for (int32_t s = 0; s < input->n_sequences; s++)
        if (input->sequences[s].kv_len > longest) longest = input->sequences[s].kv_len;
    int32_t n_splits = (longest + ATTENTION_SPLIT_TOKENS - 1) / ATTENTION_SPLIT_TOKENS;
    return n_splits * n_items <= p->n_partials ? n_splits : 1;
}

// Rough time of a step on one worker: weights, products and attention at the speed of one core.
static double step_cost_ns(const struct cpu_program *p, const struct step_input *input) {
    double attended = 0; // positions, over all rows
    for (int32_t s = 0; s < input->n_sequences; s++)
        attended += (double)input->sequences[s].row_count * input->sequences[s].kv_len;
    double attention_flops = 4.0 * p->common.shape.q_width * p->backend->common.kv.n_layers * attended;
    return p->weight_bytes / 30 + (p->row_flops * input->n_rows + attention_flops) / 60;
}

void cpu_program_run(struct cpu_program *p, const struct step_input *input, const struct sample_result *before,
                     struct step_times *times) {
    double cost_ns = step_cost_ns(p, input);
    bool timed = cost_ns > TIMED_OP_NS * p->n_ops || p->n_steps % TIMES_EVERY == 0;
    struct step step = {.program = p, .input = input, .before = before, .times = timed ? times : NULL};
    int n_workers = workers_choose(&p->workers, cost_ns, *p->backend->threads_max);
    uint64_t begin_ns = clock_now_ns();
    p->comm_err.code = 0;
    p->n_experts_hit = 0;
    resolve_tokens(&step);
    step.n_tiles = make_tiles(p, input);
    step.n_splits = count_splits(p, input, step.n_tiles, n_workers);
    memset((void *)p->taken, 0, (size_t)p->n_ops * STAGES_MAX * sizeof *p->taken);
    pool_run(p->backend->pool, n_workers, step_worker, &step);
    workers_learn(&p->workers, cost_ns, n_workers, (double)(clock_now_ns() - begin_ns));
    p->n_steps++;
}
