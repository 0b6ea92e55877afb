// Drawing a token from one row of logits. Included once for each instruction set, after its vectors.
//
// The vocabulary is cut into blocks, and the largest logit of each block is found first. Almost everything else then
// looks only into blocks that can matter: the k-th largest of the block maxima is a lower bound of the k-th largest
// logit; a token whose logit lies more than the largest possible noise below the best score cannot win.
#include "kernels/cpu/vec_math.h"
#include "kernels/sample_edit.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { SUM_BLOCKS = 64, SORT_DIRECTLY = 12 };
static const float NOISE_MAX = 23; // -log of the smallest rng_exponential is 22.9

// Logits, cut into blocks.
struct logit_row {
    const float *logits;
    int32_t vocab, n_blocks;
    const float *block_largest; // [n_blocks]
    float largest;
};

// The logits of a block; a short last one is copied and filled up with -INFINITY.
static const float *row_block(const struct logit_row *row, int32_t block, float *copy) {
    int32_t first = block * SAMPLE_BLOCK, n = row->vocab - first;
    if (n >= SAMPLE_BLOCK) return row->logits + first;
    memcpy(copy, row->logits + first, (size_t)n * sizeof *copy);
    for (; n < SAMPLE_BLOCK; n++) copy[n] = -INFINITY;
    return copy;
}

static struct logit_row row_open(const float *logits, int32_t vocab, float *block_largest) {
    struct logit_row row = {.logits = logits,
                            .vocab = vocab,
                            .n_blocks = (vocab + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK,
                            .block_largest = block_largest,
                            .largest = -INFINITY};
    float copy[SAMPLE_BLOCK];
    for (int32_t b = 0; b < row.n_blocks; b++) {
        const float *block = row_block(&row, b, copy);
        vec largest = vec_load(block);
        for (int32_t i = VEC_N; i < SAMPLE_BLOCK; i += VEC_N) largest = vec_max(largest, vec_load(block + i));
        block_largest[b] = vec_largest(largest);
        if (block_largest[b] > row.largest) row.largest = block_largest[b];
    }
    return row;
}

static int32_t row_argmax(const struct logit_row *row) {
    for (int32_t b = 0; b < row->n_blocks; b++) {
        if (row->block_largest[b] != row->largest) continue;
        for (int32_t i = b * SAMPLE_BLOCK; i < row->vocab; i++)
            if (row->logits[i] == row->largest) return i;
    }
    return 0;
}

// Sum of e^((logit - largest) / temperature) over the terms that reach e^least.
static double row_mass(const struct logit_row *row, float temperature, float least) {
    float copy[SAMPLE_BLOCK];
    const vec shift = vec_all(row->largest), divisor = vec_all(temperature), limit = vec_all(least);
    double total = 0;
    for (int32_t b = 0; b < row->n_blocks;) {
        vec sum = vec_zero();
        for (int32_t end = b + SUM_BLOCKS; b < end && b < row->n_blocks; b++) {
            const float *block = row_block(row, b, copy);
            for (int32_t i = 0; i < SAMPLE_BLOCK; i += VEC_N) {
                vec z = vec_div(vec_sub(vec_load(block + i), shift), divisor);
                sum = vec_add(sum, vec_where_less(z, limit, vec_zero(), vec_exp(z)));
            }
        }
        total += (double)vec_sum(sum);
    }
    return total;
}

// ---------------------------------------------------------------------------------------------------------- candidates

// Larger logit first, lower id first among equals.
static bool candidate_before(const struct sample_candidate *a, const struct sample_candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static void candidate_swap(struct sample_candidate *a, struct sample_candidate *b) {
    struct sample_candidate old = *a;
    *a = *b;
    *b = old;
}

static void candidates_sort(struct sample_candidate *c, int32_t n) {
    for (int32_t i = 1; i < n; i++)
        for (int32_t j = i; j > 0 && candidate_before(&c[j], &c[j - 1]); j--) candidate_swap(&c[j], &c[j - 1]);
}

// Moves what comes before c[pivot] to the front; returns where c[pivot] ends up and adds up the weights before it.
static int32_t candidates_partition(struct sample_candidate *c, int32_t first, int32_t end, double *mass) {
    int32_t middle = first + (end - first) / 2, front = first;
    if (candidate_before(&c[middle], &c[first])) candidate_swap(&c[middle], &c[first]);
    if (candidate_before(&c[end - 1], &c[middle])) candidate_swap(&c[end - 1], &c[middle]);
    if (candidate_before(&c[middle], &c[first])) candidate_swap(&c[middle], &c[first]);
    candidate_swap(&c[middle], &c[end - 1]);
    for (int32_t i = first; i < end - 1; i++) {
        if (!candidate_before(&c[i], &c[end - 1])) continue;
        *mass += (double)c[i].weight;
        candidate_swap(&c[i], &c[front++]);
    }
    candidate_swap(&c[front], &c[end - 1]);
    return front;
}

// Moves to the front the shortest sorted prefix that has `count` candidates or weighs `mass`; returns its length.
// Nothing is sorted that need not be.
static int32_t candidates_select(struct sample_candidate *c, int32_t n, int32_t count, double mass) {
    int32_t first = 0, end = n;
    double before = 0; // weight of the candidates before `first`, which all belong to the prefix
    while (end - first > SORT_DIRECTLY) {
        double part = before;
        int32_t pivot = candidates_partition(c, first, end, &part);
        if (pivot >= count || part >= mass) {
            end = pivot;
        } else {
            before = part + (double)c[pivot].weight;
            first = pivot + 1;
            if (first >= count || before >= mass) return first;
        }
    }
    candidates_sort(c + first, end - first);
    while (first < end && first < count && before < mass) before += (double)c[first++].weight;
    return first;
}

// All tokens whose logit is not less than `least`.
static int32_t row_collect(const struct logit_row *row, float least, struct sample_candidate *out) {
    int32_t n = 0;
    float copy[SAMPLE_BLOCK];
    for (int32_t b = 0; b < row->n_blocks; b++) {
        if (row->block_largest[b] < least) continue;
        const float *block = row_block(row, b, copy);
        int32_t n_left = row->vocab - b * SAMPLE_BLOCK;
        for (int32_t i = 0; i < SAMPLE_BLOCK && i < n_left; i += VEC_N) {
            uint32_t bits = vec_bits_not_less(vec_load(block + i), vec_all(least));
            if (n_left - i < VEC_N) bits &= (1u << (n_left - i)) - 1;
            for (; bits; bits &= bits - 1) {
                int32_t at = i + __builtin_ctz(bits);
                out[n++] = (struct sample_candidate){.logit = block[at], .token = b * SAMPLE_BLOCK + at};
            }
        }
    }
    return n;
}

// A bound that at least k logits reach; uses `spare` [n_blocks].
static float row_bound(const struct logit_row *row, int32_t k, struct sample_candidate *spare) {
    if (k > row->n_blocks) return -INFINITY;
    for (int32_t b = 0; b < row->n_blocks; b++)
        spare[b] = (struct sample_candidate){.logit = row->block_largest[b], .token = b};
    candidates_select(spare, row->n_blocks, k, INFINITY);
    float least = spare[0].logit;
    for (int32_t i = 1; i < k; i++) least = fminf(least, spare[i].logit);
    return least;
}

static void report_top(struct sample_result *result, const struct logit_row *row, int32_t n, double norm,
                       struct sample_candidate *candidates) {
    if (n > row->vocab) n = row->vocab;
    if (n <= 0) return;
    int32_t collected = row_collect(row, row_bound(row, n, candidates), candidates);
    n = candidates_select(candidates, collected, n, INFINITY);
    candidates_sort(candidates, n);
    for (int32_t i = 0; i < n; i++) {
        result->top_token[i] = candidates[i].token;
        result->top_logprob[i] = (float)((double)candidates[i].logit - norm);
    }
    result->n_top = n;
}

// 1 and the number of tokens that come before this one in the order of candidates.
static int32_t row_rank(const struct logit_row *row, int32_t token) {
    const vec own = vec_all(row->logits[token]);
    float copy[SAMPLE_BLOCK];
    int32_t rank = 1;
    for (int32_t b = 0; b < row->n_blocks; b++) {
        if (row->block_largest[b] < row->logits[token]) continue;
        const float *block = row_block(row, b, copy);
        for (int32_t i = 0; i < SAMPLE_BLOCK; i += VEC_N) {
            vec logits = vec_load(block + i);
            uint32_t not_less = vec_bits_not_less(logits, own), not_greater = vec_bits_not_less(own, logits);
            int32_t n_lower = token - b * SAMPLE_BLOCK - i; // lanes with lower ids
            uint32_t lower = n_lower >= VEC_N ? UINT32_MAX : n_lower > 0 ? (1u << n_lower) - 1 : 0;
            rank += __builtin_popcount(not_less & (lower | ~not_greater));
        }
    }
    return rank;
}

// The candidates that min_p, top_k and top_p leave, in any order, scaled.
static int32_t keep_candidates(const struct logit_row *row, const struct sample_params *params,
                               struct sample_candidate *candidates) {
    const float t = params->temperature, least = params->min_p > 0 ? logf(params->min_p) : -INFINITY;
    bool has_k = params->top_k > 0 && params->top_k < row->vocab, has_p = params->top_p < 1;
    float bound = has_k ? row_bound(row, params->top_k, candidates) : -INFINITY;
    // What lies this far below the largest weighs less than 1 - top_p all together.
    float nucleus = has_p && !has_k ? -1 - logf((float)row->vocab / (1 - params->top_p)) : -INFINITY;
    float depth = fmaxf(nucleus, least) * t;
    bound = fmaxf(bound, row->largest + depth + fminf(depth, -1) * 1e-5f - fabsf(row->largest) * 1e-6f);
    int32_t n = row_collect(row, bound, candidates), kept = 0;
    for (int32_t i = 0; i < n; i++) {
        struct sample_candidate c = candidates[i];
        c.logit = (c.logit - row->largest) / t;
        if (!(c.logit < least)) candidates[kept++] = c;
    }
    n = kept;
    if (has_k) n = candidates_select(candidates, n, params->top_k, INFINITY);
    if (!has_p) return n;
    double total = 0;
    for (int32_t i = 0; i < n; i++) {
        candidates[i].weight = expf(candidates[i].logit);
        total += (double)candidates[i].weight;
    }
    if (!has_k) total = row_mass(row, t, least);
    double mass = (double)params->top_p * total;
    return candidates_select(candidates, n, n, mass > 0 ? mass : 1e-300);
}

// --------------------------------------------------------------------------------------------------------------- draws

struct draw {
    uint64_t key;
    float score; // of the best token so far
    int32_t token;
};

// scaled logit - log(rng_exponential(key, token))
VEC_INLINE vec draw_scores(uint64_t key, const int32_t *tokens, vec scaled) {
    float uniform[VEC_N];
    for (int i = 0; i < VEC_N; i++) uniform[i] = rng_uniform(key, (uint64_t)tokens[i]);
    // log(1 - u) is inexact for small u only through the rounding of 1 - u, which the quotient takes back.
    vec u = vec_load(uniform), rest = vec_sub(vec_all(1), u), rounded = vec_sub(vec_all(1), rest);
    vec exact = vec_div(vec_mul(vec_sub(vec_zero(), vec_log(rest)), u), rounded);
    return vec_sub(scaled, vec_log(vec_where_less(rounded, vec_all(0x1p-26f), u, exact)));
}

// `bits`: the lanes that count.
static void draw_lanes(struct draw *draw, const int32_t *tokens, vec scaled, uint32_t bits) {
    vec scores = draw_scores(draw->key, tokens, scaled);
    bits &= vec_bits_not_less(scores, vec_all(draw->score));
    float score[VEC_N];
    vec_store(score, scores);
    for (; bits; bits &= bits - 1) {
        int i = __builtin_ctz(bits);
        if (score[i] > draw->score || (score[i] == draw->score && tokens[i] < draw->token))
            draw->score = score[i], draw->token = tokens[i];
    }
}

static void draw_candidates(struct draw *draw, const struct sample_candidate *candidates, int32_t n) {
    for (int32_t i = 0; i < n; i += VEC_N) {
        int32_t tokens[VEC_N] = {0};
        float scaled[VEC_N] = {0};
        int32_t count = n - i < VEC_N ? n - i : VEC_N;
        for (int32_t j = 0; j < count; j++) tokens[j] = candidates[i + j].token, scaled[j] = candidates[i + j].logit;
        draw_lanes(draw, tokens, vec_load(scaled), (uint32_t)((1ull << count) - 1));
    }
}

static void draw_row(struct draw *draw, const struct logit_row *row, float temperature) {
    float copy[SAMPLE_BLOCK];
    const vec shift = vec_all(row->largest), divisor = vec_all(temperature);
    struct sample_candidate first = {.token = draw->token};
    draw_candidates(draw, &first, 1); // the most probable token: a good bound for all others
    for (int32_t b = 0; b < row->n_blocks; b++) {
        if ((row->block_largest[b] - row->largest) / temperature + NOISE_MAX < draw->score) continue;
        const float *block = row_block(row, b, copy);
        int32_t n_left = row->vocab - b * SAMPLE_BLOCK;
        for (int32_t i = 0; i < SAMPLE_BLOCK && i < n_left; i += VEC_N) {
            vec scaled = vec_div(vec_sub(vec_load(block + i), shift), divisor);
            uint32_t bits = vec_bits_not_less(scaled, vec_all(draw->score - NOISE_MAX));
            if (n_left - i < VEC_N) bits &= (1u << (n_left - i)) - 1;
            if (!bits) continue;
            int32_t tokens[VEC_N];
            for (int32_t j = 0; j < VEC_N; j++) tokens[j] = b * SAMPLE_BLOCK + i + j;
            draw_lanes(draw, tokens, scaled, bits);
        }
    }
}

static int32_t draw_token(const struct logit_row *row, const struct sample_params *params,
                          struct sample_candidate *candidates) {
    struct draw draw = {.key = rng_key(params->seed, (uint64_t)params->choice_index, (uint64_t)params->position),
                        .score = -INFINITY,
                        .token = row_argmax(row)};
    if (params->temperature < SAMPLE_TEMPERATURE_MIN || !(row->largest > -INFINITY)) return draw.token;
    if (params->top_k <= 0 && params->top_p >= 1 && params->min_p <= 0)
        draw_row(&draw, row, params->temperature);
    else
        draw_candidates(&draw, candidates, keep_candidates(row, params, candidates));
    return draw.token;
}

void KERNEL(sample)(struct sample_result *result, const float *logits, int32_t vocab,
                    const struct sample_params *params, const struct step_input *input,
                    struct sample_scratch *scratch) {
    memset(result, 0, sizeof *result);
    struct logit_row row = row_open(logits, vocab, scratch->block_largest);
    bool logprobs = params->n_top_logprobs >= 0 || params->forced_token >= 0;
    double norm = 0;
    if (logprobs) {
        norm = (double)row.largest + log(row_mass(&row, 1, -INFINITY));
        report_top(result, &row, params->n_top_logprobs, norm, scratch->candidates);
    }
    result->token = params->forced_token;
    const float *edited = logits;
    if (params->forced_token < 0) {
        edited = sample_edit(logits, vocab, params, input, scratch->logits);
        if (edited != logits) row = row_open(edited, vocab, scratch->block_largest);
        result->token = draw_token(&row, params, scratch->candidates);
    }
    if (!logprobs) return;
    if (edited != logits) row = row_open(logits, vocab, scratch->block_largest);
    result->logprob = (float)((double)logits[result->token] - norm);
    result->rank = row_rank(&row, result->token);
}
