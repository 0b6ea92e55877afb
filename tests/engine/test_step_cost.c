// What a step must read and compute, against arithmetic by hand.
#include "tests/test.h"

#include "engine/step_cost.h"
#include <math.h>

// Two layers of width 8: q 8x8, k and v 4x8, o 8x8, gate and up 16x8, down 8x16; a head of 32x8. One layer: 576 values.
static void fill(struct model_spec *spec, struct layer_spec layers[2], int32_t window) {
    *spec = (struct model_spec){.n_layers = 2,
                                .hidden = 8,
                                .n_heads = 2,
                                .n_kv_heads = 1,
                                .head_dim = 4,
                                .tied = true,
                                .embed = {.format = TENSOR_BF16, .n_rows = 32, .n_cols = 8},
                                .layers = layers};
    for (int i = 0; i < 2; i++)
        layers[i] = (struct layer_spec){.wq = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 8},
                                        .wk = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8},
                                        .wv = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8},
                                        .wo = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 8},
                                        .gate = {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                        .up = {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                        .down = {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 16},
                                        .window = i == 1 ? window : 0};
}

static struct backend *open_backend(void) {
    struct backend *backend = NULL;
    struct err err;
    assert_int_equal(backend_open(&backend, &(struct backend_options){.instruction_set = "ref"}, &err), 0);
    return backend;
}

static double all_flops(const struct step_record *r) {
    return r->linear_flops + r->attention_flops + r->head_flops;
}

static void costs_are_those_by_hand(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    static const struct {
        int32_t rows, kv_len, logit_rows, window;
        enum weight_format weights;
        double weight_bytes, head_bytes, kv_bytes, flops;
    } cases[] = {
        // A layer: 576 * 2 bytes; a row of the embedding: 16; the head: 256 * 2. A token and layer of K and V: 2 * 4 *
        // 4
        // bytes, read where it is visible and written once. Attention: 4 * 8 operations a visible key and layer.
        {1, 10, 1, 0, WEIGHT_AS_IS, 2304 + 16, 512, 2 * 11 * 32, 2 * 1152 + 2 * 256 + 2 * 10 * 32},
        {3, 3, 0, 0, WEIGHT_AS_IS, 2304 + 48, 0, 2 * 6 * 32, 3 * 2 * 1152 + 2 * (1 + 2 + 3) * 32},
        {1, 10, 1, 4, WEIGHT_AS_IS, 2304 + 16, 512, (11 + 5) * 32, 2 * 1152 + 2 * 256 + (10 + 4) * 32},
        {2, 10, 1, 4, WEIGHT_AS_IS, 2304 + 32, 512, (12 + 7) * 32, 2 * 2 * 1152 + 2 * 256 + (9 + 10 + 4 + 4) * 32},
        // The first of three rows sees 3 tokens, the others 4.
        {3, 5, 0, 4, WEIGHT_AS_IS, 2304 + 48, 0, (8 + 8) * 32, 3 * 2 * 1152 + (3 + 4 + 5 + 3 + 4 + 4) * 32},
        // FP8: blocks of 16 outputs, of 32 inputs (8 or 16, then zeros) and a scale of 4 bytes. The head stays.
        {1, 1, 1, 0, WEIGHT_FP8, 2 * 16 * 7 * (32 + 4) + 16, 512, 2 * 2 * 32, 2 * 1152 + 2 * 256 + 2 * 32},
    };
    const struct kv_shape kv = {2, 1, 4, 16, 8, KV_F32};
    const struct sample_params draws = {.forced_token = -1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_spec spec;
        struct layer_spec layers[2];
        struct cost_model model;
        fill(&spec, layers, cases[i].window);
        struct step_sequence sequence = {0, cases[i].rows, cases[i].kv_len, 0};
        int32_t logit_row = cases[i].rows - 1;
        struct step_input input = {.n_rows = cases[i].rows,
                                   .n_sequences = 1,
                                   .n_logit_rows = cases[i].logit_rows,
                                   .sequences = &sequence,
                                   .logit_row = &logit_row,
                                   .sample = (struct sample_params *)(uintptr_t)&draws};
        struct step_record r = {0};
        cost_model_make(&model, backend, &spec, cases[i].weights, &kv);
        step_cost_count(&r, &model, &input);
        if (r.weight_bytes != cases[i].weight_bytes || r.head_bytes != cases[i].head_bytes ||
            r.kv_bytes != cases[i].kv_bytes || all_flops(&r) != cases[i].flops)
            fail_msg("case %zu: %g, %g, %g bytes and %g operations", i, r.weight_bytes, r.head_bytes, r.kv_bytes,
                     all_flops(&r));
    }
    backend_close(backend);
}

// One layer of 4 experts of 16x8, 16x8 and 8x16 values, of which a row hits 1: n rows hit 4 (1 - (3/4)^n) of them.
static void only_experts_hit_are_read(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    struct expert experts[4];
    for (int e = 0; e < 4; e++)
        experts[e] = (struct expert){{.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                     {.format = TENSOR_BF16, .n_rows = 16, .n_cols = 8},
                                     {.format = TENSOR_BF16, .n_rows = 8, .n_cols = 16}};
    struct layer_spec layer = {.router = {.format = TENSOR_BF16, .n_rows = 4, .n_cols = 8}, .experts = experts};
    struct model_spec spec = {
        .n_layers = 1, .hidden = 8, .n_heads = 1, .head_dim = 8, .n_experts = 4, .n_hit = 1, .layers = &layer};
    const struct kv_shape kv = {1, 1, 8, 16, 8, KV_F32};
    struct cost_model model;
    cost_model_make(&model, backend, &spec, WEIGHT_AS_IS, &kv);
    static const double hit[] = {1, 1.75, 2.3125};
    for (int32_t n = 1; n <= 3; n++) {
        struct step_input input = {.n_rows = n};
        struct step_record r = {0};
        step_cost_count(&r, &model, &input);
        assert_true(fabs(r.weight_bytes - (64 + hit[n - 1] * 768)) < 1e-9);
        assert_true(all_flops(&r) == n * 2 * (32 + 384));
        step_cost_count_experts(&r, &model, 2); // the device has counted them
        assert_true(r.weight_bytes == 64 + 2 * 768);
    }
    backend_close(backend);
}

// -------------------------------------------------------------------------------------------------- real models

struct shape {
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, mlp, vocab, window, n_experts, n_hit;
    bool tied;
};

static struct tensor matrix(int32_t n_rows, int32_t n_cols) {
    return (struct tensor){.format = TENSOR_BF16, .n_rows = n_rows, .n_cols = n_cols};
}

// In BF16, with a cache in BF16. layers: [48]; expert: stands for all, because all are alike.
static void describe(const struct shape *s, struct model_spec *spec, struct layer_spec *layers, struct expert *expert) {
    *spec = (struct model_spec){.n_layers = s->n_layers,
                                .hidden = s->hidden,
                                .n_heads = s->n_heads,
                                .n_kv_heads = s->n_kv_heads,
                                .head_dim = s->head_dim,
                                .tied = s->tied,
                                .n_experts = s->n_experts,
                                .n_hit = s->n_hit,
                                .embed = matrix(s->vocab, s->hidden),
                                .head = matrix(s->vocab, s->hidden),
                                .layers = layers};
    *expert = (struct expert){matrix(s->mlp, s->hidden), matrix(s->mlp, s->hidden), matrix(s->hidden, s->mlp)};
    for (int32_t i = 0; i < s->n_layers; i++) {
        layers[i] = (struct layer_spec){.wq = matrix(s->n_heads * s->head_dim, s->hidden),
                                        .wk = matrix(s->n_kv_heads * s->head_dim, s->hidden),
                                        .wv = matrix(s->n_kv_heads * s->head_dim, s->hidden),
                                        .wo = matrix(s->hidden, s->n_heads * s->head_dim),
                                        .window = s->window};
        if (s->n_experts) {
            layers[i].experts = expert;
            layers[i].router = matrix(s->n_experts, s->hidden);
        } else {
            layers[i].gate = expert->gate, layers[i].up = expert->up, layers[i].down = expert->down;
        }
    }
}

static const struct shape llama_8b = {32, 4096, 32, 8, 128, 14336, 128256, 0, 0, 0, false};
static const struct shape qwen3_06b = {28, 1024, 16, 8, 128, 3072, 151936, 0, 0, 0, true};
static const struct shape qwen3_30b_a3b = {48, 2048, 32, 4, 128, 768, 151936, 0, 128, 8, false};
static const struct shape mistral_7b = {32, 4096, 32, 8, 128, 14336, 32000, 4096, 0, 0, false};

// By hand, from the shapes:
//   llama-3.1-8b, mistral-7b: a layer 4096 * (32 + 2 * 8) * 128 + 32 * 128 * 4096 + 3 * 4096 * 14336 = 218,103,808
//     values, 32 layers 6,979,321,856; heads 4096 * 128256 = 525,336,576 and 4096 * 32000 = 131,072,000; K and V of a
//     token 2 * 32 * 8 * 128 * 2 = 131,072 bytes; a visible key 4 * 32 * 32 * 128 = 524,288 operations
//   qwen3-0.6b: 1024 * 32 * 128 + 16 * 128 * 1024 + 3 * 1024 * 3072 = 15,728,640; 28 layers 440,401,920; head
//     155,582,464; 114,688 bytes; 4 * 28 * 16 * 128 = 229,376 operations
//   qwen3-30b-a3b: 2048 * 40 * 128 + 32 * 128 * 2048 + 128 * 2048 = 19,136,512 and experts of 3 * 2048 * 768 =
//     4,718,592, 8 a row; 48 layers 918,552,576 and 226,492,416 an expert; head 311,164,928; 98,304 bytes; 786,432
//     operations. 16 rows hit 128 * (1 - 0.9375^16) = 82.42 of 128 experts.
// A row of the embedding: 8192, 2048 and 4096 bytes.
static void real_models_cost_what_hands_compute(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const struct shape *shape;
        int32_t rows, kv_len, n_sequences; // each sequence brings `rows`
        bool draws;
        double weight_bytes, head_bytes, kv_bytes, linear_flops, attention_flops, head_flops;
    } cases[] = {
        {"llama decode", &llama_8b, 1, 1000, 1, true, 2 * 6979321856.0 + 8192, 2 * 525336576.0, 1001 * 131072.0,
         2 * 6979321856.0, 1000 * 524288.0, 2 * 525336576.0},
        {"llama decode of 8", &llama_8b, 1, 1000, 8, true, 2 * 6979321856.0 + 8 * 8192, 2 * 525336576.0,
         8 * 1001 * 131072.0, 8 * 2 * 6979321856.0, 8 * 1000 * 524288.0, 8 * 2 * 525336576.0},
        {"llama first chunk", &llama_8b, 512, 512, 1, false, 2 * 6979321856.0 + 512 * 8192, 0, 1024 * 131072.0,
         512 * 2 * 6979321856.0, 131328 * 524288.0, 0},
        {"llama last chunk", &llama_8b, 512, 1024, 1, true, 2 * 6979321856.0 + 512 * 8192, 2 * 525336576.0,
         1536 * 131072.0, 512 * 2 * 6979321856.0, 393472 * 524288.0, 2 * 525336576.0},
        {"qwen decode", &qwen3_06b, 1, 2048, 1, true, 2 * 440401920.0 + 2048, 2 * 155582464.0, 2049 * 114688.0,
         2 * 440401920.0, 2048 * 229376.0, 2 * 155582464.0},
        {"qwen chunk", &qwen3_06b, 256, 768, 1, false, 2 * 440401920.0 + 256 * 2048, 0, 1024 * 114688.0,
         256 * 2 * 440401920.0, (256 * 512 + 32896) * 229376.0, 0},
        {"experts decode", &qwen3_30b_a3b, 1, 100, 1, true, 2 * 918552576.0 + 8 * 2 * 226492416.0 + 4096,
         2 * 311164928.0, 101 * 98304.0, 2 * (918552576.0 + 8 * 226492416.0), 100 * 786432.0, 2 * 311164928.0},
        {"experts decode of 16", &qwen3_30b_a3b, 1, 100, 16, true, 2 * 918552576.0 + 82.4225 * 2 * 226492416.0 + 65536,
         2 * 311164928.0, 16 * 101 * 98304.0, 16 * 2 * (918552576.0 + 8 * 226492416.0), 16 * 100 * 786432.0,
         16 * 2 * 311164928.0},
        {"window decode", &mistral_7b, 1, 10000, 1, true, 2 * 6979321856.0 + 8192, 2 * 131072000.0, 4097 * 131072.0,
         2 * 6979321856.0, 4096 * 524288.0, 2 * 131072000.0},
        // 96 rows see 4001 .. 4096 keys, 416 see 4096: 388,656 + 1,703,936; the first of them sees all 4512 tokens'
        // start.
        {"window chunk", &mistral_7b, 512, 4512, 1, false, 2 * 6979321856.0 + 512 * 8192, 0, (4512 + 512) * 131072.0,
         512 * 2 * 6979321856.0, 2092592 * 524288.0, 0},
        // 512 rows with a full window: the tokens behind the first row's window, 4096 + 511, are read.
        {"window late chunk", &mistral_7b, 512, 9000, 1, false, 2 * 6979321856.0 + 512 * 8192, 0,
         (4607 + 512) * 131072.0, 512 * 2 * 6979321856.0, 512 * 4096 * 524288.0, 0},
    };
    struct backend *backend = open_backend();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_spec spec;
        struct layer_spec layers[48];
        struct expert expert;
        struct cost_model model;
        describe(cases[i].shape, &spec, layers, &expert);
        const struct shape *s = cases[i].shape;
        const struct kv_shape kv = {s->n_layers, s->n_kv_heads, s->head_dim, 16, 8, KV_BF16};
        cost_model_make(&model, backend, &spec, WEIGHT_AS_IS, &kv);
        struct step_sequence sequences[16];
        struct sample_params samples[16];
        int32_t logit_rows[16], n = cases[i].n_sequences, rows = cases[i].rows;
        for (int32_t k = 0; k < n; k++) {
            sequences[k] = (struct step_sequence){k * rows, rows, cases[i].kv_len, 0};
            samples[k] = (struct sample_params){.forced_token = -1};
            logit_rows[k] = (k + 1) * rows - 1;
        }
        struct step_input input = {.n_rows = n * rows,
                                   .n_sequences = n,
                                   .n_logit_rows = cases[i].draws ? n : 0,
                                   .sequences = sequences,
                                   .logit_row = logit_rows,
                                   .sample = samples};
        struct step_record r = {0};
        step_cost_count(&r, &model, &input);
        const double tolerance = cases[i].shape->n_experts && n > 1 ? 1e-6 : 0;
        if (fabs(r.weight_bytes - cases[i].weight_bytes) > tolerance * cases[i].weight_bytes ||
            r.head_bytes != cases[i].head_bytes || r.kv_bytes != cases[i].kv_bytes ||
            r.linear_flops != cases[i].linear_flops || r.attention_flops != cases[i].attention_flops ||
            r.head_flops != cases[i].head_flops)
            fail_msg("%s: %.0f, %.0f, %.0f bytes; %.0f, %.0f, %.0f operations", cases[i].name, r.weight_bytes,
                     r.head_bytes, r.kv_bytes, r.linear_flops, r.attention_flops, r.head_flops);
        assert_int_equal(r.n_decoding, rows == 1 ? n : 0);
        assert_int_equal(r.n_prompt_rows, rows == 1 ? 0 : rows);
        assert_true(r.kv_bytes_decode == (rows == 1 ? r.kv_bytes : 0));
    }
    backend_close(backend);
}

// A prompt of 5 rows, a sequence with 2 drafts behind its token, one that decodes: the drafts are two rows.
static void rows_are_told_apart(void **state) {
    (void)state;
    struct backend *backend = open_backend();
    struct model_spec spec;
    struct layer_spec layers[2];
    struct cost_model model;
    fill(&spec, layers, 0);
    cost_model_make(&model, backend, &spec, WEIGHT_AS_IS, &(struct kv_shape){2, 1, 4, 16, 8, KV_F32});
    struct step_sequence sequences[] = {{0, 5, 9, 0}, {5, 3, 20, 0}, {8, 1, 7, 0}};
    int32_t logit_rows[] = {4, 5, 6, 7, 8};
    struct sample_params samples[5];
    for (int i = 0; i < 5; i++) samples[i] = (struct sample_params){.forced_token = -1};
    struct step_input input = {.n_rows = 9,
                               .n_sequences = 3,
                               .n_logit_rows = 5,
                               .sequences = sequences,
                               .logit_row = logit_rows,
                               .sample = samples};
    struct step_record r = {0};
    step_cost_count(&r, &model, &input);
    assert_int_equal(r.n_prompt_rows, 5);
    assert_int_equal(r.n_draft_rows, 2);
    assert_int_equal(r.n_decoding, 2);
    assert_int_equal(r.decode_context, 27);
    assert_int_equal(r.kv_tokens_read, (5 + 6 + 7 + 8 + 9) + (18 + 19 + 20) + 7);
    // As papers count: every row sees all tokens.
    assert_true(r.attention_flops_palm == (5 * 9 + 3 * 20 + 7) * 2 * 32.0);
    assert_true(r.attention_flops_decode == (18 + 19 + 20 + 7) * 2 * 32.0);
    backend_close(backend);
}

static void the_slower_of_reading_and_computing_is_the_limit(void **state) {
    (void)state;
    struct model_spec spec = {.embed = {.format = TENSOR_BF16}};
    const struct step_record record = {
        .weight_bytes = 800, .head_bytes = 100, .kv_bytes = 100, .linear_flops = 3000, .head_flops = 1000};
    static const struct {
        enum tensor_format format;
        enum weight_format weights;
        struct backend_peaks peaks;
        double s;
    } cases[] = {
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 100, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 10},
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 4},
        {TENSOR_F32, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 400},
        {TENSOR_F32, WEIGHT_INT4, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10, .bf16_flops_per_s = 1000}, 4},
        {TENSOR_BF16, WEIGHT_AS_IS, {.read_bytes_per_s = 1000, .f32_flops_per_s = 10}, 400},
        {TENSOR_BF16, WEIGHT_AS_IS, {.f32_flops_per_s = 10}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spec.embed.format = cases[i].format;
        double flops_per_s = step_cost_peak_flops(&spec, cases[i].weights, &cases[i].peaks);
        double s = step_cost_least_s(&record, cases[i].peaks.read_bytes_per_s, flops_per_s);
        if (fabs(s - cases[i].s) > 1e-12) fail_msg("case %zu: %g s", i, s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_are_those_by_hand),
        cmocka_unit_test(only_experts_hit_are_read),
        cmocka_unit_test(real_models_cost_what_hands_compute),
        cmocka_unit_test(rows_are_told_apart),
        cmocka_unit_test(the_slower_of_reading_and_computing_is_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
