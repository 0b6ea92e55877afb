// Operations that go over rows: embedding, norms, gating, additions. Grids are as large as the bucket; rows at and
// beyond step->n_rows (or n_logit_rows) are filled with zeros where a product will read them.
#pragma once

#include "kernels/cuda/device_step.h"
#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rows_rope {
    const float *inverse_frequency; // [n_dims / 2]
    float *cosine, *sine;           // [n_rows, n_dims / 2], results
    int32_t n_dims;
    float scale;
};

// residual[r] = table[token[r]] * scale, where a STEP_TOKEN_REF takes drawn[i]; and the rotary tables of the rows
// (n_ropes 0..2). first_token: rows of the table begin at this token (a shard of the vocabulary); tokens outside give
// zeros.
struct rows_embed {
    const struct device_step *step;
    int32_t n_rows;
    const struct device_weight *table; // F32, F16 or BF16
    int32_t first_token;
    const int32_t *drawn; // tokens that the step before drew, by logit row
    float scale;
    float *residual; // [n_rows, H]
    int32_t n_ropes;
    struct rows_rope ropes[2];
};
cudaError_t rows_embed(const struct rows_embed *op, cudaStream_t stream);

// out[r] = norm(x[r]) * weight in `format`; weight NULL: x[r] as it is. With `logit_rows`, out[l] is made from
// x[logit_row[l]] and n_rows counts logit rows.
struct rows_norm {
    const struct device_step *step;
    int32_t n_rows, n;
    bool logit_rows;
    const float *x, *weight;
    float eps;
    void *out;
    enum operand_format format;
};
cudaError_t rows_norm(const struct rows_norm *op, cudaStream_t stream);

// The first n_q and the n_k numbers behind them of each row of qkv are normed in place, each range by itself.
struct rows_norm_heads {
    const struct device_step *step;
    int32_t n_rows, n_q, n_k, stride; // stride: numbers from one row to the next
    float *qkv;
    const float *q_weight, *k_weight;
    float eps;
};
cudaError_t rows_norm_heads(const struct rows_norm_heads *op, cudaStream_t stream);

// residual[r] += scale * norm(x[r]) (weight NULL: no norm). All F32.
struct rows_add {
    const struct device_step *step;
    int32_t n_rows, n;
    const float *x, *weight;
    float eps, scale;
    float *residual;
};
cudaError_t rows_add(const struct rows_add *op, cudaStream_t stream);

// logits[l] = cap * tanh(logits[l] * scale / cap); cap 0: * scale.
cudaError_t rows_scale_cap(const struct device_step *step, int32_t n_rows, int32_t n, float *logits, float scale,
                           float cap, cudaStream_t stream);

// logits[l] = the parts of all ranks side by side: parts [ranks, n_rows, n_part], of which the last may be longer than
// what remains of the vocabulary.
struct rows_join_logits {
    const struct device_step *step;
    int32_t n_rows, n_part, vocab;
    const float *parts;
    float *logits; // [n_rows, vocab]
};
cudaError_t rows_join_logits(const struct rows_join_logits *op, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
