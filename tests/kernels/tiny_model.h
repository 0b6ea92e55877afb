// A random transformer of any small shape, run through the backend, and the same computed plainly in double precision
// without a cache: an independent second opinion.
#pragma once

#include "base/number.h"
#include "base/rng.h"
#include "kernels/driver.h"

#include <math.h>
#include <stdlib.h>

enum { TINY_LAYERS = 2, TINY_TOKENS_MAX = 2400, TINY_EXPERTS_MAX = 9 };

struct tiny_shape {
    int32_t hidden, n_heads, n_kv_heads, head_dim, mlp_width, vocab;
    enum tensor_format format;
    enum kv_format kv_format;
    enum activation activation;
    int head_norms; // of q and k: 0 none, 1 each head by itself, 2 all heads together
    bool post_norms, biases, interleaved;
    int32_t rope_dims, window; // window: of layer 1; 0: none
    float soft_cap;            // of attention and logits
    int32_t n_experts, n_hit;  // of layer 1, as wide as mlp_width; 0: none
    bool renormalised;
};

struct tiny_layer {
    struct tensor wq, wk, wv, wo, gate, up, down, router;
    struct expert experts[TINY_EXPERTS_MAX];
    int32_t n_experts;
    float *attention_norm, *mlp_norm, *q_norm, *k_norm, *attention_post_norm, *mlp_post_norm;
    float *bq, *bk, *bv, *bo;
};

struct tiny_model {
    struct tiny_shape shape;
    uint64_t seed, n_drawn;
    enum weight_format weights; // in which the backend is to keep them
    struct tensor embed;
    float *final_norm, *inverse_frequency;
    struct tiny_layer layers[TINY_LAYERS];
    void *allocated[128];
    int n_allocated;
};

static inline float tiny_random(struct tiny_model *m) { // uniform in (-1, 1]
    return 2 * rng_uniform(rng_key(m->seed, 1, 2), m->n_drawn++) - 1;
}

static inline void *tiny_alloc(struct tiny_model *m, size_t n_bytes) {
    return m->allocated[m->n_allocated++] = calloc(1, n_bytes);
}

static inline float *tiny_vector(struct tiny_model *m, int32_t n, float base, float spread) {
    float *v = tiny_alloc(m, (size_t)n * sizeof *v);
    for (int32_t i = 0; i < n; i++) v[i] = base + spread * tiny_random(m);
    return v;
}

// Data at an odd multiple of two bytes, as in files, between canaries that would show.
static inline struct tensor tiny_matrix(struct tiny_model *m, int32_t n_rows, int32_t n_cols) {
    struct tensor t = {.format = m->shape.format, .n_rows = n_rows, .n_cols = n_cols};
    char *data = tiny_alloc(m, tensor_bytes(&t) + 8);
    memset(data, 0xff, tensor_bytes(&t) + 8);
    t.data = data + 2;
    float spread = 1.7f / sqrtf((float)n_cols);
    for (size_t i = 0; i < (size_t)n_rows * (size_t)n_cols; i++) {
        float x = spread * tiny_random(m);
        uint16_t half = t.format == TENSOR_F16 ? f16_from_f32(x) : bf16_from_f32(x);
        if (t.format == TENSOR_F32)
            memcpy(data + 2 + i * 4, &x, 4);
        else
            memcpy(data + 2 + i * 2, &half, 2);
    }
    return t;
}

static inline void tiny_experts_make(struct tiny_model *m, struct tiny_layer *l) {
    const struct tiny_shape *s = &m->shape;
    l->n_experts = s->n_experts;
    l->router = tiny_matrix(m, s->n_experts, s->hidden);
    for (int32_t e = 0; e < s->n_experts; e++)
        l->experts[e] =
            (struct expert){tiny_matrix(m, s->mlp_width, s->hidden), tiny_matrix(m, s->mlp_width, s->hidden),
                            tiny_matrix(m, s->hidden, s->mlp_width)};
}

static inline void tiny_layer_make(struct tiny_model *m, struct tiny_layer *l) {
    const struct tiny_shape *s = &m->shape;
    int32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    l->wq = tiny_matrix(m, q, s->hidden);
    l->wk = tiny_matrix(m, kv, s->hidden);
    l->wv = tiny_matrix(m, kv, s->hidden);
    l->wo = tiny_matrix(m, s->hidden, q);
    l->gate = tiny_matrix(m, s->mlp_width, s->hidden);
    l->up = tiny_matrix(m, s->mlp_width, s->hidden);
    l->down = tiny_matrix(m, s->hidden, s->mlp_width);
    l->attention_norm = tiny_vector(m, s->hidden, 1, 0.3f);
    l->mlp_norm = tiny_vector(m, s->hidden, 1, 0.3f);
    if (s->head_norms) {
        l->q_norm = tiny_vector(m, s->head_norms == 2 ? q : s->head_dim, 2, 0.3f);
        l->k_norm = tiny_vector(m, s->head_norms == 2 ? kv : s->head_dim, 1, 0.3f);
    }
    if (s->post_norms) {
        l->attention_post_norm = tiny_vector(m, s->hidden, 1, 0.3f);
        l->mlp_post_norm = tiny_vector(m, s->hidden, 1, 0.3f);
    }
    if (!s->biases) return;
    l->bq = tiny_vector(m, q, 0, 0.5f), l->bk = tiny_vector(m, kv, 0, 0.5f);
    l->bv = tiny_vector(m, kv, 0, 0.5f), l->bo = tiny_vector(m, s->hidden, 0, 0.5f);
}

static inline struct tiny_model *tiny_open(const struct tiny_shape *shape, uint64_t seed) {
    struct tiny_model *m = calloc(1, sizeof *m);
    m->shape = *shape;
    m->seed = seed;
    m->embed = tiny_matrix(m, shape->vocab, shape->hidden);
    m->final_norm = tiny_vector(m, shape->hidden, 3, 0.3f);
    m->inverse_frequency = tiny_vector(m, shape->rope_dims / 2 + 1, 0, 0);
    for (int32_t i = 0; i < shape->rope_dims / 2; i++)
        m->inverse_frequency[i] = powf(100, -2.0f * (float)i / (float)shape->rope_dims);
    for (int i = 0; i < TINY_LAYERS; i++) tiny_layer_make(m, &m->layers[i]);
    if (shape->n_experts) tiny_experts_make(m, &m->layers[1]);
    return m;
}

static inline void tiny_close(struct tiny_model *m) {
    for (int i = 0; i < m->n_allocated; i++) free(m->allocated[i]);
    free(m);
}

// ---------------------------------------------------------------------------------------------- through the backend

struct tiny_engine {
    struct backend *backend;
    struct program *program;
    struct tiny_model *model;
    struct rope_spec rope;
};

// Embedding and head, which are one tensor here, are at least BF16, as the engine loads them.
static inline int tiny_load(const struct tiny_engine *e, struct err *err) {
    struct tiny_model *m = e->model;
    enum weight_format outer = m->weights > WEIGHT_BF16 ? WEIGHT_BF16 : m->weights;
    int rc = backend_weight_load(e->backend, &m->embed, outer, err);
    for (int i = 0; i < TINY_LAYERS; i++) {
        struct tiny_layer *l = &m->layers[i];
        struct tensor *all[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->gate, &l->up, &l->down};
        for (int w = 0; !rc && w < 7; w++) rc = backend_weight_load(e->backend, all[w], m->weights, err);
        if (!rc && l->n_experts) rc = backend_weight_load(e->backend, &l->router, outer, err);
        for (int32_t x = 0; !rc && x < l->n_experts; x++) {
            struct tensor *of_expert[] = {&l->experts[x].gate, &l->experts[x].up, &l->experts[x].down};
            for (int w = 0; !rc && w < 3; w++) rc = backend_weight_load(e->backend, of_expert[w], m->weights, err);
        }
    }
    return rc;
}

static inline void tiny_record(struct tiny_engine *e) {
    struct tiny_model *m = e->model;
    const struct tiny_shape *s = &m->shape;
    struct program *p = e->program;
    program_add(p, &(struct op){.kind = OP_EMBED, .embed = {.table = m->embed, .scale = 1}});
    for (int i = 0; i < TINY_LAYERS; i++) {
        const struct tiny_layer *l = &m->layers[i];
        program_add(p, &(struct op){.kind = OP_ATTENTION_IN,
                                    .attention_in = {i, s->n_heads, s->n_kv_heads, s->head_dim, l->attention_norm,
                                                     1e-5f, l->wq, l->wk, l->wv, l->bq, l->bk, l->bv, l->q_norm,
                                                     l->k_norm, s->rope_dims ? 0 : -1, s->head_norms == 2}});
        program_add(p, &(struct op){.kind = OP_ATTENTION,
                                    .attention = {i, s->n_heads, s->n_kv_heads, s->head_dim,
                                                  1 / sqrtf((float)s->head_dim), i == 1 ? s->window : 0, s->soft_cap}});
        program_add(p, &(struct op){.kind = OP_LINEAR_ADD,
                                    .linear_add = {SOURCE_ATTENTION, l->wo, l->bo, l->attention_post_norm, 1e-5f, 1}});
        if (l->n_experts) {
            program_add(p, &(struct op){.kind = OP_MOE,
                                        .moe = {l->mlp_norm, 1e-5f, l->router, s->n_experts, s->n_hit, s->renormalised,
                                                l->experts, s->activation}});
            continue;
        }
        program_add(p, &(struct op){.kind = OP_MLP_IN,
                                    .mlp_in = {l->mlp_norm, 1e-5f, l->gate, l->up, NULL, NULL, s->activation}});
        program_add(p, &(struct op){.kind = OP_LINEAR_ADD,
                                    .linear_add = {SOURCE_MLP, l->down, NULL, l->mlp_post_norm, 1e-5f, 1}});
    }
    program_add(p, &(struct op){.kind = OP_HEAD, .head = {m->final_norm, 1e-5f, m->embed, s->soft_cap, 1}});
    program_add(p, &(struct op){.kind = OP_SAMPLE, .sample = {s->vocab}});
}

// What runs the model. driver NULL: the CPU.
struct tiny_device {
    const struct backend_driver *driver;
    const char *instruction_set;
    int n_threads;
    bool deterministic;
    struct comm *comm; // of one rank, or NULL
};

static inline int tiny_backend_open(struct backend **out, const struct tiny_device *device, struct err *err) {
    struct backend_options options = {.device = "cpu",
                                      .instruction_set = device->instruction_set,
                                      .n_threads = device->n_threads,
                                      .deterministic = device->deterministic};
    if (!device->driver) return backend_open(out, &options, err);
    int rc = device->driver->open(out, &options, err);
    if (!rc) (*out)->driver = device->driver;
    return rc;
}

static inline void tiny_engine_close(struct tiny_engine *e) {
    program_close(e->program);
    backend_close(e->backend);
}

// rows_max also bounds the rows with logits. After an error, close it all the same.
static inline int tiny_engine_try_open(struct tiny_engine *e, struct tiny_model *m, const struct tiny_device *device,
                                       int32_t rows_max, struct err *err) {
    const struct tiny_shape *s = &m->shape;
    *e = (struct tiny_engine){.model = m};
    e->rope = (struct rope_spec){s->rope_dims, s->interleaved, 1, m->inverse_frequency};
    struct kv_shape kv = {TINY_LAYERS, s->n_kv_heads, s->head_dim, 16, TINY_TOKENS_MAX / 16 * 4, s->kv_format};
    struct program_shape shape = {.rows_max = rows_max,
                                  .sequences_max = 8,
                                  .logit_rows_max = rows_max,
                                  .hidden = s->hidden,
                                  .q_width = s->n_heads * s->head_dim,
                                  .kv_width = s->n_kv_heads * s->head_dim,
                                  .mlp_width = s->mlp_width,
                                  .n_experts = s->n_experts,
                                  .n_hit = s->n_hit,
                                  .expert_width = s->n_experts ? s->mlp_width : 0,
                                  .vocab = s->vocab,
                                  .comm = device->comm,
                                  .vocab_rows = s->vocab,
                                  .n_ropes = s->rope_dims ? 1 : 0,
                                  .ropes = &e->rope};
    int rc = tiny_backend_open(&e->backend, device, err);
    if (!rc) rc = backend_kv_open(e->backend, &kv, err);
    if (!rc) rc = tiny_load(e, err);
    if (!rc) rc = program_open(&e->program, e->backend, &shape, err);
    if (rc) return rc;
    tiny_record(e);
    return program_prepare(e->program, err);
}

static inline struct tiny_engine tiny_engine_open(struct tiny_model *m, const struct tiny_device *device,
                                                  int32_t rows_max) {
    struct tiny_engine e;
    struct err err = {0};
    if (tiny_engine_try_open(&e, m, device, rows_max, &err)) fail_msg("%s", err.text);
    return e;
}

// One part of a step: tokens of a sequence at positions that follow what its cache holds.
struct tiny_part {
    const int32_t *tokens;
    int32_t n, position;
    int32_t block_first, block_stride; // its k-th block is block_first + k * block_stride
    bool last_only;                    // logits of the last row alone
};

struct tiny_step {
    struct step_input input;
    int32_t token[TINY_TOKENS_MAX], position[TINY_TOKENS_MAX], sequence[TINY_TOKENS_MAX], logit_row[TINY_TOKENS_MAX];
    struct step_sequence sequences[8];
    int32_t block_table[8 * TINY_TOKENS_MAX / 16];
    struct sample_params sample[TINY_TOKENS_MAX];
};

static const struct sample_params tiny_greedy = {
    .top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1};

static inline void tiny_step_add(struct tiny_step *step, const struct tiny_part *part) {
    struct step_input *in = &step->input;
    *in = (struct step_input){in->n_rows,
                              in->n_sequences,
                              in->n_logit_rows,
                              in->n_block_table,
                              0,
                              0,
                              step->token,
                              step->position,
                              step->sequence,
                              step->sequences,
                              step->block_table,
                              step->logit_row,
                              step->sample,
                              NULL,
                              NULL};
    int32_t kv_len = part->position + part->n;
    step->sequences[in->n_sequences] = (struct step_sequence){in->n_rows, part->n, kv_len, in->n_block_table};
    for (int32_t b = 0; b * 16 < kv_len; b++)
        step->block_table[in->n_block_table++] = part->block_first + b * part->block_stride;
    for (int32_t i = 0; i < part->n; i++) {
        step->token[in->n_rows] = part->tokens[i];
        step->position[in->n_rows] = part->position + i;
        step->sequence[in->n_rows] = in->n_sequences;
        if (!part->last_only || i == part->n - 1) {
            struct sample_params params = tiny_greedy;
            params.position = part->position + i + 1;
            step->sample[in->n_logit_rows] = params;
            step->logit_row[in->n_logit_rows++] = in->n_rows;
        }
        in->n_rows++;
    }
    in->n_sequences++;
}

static inline void tiny_step_run(struct tiny_engine *e, struct tiny_step *step, struct sample_result *results) {
    struct step_times times;
    backend_submit(e->backend, e->program, &step->input);
    assert_int_equal(backend_collect(e->backend, results, &times, NULL), 0);
    assert_true(times.total_ns > 0);
}

// ------------------------------------------------------------------------------------------------- plainly, in double

static inline double tiny_weight(const struct tensor *t, size_t i) {
    float x;
    uint16_t half;
    if (t->format == TENSOR_F32) return memcpy(&x, (const char *)t->data + 4 * i, 4), (double)x;
    memcpy(&half, (const char *)t->data + 2 * i, 2);
    return (double)(t->format == TENSOR_F16 ? f32_from_f16(half) : f32_from_bf16(half));
}

static inline void tiny_multiply(double *out, const struct tensor *w, const double *x, const float *bias) {
    for (int32_t i = 0; i < w->n_rows; i++) {
        double sum = bias ? (double)bias[i] : 0;
        for (int32_t k = 0; k < w->n_cols; k++) sum += tiny_weight(w, (size_t)i * (size_t)w->n_cols + (size_t)k) * x[k];
        out[i] = sum;
    }
}

static inline void tiny_norm(double *out, const double *x, const float *weight, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (int32_t i = 0; i < n; i++) out[i] = x[i] / sqrt(sum / n + 1e-5) * (double)weight[i];
}

static inline void tiny_rotate(const struct tiny_model *m, double *x, int32_t position) {
    int32_t half = m->shape.rope_dims / 2;
    for (int32_t i = 0; i < half; i++) {
        double angle = position * (double)m->inverse_frequency[i];
        double *a = m->shape.interleaved ? &x[2 * i] : &x[i], *b = m->shape.interleaved ? &x[2 * i + 1] : &x[i + half];
        double first = *a, second = *b;
        *a = first * cos(angle) - second * sin(angle);
        *b = second * cos(angle) + first * sin(angle);
    }
}

struct tiny_plain {
    double *keys, *values; // [layer, position, kv_width]
    int32_t n_max;
};

static inline void tiny_plain_attend(const struct tiny_model *m, const struct tiny_plain *plain, int layer,
                                     int32_t position, const double *q, double *out) {
    const struct tiny_shape *s = &m->shape;
    int32_t d = s->head_dim, width = s->n_kv_heads * d;
    int32_t first = layer == 1 && s->window && position + 1 > s->window ? position + 1 - s->window : 0;
    for (int32_t h = 0; h < s->n_heads; h++) {
        size_t base =
            (size_t)layer * (size_t)plain->n_max * (size_t)width + (size_t)(h / (s->n_heads / s->n_kv_heads) * d);
        double total = 0;
        for (int32_t i = 0; i < d; i++) out[h * d + i] = 0;
        for (int32_t j = first; j <= position; j++) {
            const double *k = plain->keys + base + (size_t)j * (size_t)width,
                         *v = plain->values + base + (size_t)j * (size_t)width;
            double score = 0;
            for (int32_t i = 0; i < d; i++) score += q[h * d + i] * k[i];
            score /= sqrt(d);
            if (s->soft_cap > 0) score = (double)s->soft_cap * tanh(score / (double)s->soft_cap);
            double weight = exp(score);
            total += weight;
            for (int32_t i = 0; i < d; i++) out[h * d + i] += weight * v[i];
        }
        for (int32_t i = 0; i < d; i++) out[h * d + i] /= total;
    }
}

static inline double tiny_activate(enum activation activation, double x) {
    if (activation == ACTIVATION_SILU) return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static inline void tiny_plain_add(double *x, double *y, const float *post_norm, int32_t n) {
    if (post_norm) tiny_norm(y, y, post_norm, n);
    for (int32_t i = 0; i < n; i++) x[i] += y[i];
}

static inline void tiny_plain_mlp(const struct tiny_model *m, const struct expert *w, const double *n, double *y) {
    const struct tiny_shape *s = &m->shape;
    double *gate = calloc((size_t)(2 * s->mlp_width), sizeof *gate), *up = gate + s->mlp_width;
    tiny_multiply(gate, &w->gate, n, NULL), tiny_multiply(up, &w->up, n, NULL);
    for (int32_t i = 0; i < s->mlp_width; i++) gate[i] = tiny_activate(s->activation, gate[i]) * up[i];
    tiny_multiply(y, &w->down, gate, NULL);
    free(gate);
}

// An expert is hit when fewer than n_hit others have a larger probability.
static inline void tiny_plain_experts(const struct tiny_model *m, const struct tiny_layer *w, const double *n,
                                      double *x) {
    const struct tiny_shape *s = &m->shape;
    double p[TINY_EXPERTS_MAX], total = 0, of_hit = 0, *y = calloc((size_t)s->hidden, sizeof *y);
    bool is_hit[TINY_EXPERTS_MAX];
    tiny_multiply(p, &w->router, n, NULL);
    for (int32_t e = 0; e < s->n_experts; e++) total += p[e] = exp(p[e]);
    for (int32_t e = 0; e < s->n_experts; e++) {
        int32_t n_larger = 0;
        for (int32_t other = 0; other < s->n_experts; other++) n_larger += p[other] > p[e];
        is_hit[e] = n_larger < s->n_hit;
        if (is_hit[e]) of_hit += p[e];
    }
    for (int32_t e = 0; e < s->n_experts; e++) {
        if (!is_hit[e]) continue;
        tiny_plain_mlp(m, &w->experts[e], n, y);
        for (int32_t i = 0; i < s->hidden; i++) x[i] += y[i] * p[e] / (s->renormalised ? of_hit : total);
    }
    free(y);
}

// Logits [vocab] of the token at `position`, whose predecessors were given before.
static inline void tiny_plain_step(const struct tiny_model *m, struct tiny_plain *plain, int32_t token,
                                   int32_t position, double *logits) {
    const struct tiny_shape *s = &m->shape;
    int32_t h = s->hidden, qw = s->n_heads * s->head_dim, kw = s->n_kv_heads * s->head_dim;
    double *x = calloc((size_t)(3 * h + 2 * qw), sizeof *x), *n = x + h, *y = n + h, *q = y + h, *a = q + qw;
    for (int32_t i = 0; i < h; i++) x[i] = tiny_weight(&m->embed, (size_t)token * (size_t)h + (size_t)i);
    for (int l = 0; l < TINY_LAYERS; l++) {
        const struct tiny_layer *w = &m->layers[l];
        size_t at = ((size_t)l * (size_t)plain->n_max + (size_t)position) * (size_t)kw;
        double *k = plain->keys + at, *v = plain->values + at;
        tiny_norm(n, x, w->attention_norm, h);
        tiny_multiply(q, &w->wq, n, w->bq), tiny_multiply(k, &w->wk, n, w->bk), tiny_multiply(v, &w->wv, n, w->bv);
        const bool norms_heads = s->head_norms == 1;
        if (s->head_norms == 2) tiny_norm(q, q, w->q_norm, qw), tiny_norm(k, k, w->k_norm, kw);
        for (int32_t i = 0; i < s->n_heads; i++) {
            if (norms_heads) tiny_norm(q + i * s->head_dim, q + i * s->head_dim, w->q_norm, s->head_dim);
            tiny_rotate(m, q + i * s->head_dim, position);
        }
        for (int32_t i = 0; i < s->n_kv_heads; i++) {
            if (norms_heads) tiny_norm(k + i * s->head_dim, k + i * s->head_dim, w->k_norm, s->head_dim);
            tiny_rotate(m, k + i * s->head_dim, position);
        }
        tiny_plain_attend(m, plain, l, position, q, a);
        tiny_multiply(y, &w->wo, a, w->bo);
        tiny_plain_add(x, y, w->attention_post_norm, h);
        tiny_norm(n, x, w->mlp_norm, h);
        if (w->n_experts) {
            tiny_plain_experts(m, w, n, x);
            continue;
        }
        tiny_plain_mlp(m, &(struct expert){w->gate, w->up, w->down}, n, y);
        tiny_plain_add(x, y, w->mlp_post_norm, h);
    }
    tiny_norm(n, x, m->final_norm, h);
    tiny_multiply(logits, &m->embed, n, NULL);
    for (int32_t i = 0; i < s->vocab && s->soft_cap > 0; i++)
        logits[i] = (double)s->soft_cap * tanh(logits[i] / (double)s->soft_cap);
    free(x);
}
