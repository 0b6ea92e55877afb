// Experts on the CPU. The rows of a step are sorted by the experts that they hit, so that the matrices of an expert are
// read once for all its rows, and those that no row hits are not read. A slot is one row at one expert.
#include "kernels/cpu/step.h"
#include "kernels/route.h"

#include <string.h>

// n = norm(RESIDUAL) becomes operand->exact; then the experts of each row and their weights.
static void route_rows(struct run *run, const struct op_moe *op, struct operand *operand) {
    const struct cpu_moe *moe = &run->program->moe;
    const size_t n_experts = (size_t)op->n_experts, n_hit = (size_t)op->n_hit;
    operand_make(run, operand);
    observe(run, operand, &op->router);
    const struct output logits = {&op->router, op->router_bias, moe->router, 0};
    int32_t first, count;
    while (take_outputs(run, op->n_experts, &first, &count)) multiply(run, operand, &logits, first, count);
    stage_end(run);
    while (take(run, operand->n_rows, chunk_rows(run, operand->n_rows), &first, &count))
        for (size_t r = (size_t)first; r < (size_t)(first + count); r++)
            route_row(moe->expert + r * n_hit, moe->weight + r * n_hit, moe->router + r * n_experts, op->n_experts,
                      op->n_hit, op->renormalised);
    stage_end(run);
}

// Gives each expert hit its slots. They begin at whole groups of prepared rows.
static void assign_slots(struct cpu_moe *moe, const struct op_moe *op, int32_t n_rows) {
    memset(moe->count, 0, (size_t)op->n_experts * sizeof *moe->count);
    const int32_t n = n_rows * op->n_hit;
    for (int32_t i = 0; i < n; i++) moe->count[moe->expert[i]]++;
    int32_t slot = 0;
    moe->n_hit = 0;
    for (int32_t e = 0; e < op->n_experts; e++) {
        if (moe->count[e] == 0) continue;
        moe->hit[moe->n_hit++] = e;
        moe->first[e] = slot;
        slot += (moe->count[e] + ACTIVATION_ROWS - 1) / ACTIVATION_ROWS * ACTIVATION_ROWS;
        moe->count[e] = 0;
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t e = moe->expert[i];
        moe->slot[i] = moe->first[e] + moe->count[e]++;
    }
}

// Prepares the inputs of gate and up.
static void gather_rows(struct run *run, const struct op_moe *op, const struct operand *operand) {
    const struct cpu_moe *moe = &run->program->moe;
    int32_t first, count;
    while (take(run, operand->n_rows, chunk_rows(run, operand->n_rows), &first, &count))
        for (int32_t i = first * op->n_hit; i < (first + count) * op->n_hit; i++) {
            const float *row = operand->exact + (size_t)(i / op->n_hit) * (size_t)operand->n;
            run->kernels->activation_prepare(moe->input, moe->slot[i], row, op->experts[0].gate.format, operand->n, 0,
                                             operand->n);
        }
    stage_end(run);
}

// Outputs of one matrix at all experts hit, as items of a stage.
struct share {
    int32_t n_out, chunk, n_chunks; // of an expert
};

static struct share share_out(const struct run *run, int32_t n_out) {
    int32_t n_hit = run->program->moe.n_hit, wanted = (4 * run->n_workers + n_hit - 1) / n_hit;
    if (run->n_workers == 1) wanted = 1;
    int32_t chunk = (n_out / wanted + MATMUL_ROUND - 1) / MATMUL_ROUND * MATMUL_ROUND;
    if (chunk < MATMUL_ROUND) chunk = MATMUL_ROUND;
    return (struct share){n_out, chunk, (n_out + chunk - 1) / chunk};
}

struct expert_item {
    int32_t expert, first, count; // outputs
};

static bool take_item(const struct run *run, const struct share *share, struct expert_item *out) {
    const struct cpu_moe *moe = &run->program->moe;
    int32_t item, count;
    if (!take(run, moe->n_hit * share->n_chunks, 1, &item, &count)) return false;
    out->expert = moe->hit[item / share->n_chunks];
    out->first = item % share->n_chunks * share->chunk;
    out->count = share->n_out - out->first < share->chunk ? share->n_out - out->first : share->chunk;
    return true;
}

// bias: of all experts, or NULL.
static void multiply_slots(const struct run *run, const struct tensor *weight, const float *bias, const char *input,
                           float *out, const struct expert_item *item) {
    const struct cpu_moe *moe = &run->program->moe;
    const size_t slot = (size_t)moe->first[item->expert], n_out = (size_t)weight->n_rows;
    const size_t stride = run->kernels->activation_bytes(weight->format, weight->n_cols);
    run->kernels->matmul(&(struct matmul){.weight = weight,
                                          .bias = bias ? bias + (size_t)item->expert * n_out : NULL,
                                          .activations = input + slot * stride,
                                          .activation_stride = stride,
                                          .out = out + slot * n_out,
                                          .out_stride = n_out,
                                          .n_rows = moe->count[item->expert],
                                          .out_first = item->first,
                                          .out_count = item->count});
}

static void run_gate_up(struct run *run, const struct op_moe *op) {
    const struct cpu_moe *moe = &run->program->moe;
    const int32_t width = run->program->common.shape.expert_width;
    const struct share share = share_out(run, width);
    struct expert_item item;
    while (take_item(run, &share, &item)) {
        const struct expert *expert = &op->experts[item.expert];
        multiply_slots(run, &expert->gate, op->gate_bias, moe->input, moe->gate, &item);
        multiply_slots(run, &expert->up, op->up_bias, moe->input, moe->up, &item);
        for (int32_t i = 0; i < moe->count[item.expert]; i++) {
            const int32_t slot = moe->first[item.expert] + i;
            float *row = moe->gate + (size_t)slot * (size_t)width;
            run->kernels->gate_mul(row + item.first, moe->up + (row - moe->gate) + item.first, op->activation,
                                   item.count);
            run->kernels->activation_prepare(moe->middle, slot, row, expert->down.format, width, item.first,
                                             item.count);
        }
    }
    stage_end(run);
}

// Shows what each expert hit hands to its second matrix.
static void observe_slots(const struct run *run, const struct op_moe *op) {
    const struct cpu_moe *moe = &run->program->moe;
    const struct input_observer *observer = run->program->backend->observer;
    const int32_t width = run->program->common.shape.expert_width;
    for (int32_t i = 0; observer && i < moe->n_hit; i++) {
        const int32_t e = moe->hit[i];
        observer->see(observer->context, op->experts[e].down.handle, moe->gate + (size_t)moe->first[e] * (size_t)width,
                      moe->count[e], width, run->worker, run->n_workers);
    }
}

static void run_down(struct run *run, const struct op_moe *op) {
    const struct cpu_moe *moe = &run->program->moe;
    const struct program_shape *shape = &run->program->common.shape;
    const struct share share = share_out(run, shape->hidden);
    struct expert_item item;
    observe_slots(run, op);
    while (take_item(run, &share, &item))
        multiply_slots(run, &op->experts[item.expert].down, op->down_bias, moe->middle, moe->out, &item);
    stage_end(run);
}

// Adds what the experts of each row made, in order of their numbers.
static void add_up(struct run *run, const struct op_moe *op) {
    struct cpu_program *p = run->program;
    const int32_t n_rows = run->input->n_rows, hidden = p->common.shape.hidden;
    int32_t first, count;
    while (take(run, n_rows, chunk_rows(run, n_rows), &first, &count))
        for (int32_t r = first; r < first + count; r++) {
            float *sum = p->linear + (size_t)r * (size_t)hidden;
            memset(sum, 0, (size_t)hidden * sizeof *sum);
            for (int32_t i = r * op->n_hit; i < (r + 1) * op->n_hit; i++)
                run->kernels->add_scaled(sum, p->moe.out + (size_t)p->moe.slot[i] * (size_t)hidden, p->moe.weight[i],
                                         hidden);
            if (!p->common.shape.comm)
                run->kernels->add_scaled(p->residual + (size_t)r * (size_t)hidden, sum, 1, hidden);
        }
    stage_end(run);
    if (!p->common.shape.comm) return;
    meet_sum(run, p->linear, (size_t)n_rows * (size_t)hidden);
    while (take(run, n_rows, chunk_rows(run, n_rows), &first, &count))
        run->kernels->add_scaled(p->residual + (size_t)first * (size_t)hidden,
                                 p->linear + (size_t)first * (size_t)hidden, 1, count * hidden);
    stage_end(run);
}

void run_moe(struct run *run, const struct op_moe *op) {
    struct operand operand = {.source = run->program->residual,
                              .norm_weight = op->norm_weight,
                              .norm_eps = op->norm_eps,
                              .n_rows = run->input->n_rows,
                              .n = run->program->common.shape.hidden};
    operand_serve(&operand, &op->router);
    route_rows(run, op, &operand);
    if (run->worker == 0) {
        assign_slots(&run->program->moe, op, operand.n_rows);
        run->program->n_experts_hit += run->program->moe.n_hit;
    }
    stage_end(run);
    gather_rows(run, op, &operand);
    run_gate_up(run, op);
    run_down(run, op);
    add_up(run, op);
}
