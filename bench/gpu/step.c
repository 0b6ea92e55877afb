#include "bench/gpu/step.h"

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cuda/cuda_backend.h"

#include <stdlib.h>

enum { BLOCK_TOKENS = 16 };

struct device_kv kv_make(struct bench *bench, const struct bench_model *model, int32_t n_sequences, int32_t context) {
    struct device_kv kv = {.shape = {.n_layers = 1,
                                     .n_kv_heads = model->n_kv_heads,
                                     .head_dim = model->head_dim,
                                     .block_tokens = BLOCK_TOKENS,
                                     .n_blocks = n_sequences * ((context + BLOCK_TOKENS - 1) / BLOCK_TOKENS),
                                     .format = model->kv_format}};
    kv.layer_bytes = (size_t)kv_bytes_per_block(&kv.shape) * (size_t)kv.shape.n_blocks;
    kv.shape.n_layers = copies_beyond_l2(bench, kv.layer_bytes);
    // Random numbers in BF16; read as FP8 with scales they are finite numbers too, but for few.
    kv.data = memory_random(bench, kv.layer_bytes * (size_t)kv.shape.n_layers / 2);
    return kv;
}

static void fill_input(struct step_input *in, const struct kv_shape *kv, int32_t context, int32_t n_rows,
                       const struct bench_model *model, const struct sample_params *sampling) {
    const int32_t n_blocks = kv->n_blocks / in->n_sequences;
    for (int32_t s = 0; s < in->n_sequences; s++) {
        in->sequences[s] = (struct step_sequence){s * n_rows, n_rows, context, s * n_blocks};
        for (int32_t r = 0; r < n_rows; r++) {
            in->token[s * n_rows + r] =
                (int32_t)(rng_u32(rng_key(3, 0, 0), (uint64_t)(s * n_rows + r)) % (uint32_t)model->vocab);
            in->position[s * n_rows + r] = context - n_rows + r;
            in->sequence[s * n_rows + r] = s;
        }
        in->logit_row[s] = s * n_rows + n_rows - 1;
        in->sample[s] = *sampling;
        in->sample[s].position = context;
        in->sample[s].choice_index = s;
    }
    // Blocks lie anywhere, as after hours of serving.
    for (int32_t i = 0; i < kv->n_blocks; i++) in->block_table[i] = i;
    for (int32_t i = kv->n_blocks - 1; i > 0; i--) {
        int32_t j = (int32_t)(rng_u32(rng_key(5, 0, 0), (uint64_t)i) % (uint32_t)(i + 1)), swapped = in->block_table[i];
        in->block_table[i] = in->block_table[j];
        in->block_table[j] = swapped;
    }
}

void step_make(struct bench *bench, const struct bench_model *model, const struct kv_shape *kv, int32_t n_sequences,
               int32_t context, int32_t n_rows, const struct sample_params *sampling, struct bench_step *out) {
    const int32_t rows = n_sequences * n_rows;
    const struct attention_limits limits = {.rows_max = rows,
                                            .sequences_max = n_sequences,
                                            .n_heads = model->n_heads,
                                            .n_kv_heads = model->n_kv_heads,
                                            .head_dim = model->head_dim,
                                            .n_processors = bench->n_processors};
    struct cuda_backend backend = {.common = {.kv = *kv}};
    struct cuda_program program = {
        .common = {.backend = &backend.common,
                   .shape = {.rows_max = rows,
                             .sequences_max = n_sequences,
                             .logit_rows_max = n_sequences,
                             .vocab = model->vocab,
                             .context = context}},
        .backend = &backend,
        .attention_limits = limits,
    };
    cuda_pack_limits(&program.pack, &program.common, &limits);
    struct step_input in = {.n_rows = rows,
                            .n_sequences = n_sequences,
                            .n_logit_rows = n_sequences,
                            .n_block_table = kv->n_blocks,
                            .token = mem_alloc((size_t)rows * sizeof(int32_t)),
                            .position = mem_alloc((size_t)rows * sizeof(int32_t)),
                            .sequence = mem_alloc((size_t)rows * sizeof(int32_t)),
                            .sequences = mem_alloc((size_t)n_sequences * sizeof(struct step_sequence)),
                            .block_table = mem_alloc((size_t)kv->n_blocks * sizeof(int32_t)),
                            .logit_row = mem_alloc((size_t)n_sequences * sizeof(int32_t)),
                            .sample = mem_alloc((size_t)n_sequences * sizeof(struct sample_params))};
    struct device_step *packed = mem_alloc_zero(1, program.pack.n_bytes);
    fill_input(&in, kv, context, n_rows, model, sampling);
    cuda_pack(&program, &in, packed);
    *out = (struct bench_step){.n_rows = rows,
                               .has_decode = packed->n_decode_items > 0,
                               .has_prefill = packed->n_prefill_items > 0,
                               .device = memory_upload(bench, packed, packed->n_bytes)};
    out->partials = memory_take(bench, program.pack.attention.partial_bytes + 1);
    if (!out->partials) fail("no device memory");
    void *all[] = {packed, in.token, in.position, in.sequence, in.sequences, in.block_table, in.logit_row, in.sample};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}
