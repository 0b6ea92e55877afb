// Speed of the CPU kernels in whole steps of known shapes, beside the limits measured in the same run.
// Usage: bench_kernels [-i instruction_set] [-t threads] [peaks] [model] [mixed] [small] [attention]
#include "base/mem.h"
#include "base/number.h"
#include "base/rng.h"
#include "kernels/backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS_MAX = 28, REPEATS = 7, STEP_ROWS_MAX = 512, SEQUENCES_MAX = 64, BLOCK_TOKENS = 16 };

struct bench_shape {
    const char *name;
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, mlp_width, vocab;
    enum tensor_format format;
    enum kv_format kv_format;
    int32_t n_blocks, window;
};

static const struct bench_shape qwen_0_6b = {"0.6 B, BF16", 28,     1024,        16,      8,    128,
                                             3072,          151936, TENSOR_BF16, KV_BF16, 1024, 0};
static const struct bench_shape stories_260k = {"260 K, F32", 5, 64, 8, 4, 8, 172, 512, TENSOR_F32, KV_F32, 64, 0};
// Little besides attention.
static const struct bench_shape attention_shape = {
    "attention, 16 heads on 8 of 128", 2, 64, 16, 8, 128, 64, 64, TENSOR_F32, KV_BF16, 0, 0};

struct model {
    struct bench_shape shape;
    struct backend *backend;
    struct program *program;
    struct tensor embed, wq[LAYERS_MAX], wk[LAYERS_MAX], wv[LAYERS_MAX], wo[LAYERS_MAX];
    struct tensor gate[LAYERS_MAX], up[LAYERS_MAX], down[LAYERS_MAX];
    float *norm, *inverse_frequency;
    double layer_bytes, head_bytes;
};

static _Noreturn void fail(const char *text) {
    fprintf(stderr, "bench_kernels: %s\n", text);
    exit(1);
}

static struct tensor make_matrix(struct model *m, int32_t n_rows, int32_t n_cols) {
    struct tensor t = {.format = m->shape.format, .n_rows = n_rows, .n_cols = n_cols};
    char *data = mem_alloc(tensor_bytes(&t));
    float spread = 1.7f / sqrtf((float)n_cols);
    uint64_t random = (uint64_t)n_rows;
    for (size_t i = 0; i < (size_t)n_rows * (size_t)n_cols; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        float x = spread * ((float)(random >> 40) * 0x1p-23f - 1);
        uint16_t half = bf16_from_f32(x);
        if (t.format == TENSOR_F32)
            memcpy(data + 4 * i, &x, 4);
        else
            memcpy(data + 2 * i, &half, 2);
    }
    t.data = data;
    if (backend_weight_load(m->backend, &t, WEIGHT_AS_IS, NULL) != 0) fail("a weight is refused");
    return t;
}

static void make_weights(struct model *m) {
    const struct bench_shape *s = &m->shape;
    int32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    m->embed = make_matrix(m, s->vocab, s->hidden);
    m->head_bytes = (double)tensor_bytes(&m->embed);
    for (int32_t i = 0; i < s->n_layers; i++) {
        m->wq[i] = make_matrix(m, q, s->hidden), m->wk[i] = make_matrix(m, kv, s->hidden);
        m->wv[i] = make_matrix(m, kv, s->hidden), m->wo[i] = make_matrix(m, s->hidden, q);
        m->gate[i] = make_matrix(m, s->mlp_width, s->hidden), m->up[i] = make_matrix(m, s->mlp_width, s->hidden);
        m->down[i] = make_matrix(m, s->hidden, s->mlp_width);
        const struct tensor *all[] = {&m->wq[i], &m->wk[i], &m->wv[i], &m->wo[i], &m->gate[i], &m->up[i], &m->down[i]};
        for (size_t w = 0; w < sizeof all / sizeof *all; w++) m->layer_bytes += (double)tensor_bytes(all[w]);
    }
    int32_t widest = s->hidden > s->head_dim ? s->hidden : s->head_dim;
    m->norm = mem_alloc((size_t)widest * sizeof *m->norm);
    for (int32_t i = 0; i < widest; i++) m->norm[i] = 1;
    m->inverse_frequency = mem_alloc((size_t)s->head_dim * sizeof *m->inverse_frequency);
    for (int32_t i = 0; i < s->head_dim; i++)
        m->inverse_frequency[i] = powf(10000, -2.0f * (float)i / (float)s->head_dim);
}

static struct program *record(struct model *m, int32_t window) {
    const struct bench_shape *s = &m->shape;
    struct rope_spec rope = {s->head_dim, false, 1, m->inverse_frequency};
    struct program_shape shape = {.rows_max = STEP_ROWS_MAX,
                                  .sequences_max = SEQUENCES_MAX,
                                  .logit_rows_max = SEQUENCES_MAX,
                                  .hidden = s->hidden,
                                  .q_width = s->n_heads * s->head_dim,
                                  .kv_width = s->n_kv_heads * s->head_dim,
                                  .mlp_width = s->mlp_width,
                                  .vocab = s->vocab,
                                  .n_ropes = 1,
                                  .ropes = &rope};
    struct program *p;
    if (program_open(&p, m->backend, &shape, NULL) != 0) fail("no program");
    program_add(p, &(struct op){.kind = OP_EMBED, .embed = {m->embed, 1}});
    for (int32_t i = 0; i < s->n_layers; i++) {
        program_add(p,
                    &(struct op){.kind = OP_ATTENTION_IN,
                                 .attention_in = {i, s->n_heads, s->n_kv_heads, s->head_dim, m->norm, 1e-6f, m->wq[i],
                                                  m->wk[i], m->wv[i], NULL, NULL, NULL, m->norm, m->norm, 0}});
        program_add(p, &(struct op){.kind = OP_ATTENTION,
                                    .attention = {i, s->n_heads, s->n_kv_heads, s->head_dim,
                                                  1 / sqrtf((float)s->head_dim), window, 0}});
        program_add(p,
                    &(struct op){.kind = OP_LINEAR_ADD, .linear_add = {SOURCE_ATTENTION, m->wo[i], NULL, NULL, 0, 1}});
        program_add(p, &(struct op){.kind = OP_MLP_IN,
                                    .mlp_in = {m->norm, 1e-6f, m->gate[i], m->up[i], NULL, NULL, ACTIVATION_SILU}});
        program_add(p, &(struct op){.kind = OP_LINEAR_ADD, .linear_add = {SOURCE_MLP, m->down[i], NULL, NULL, 0, 1}});
    }
    program_add(p, &(struct op){.kind = OP_HEAD, .head = {m->norm, 1e-6f, m->embed, 0, 1}});
    program_add(p, &(struct op){.kind = OP_SAMPLE, .sample = {s->vocab}});
    if (program_prepare(p, NULL) != 0) fail("no program");
    return p;
}

static void model_open(struct model *m, const struct bench_shape *shape, const struct backend_options *options) {
    struct err err;
    *m = (struct model){.shape = *shape};
    if (backend_open(&m->backend, options, &err) != 0) fail(err.text);
    struct kv_shape kv = {shape->n_layers, shape->n_kv_heads, shape->head_dim,
                          BLOCK_TOKENS,    shape->n_blocks,   shape->kv_format};
    if (backend_kv_open(m->backend, &kv, &err) != 0) fail(err.text);
    make_weights(m);
    m->program = record(m, 0);
}

static void model_close(struct model *m) {
    program_close(m->program);
    backend_close(m->backend);
    free((void *)(uintptr_t)m->embed.data);
    for (int32_t i = 0; i < m->shape.n_layers; i++) {
        const struct tensor *all[] = {&m->wq[i], &m->wk[i], &m->wv[i], &m->wo[i], &m->gate[i], &m->up[i], &m->down[i]};
        for (size_t w = 0; w < sizeof all / sizeof *all; w++) free((void *)(uintptr_t)all[w]->data);
    }
    free(m->norm);
    free(m->inverse_frequency);
}

// n_sequences sequences of kv_len tokens, the last n_rows of each computed in this step.
struct bench_step {
    struct step_input input;
    int32_t token[STEP_ROWS_MAX], position[STEP_ROWS_MAX], sequence[STEP_ROWS_MAX], logit_row[SEQUENCES_MAX];
    struct step_sequence sequences[SEQUENCES_MAX];
    struct sample_params sample[SEQUENCES_MAX];
    int32_t *block_table;
    struct sample_result results[SEQUENCES_MAX];
};

static void step_make(struct bench_step *s, int32_t n_sequences, int32_t n_rows, int32_t kv_len, int32_t vocab) {
    int32_t n_blocks = (kv_len + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    s->block_table = mem_alloc((size_t)n_sequences * (size_t)n_blocks * sizeof *s->block_table);
    s->input = (struct step_input){n_rows * n_sequences,
                                   n_sequences,
                                   n_sequences,
                                   n_sequences * n_blocks,
                                   0,
                                   0,
                                   s->token,
                                   s->position,
                                   s->sequence,
                                   s->sequences,
                                   s->block_table,
                                   s->logit_row,
                                   s->sample,
                                   NULL,
                                   NULL};
    for (int32_t q = 0; q < n_sequences; q++) {
        s->sequences[q] = (struct step_sequence){q * n_rows, n_rows, kv_len, q * n_blocks};
        for (int32_t b = 0; b < n_blocks; b++) s->block_table[q * n_blocks + b] = b * n_sequences + q;
        for (int32_t r = 0; r < n_rows; r++) {
            int32_t row = q * n_rows + r;
            s->token[row] = (row * 7919 + 13) % vocab;
            s->position[row] = kv_len - n_rows + r;
            s->sequence[row] = q;
        }
        s->logit_row[q] = q * n_rows + n_rows - 1;
        s->sample[q] =
            (struct sample_params){.top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1};
    }
}

// One more sequence, of whose prompt this step computes n_rows rows; nothing is drawn.
static void step_add_prompt(struct bench_step *s, int32_t n_rows, int32_t kv_len, int32_t vocab) {
    struct step_input *input = &s->input;
    int32_t n_blocks = (kv_len + BLOCK_TOKENS - 1) / BLOCK_TOKENS, block_first = input->n_block_table;
    s->block_table = mem_grow(s->block_table, (size_t)block_first + (size_t)n_blocks, sizeof *s->block_table);
    input->block_table = s->block_table;
    for (int32_t b = 0; b < n_blocks; b++) s->block_table[block_first + b] = block_first + b;
    input->n_block_table += n_blocks;
    s->sequences[input->n_sequences] = (struct step_sequence){input->n_rows, n_rows, kv_len, block_first};
    for (int32_t r = 0; r < n_rows; r++) {
        int32_t row = input->n_rows + r;
        s->token[row] = (row * 7919 + 13) % vocab;
        s->position[row] = kv_len - n_rows + r;
        s->sequence[row] = input->n_sequences;
    }
    input->n_rows += n_rows;
    input->n_sequences++;
}

// The quickest of some runs: what the machine does when nobody disturbs it.
static struct step_times step_time(struct model *m, struct program *program, struct bench_step *s, int repeats) {
    struct step_times best = {.total_ns = UINT64_MAX}, times;
    for (int i = 0; i < repeats; i++) {
        backend_submit(m->backend, program, &s->input);
        if (backend_collect(m->backend, s->results, &times, NULL) != 0) fail("a step fails");
        if (times.total_ns < best.total_ns) best = times;
    }
    return best;
}

static struct backend_peaks bench_peaks(const struct backend_options *options) {
    struct backend *backend;
    struct backend_peaks peaks;
    struct err err;
    if (backend_open(&backend, options, &err) != 0) fail(err.text);
    backend_measure_peaks(backend, &peaks);
    printf("%s\n", backend_description(backend));
    printf("limits: read %.1f GB/s, f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n",
           peaks.read_bytes_per_s / 1e9, peaks.f32_flops_per_s / 1e9, peaks.bf16_flops_per_s / 1e9,
           peaks.int8_ops_per_s / 1e9);
    backend_close(backend);
    return peaks;
}

// The logits of a step agree with those of the plain kernels.
static void validate(const struct bench_shape *shape, const struct backend_options *options) {
    struct bench_shape small = *shape;
    small.n_layers = 1, small.n_blocks = 8, small.vocab = 500;
    struct backend_options plain_options = *options;
    plain_options.instruction_set = "ref";
    struct model fast, plain;
    struct bench_step step;
    model_open(&fast, &small, options), model_open(&plain, &small, &plain_options);
    step_make(&step, 1, 100, 100, small.vocab);
    step_time(&fast, fast.program, &step, 1), step_time(&plain, plain.program, &step, 1);
    double worst = 0;
    for (int32_t i = 0; i < small.vocab; i++)
        worst = fmax(worst, fabs((double)(backend_logits(fast.backend, 0)[i] - backend_logits(plain.backend, 0)[i])));
    printf("%s: logits within %.1g of plain C\n", shape->name, worst);
    if (!(worst < 0.1)) fail("the kernels are wrong");
    free(step.block_table);
    model_close(&fast), model_close(&plain);
}

static void print_ops(const struct step_times *t) {
    printf("   ");
    for (int k = 0; k < OP_KINDS; k++) printf(" %s %.3f", op_kind_name((enum op_kind)k), (double)t->op_ns[k] / 1e6);
    printf(" ms\n");
}

static void bench_model(const struct backend_options *options, const struct backend_peaks *peaks) {
    validate(&qwen_0_6b, options);
    struct model m;
    model_open(&m, &qwen_0_6b, options);
    static const int32_t sequences[] = {1, 4, 8, 16, 32};
    double n_bytes = m.layer_bytes + m.head_bytes;
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        struct bench_step step;
        step_make(&step, sequences[i], 1, 128, m.shape.vocab);
        struct step_times t = step_time(&m, m.program, &step, REPEATS);
        double rate = n_bytes / ((double)t.total_ns * 1e-9);
        printf("decode %d: %.2f ms, %.1f tokens/s, weights at %.1f GB/s = %.0f %% of read\n", sequences[i],
               (double)t.total_ns / 1e6, sequences[i] * 1e9 / (double)t.total_ns, rate / 1e9,
               100 * rate / peaks->read_bytes_per_s);
        print_ops(&t);
        free(step.block_table);
    }
    struct bench_step step;
    step_make(&step, 1, 512, 512, m.shape.vocab);
    struct step_times t = step_time(&m, m.program, &step, 3);
    double flops = m.layer_bytes * 512; // two a weight of two bytes
    double matrix_ns = (double)(t.op_ns[OP_ATTENTION_IN] + t.op_ns[OP_LINEAR_ADD] + t.op_ns[OP_MLP_IN]);
    printf("prompt 512: %.1f ms, %.0f tokens/s; matrix products %.0f GFLOP/s = %.0f %% of bf16\n",
           (double)t.total_ns / 1e6, 512e9 / (double)t.total_ns, flops / matrix_ns,
           100 * flops / matrix_ns * 1e9 / peaks->bf16_flops_per_s);
    print_ops(&t);
    free(step.block_table);
    model_close(&m);
}

// What rows of a prompt cost in a step that 32 sequences decode in.
static void bench_mixed(const struct backend_options *options) {
    struct model m;
    model_open(&m, &qwen_0_6b, options);
    static const int32_t prompt_rows[] = {0, 16, 32, 64, 96, 128, 256, 448}, kv_lens[] = {512, 4096, 8000};
    for (size_t k = 0; k < sizeof kv_lens / sizeof *kv_lens; k++) {
        double decode_ms = 0;
        for (size_t i = 0; i < sizeof prompt_rows / sizeof *prompt_rows; i++) {
            struct bench_step step;
            int32_t n_rows = prompt_rows[i];
            step_make(&step, 32, 1, 256, m.shape.vocab);
            if (n_rows) step_add_prompt(&step, n_rows, kv_lens[k], m.shape.vocab);
            struct step_times t = step_time(&m, m.program, &step, 3);
            double ms = (double)t.total_ns / 1e6;
            if (!n_rows) decode_ms = ms;
            printf("decode 32 + prompt %d of %d: %.1f ms, a prompt row %.2f ms\n", n_rows, kv_lens[k], ms,
                   n_rows ? (ms - decode_ms) / n_rows : 0.0);
            print_ops(&t);
            free(step.block_table);
        }
    }
    model_close(&m);
}

static void bench_small(const struct backend_options *options) {
    validate(&stories_260k, options);
    struct model m;
    model_open(&m, &stories_260k, options);
    static const int32_t sequences[] = {1, 2, 4, 8, 16};
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        struct bench_step step;
        step_make(&step, sequences[i], 1, 48, m.shape.vocab);
        struct step_times t = step_time(&m, m.program, &step, 2000);
        printf("decode %d: %.1f us, %.0f tokens/s\n", sequences[i], (double)t.total_ns / 1e3,
               sequences[i] * 1e9 / (double)t.total_ns);
        free(step.block_table);
    }
    model_close(&m);
}

static void bench_attention(const struct backend_options *options, const struct backend_peaks *peaks) {
    enum { N_SEQUENCES = 8, KV_LEN = 8192 };
    validate(&attention_shape, options);
    struct bench_shape shape = attention_shape;
    shape.n_blocks = N_SEQUENCES * KV_LEN / BLOCK_TOKENS;
    struct model m;
    model_open(&m, &shape, options);
    struct program *fill = record(&m, BLOCK_TOKENS); // a short window fills the cache quickly
    struct bench_step step;
    for (int32_t done = 0; done < KV_LEN; done += 64) {
        step_make(&step, N_SEQUENCES, 64, done + 64, shape.vocab);
        step_time(&m, fill, &step, 1);
        free(step.block_table);
    }
    for (int32_t kv_len = 1024; kv_len <= KV_LEN; kv_len *= 2) {
        step_make(&step, N_SEQUENCES, 1, kv_len, shape.vocab);
        struct step_times t = step_time(&m, m.program, &step, REPEATS);
        double n_bytes = 2.0 * 2 * N_SEQUENCES * kv_len * shape.n_layers * shape.n_kv_heads * shape.head_dim;
        double rate = n_bytes / ((double)t.op_ns[OP_ATTENTION] * 1e-9);
        printf("decode 8 x %d: attention %.3f ms, %.1f GB/s = %.0f %% of read\n", kv_len,
               (double)t.op_ns[OP_ATTENTION] / 1e6, rate / 1e9, 100 * rate / peaks->read_bytes_per_s);
        free(step.block_table);
    }
    for (int32_t kv_len = 512; kv_len <= KV_LEN; kv_len *= 4) {
        step_make(&step, 1, 512, kv_len, shape.vocab);
        struct step_times t = step_time(&m, m.program, &step, 3);
        double pairs = 512.0 * (kv_len - 512) + 512.0 * 513 / 2;
        double rate =
            4 * pairs * shape.n_layers * shape.n_heads * shape.head_dim / ((double)t.op_ns[OP_ATTENTION] * 1e-9);
        printf("prompt 512 of %d: attention %.2f ms, %.0f GFLOP/s = %.0f %% of f32\n", kv_len,
               (double)t.op_ns[OP_ATTENTION] / 1e6, rate / 1e9, 100 * rate / peaks->f32_flops_per_s);
        free(step.block_table);
    }
    program_close(fill);
    model_close(&m);
}

int main(int argc, char **argv) {
    struct backend_options options = {.device = "cpu", .instruction_set = "auto"};
    bool model = false, mixed = false, small = false, attention = false, any = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-i") && i + 1 < argc)
            options.instruction_set = argv[++i];
        else if (!strcmp(argv[i], "-t") && i + 1 < argc)
            options.n_threads = (int)strtol(argv[++i], NULL, 10);
        else
            any = true, model |= !strcmp(argv[i], "model"), mixed |= !strcmp(argv[i], "mixed"),
            small |= !strcmp(argv[i], "small"), attention |= !strcmp(argv[i], "attention");
    }
    struct backend_peaks peaks = bench_peaks(&options);
    if (small || !any) bench_small(&options);
    if (attention || !any) bench_attention(&options, &peaks);
    if (model || !any) bench_model(&options, &peaks);
    if (mixed || !any) bench_mixed(&options);
    return 0;
}
