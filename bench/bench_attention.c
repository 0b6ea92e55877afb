// Speed of attention on the CPU, alone: decoding, drafts to verify and chunks of a prompt, for every format of the
// cache, beside the limits measured in the same run.
// Usage: bench_attention [-i instruction_set] [-t threads] [-f kv_format] [-d head_dim] [decode] [drafts] [prompt]
// With -t 1 all times are of the processor, so that a busy machine says as much as a quiet one about one core.
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ROWS_MAX = 512,
    SEQUENCES_MAX = 32,
    KV_LEN_MAX = 8192,
    HEADS = 16,
    KV_HEADS = 8,
    REPEATS = 7,
    LAYERS_MAX = 28,
    LAYER_TOKENS = 1 << 17, // positions of all sequences and layers of a step, so that no cache holds them
};

static const struct backend_peaks *peaks;
static clockid_t clock_used = CLOCK_MONOTONIC;

struct machine {
    struct backend *backend;
    struct kv_shape kv;
};

static _Noreturn void fail(const char *text) {
    fprintf(stderr, "bench_attention: %s\n", text);
    exit(1);
}

static void machine_open(struct machine *m, const struct backend_options *options, enum kv_format format,
                         int32_t head_dim) {
    struct err err;
    m->kv = (struct kv_shape){
        LAYERS_MAX, KV_HEADS, head_dim, KV_BLOCK_TOKENS, SEQUENCES_MAX * KV_LEN_MAX / KV_BLOCK_TOKENS, format};
    if (backend_open(&m->backend, options, &err) != 0) fail(err.text);
    if (backend_kv_open(m->backend, &m->kv, &err) != 0) fail(err.text);
}

// Random numbers in the first blocks of the first layers.
static void fill(const struct machine *m, int32_t n_layers, int32_t n_blocks) {
    const struct cpu_backend *backend = (const struct cpu_backend *)m->backend;
    enum { N = 64 * 1024 };
    static float x[N];
    for (uint32_t i = 0; i < N; i++) x[i] = 2 * rng_uniform(rng_key(3, 0, 0), i) - 1;
    size_t at = 0;
    for (int32_t layer = 0; layer < n_layers; layer++) {
        const struct kv_layer kv = cpu_kv_layer(backend, layer);
        for (int32_t i = 0; i < n_blocks * KV_HEADS * KV_BLOCK_TOKENS; i++) {
            const int32_t block = i / (KV_HEADS * KV_BLOCK_TOKENS), head = i / KV_BLOCK_TOKENS % KV_HEADS;
            at = (at + 7919) % (N - 2 * HEAD_DIM_MAX);
            backend->kernels->kv_write(&kv, block, head, i % KV_BLOCK_TOKENS, x + at, x + at + HEAD_DIM_MAX);
        }
    }
}

struct steps {
    struct program *program;
    struct step_input input;
    int32_t token[ROWS_MAX], position[ROWS_MAX], sequence[ROWS_MAX];
    struct step_sequence sequences[SEQUENCES_MAX];
    int32_t *block_table;
};

// Steps of n_sequences sequences of kv_len tokens, the last n_rows of each computed.
static void steps_open(struct steps *s, const struct machine *m, int32_t n_layers, int32_t n_sequences, int32_t n_rows,
                       int32_t kv_len) {
    const int32_t n_blocks = (kv_len + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    *s = (struct steps){.block_table = mem_alloc((size_t)n_sequences * (size_t)n_blocks * sizeof *s->block_table)};
    struct program_shape shape = {.rows_max = ROWS_MAX,
                                  .sequences_max = SEQUENCES_MAX,
                                  .logit_rows_max = 1,
                                  .hidden = 1,
                                  .q_width = HEADS * m->kv.head_dim,
                                  .kv_width = KV_HEADS * m->kv.head_dim,
                                  .vocab = 1};
    if (program_open(&s->program, m->backend, &shape, NULL) != 0) fail("no program");
    for (int32_t i = 0; i < n_layers; i++)
        program_add(s->program, &(struct op){.kind = OP_ATTENTION,
                                             .attention = {.layer = i,
                                                           .n_heads = HEADS,
                                                           .n_kv_heads = KV_HEADS,
                                                           .head_dim = m->kv.head_dim,
                                                           .scale = 1 / sqrtf((float)m->kv.head_dim)}});
    if (program_prepare(s->program, NULL) != 0) fail("no program");
    float *query = ((struct cpu_program *)s->program)->query;
    for (int32_t i = 0; i < ROWS_MAX * HEADS * m->kv.head_dim; i++)
        query[i] = 4 * rng_uniform(rng_key(5, 0, 0), (uint64_t)i) - 2;
    s->input = (struct step_input){.n_rows = n_rows * n_sequences,
                                   .n_sequences = n_sequences,
                                   .n_block_table = n_sequences * n_blocks,
                                   .token = s->token,
                                   .position = s->position,
                                   .sequence = s->sequence,
                                   .sequences = s->sequences,
                                   .block_table = s->block_table};
    for (int32_t q = 0; q < n_sequences; q++) {
        s->sequences[q] = (struct step_sequence){q * n_rows, n_rows, kv_len, q * n_blocks};
        for (int32_t b = 0; b < n_blocks; b++) s->block_table[q * n_blocks + b] = b * n_sequences + q;
        for (int32_t r = 0; r < n_rows; r++) {
            s->position[q * n_rows + r] = kv_len - n_rows + r;
            s->sequence[q * n_rows + r] = q;
        }
    }
}

static void steps_close(struct steps *s) {
    program_close(s->program);
    free(s->block_table);
}

static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Seconds of the quickest of some steps: what the machine does when nobody disturbs it.
static double steps_run(struct steps *s, const struct machine *m, int repeats) {
    double best = INFINITY;
    for (int i = 0; i < repeats; i++) {
        struct step_times times;
        struct sample_result none;
        const double begin = now();
        backend_submit(m->backend, s->program, &s->input);
        if (backend_collect(m->backend, &none, &times, NULL) != 0) fail("a step fails");
        best = fmin(best, now() - begin);
    }
    return best;
}

static void measure(const struct machine *m, const char *what, int32_t n_sequences, int32_t n_rows, int32_t kv_len) {
    int32_t n_layers = LAYER_TOKENS / (n_sequences * kv_len);
    n_layers = n_layers < 1 ? 1 : n_layers > LAYERS_MAX ? LAYERS_MAX : n_layers;
    if (n_rows > 16) n_layers = 1;
    struct steps s;
    steps_open(&s, m, n_layers, n_sequences, n_rows, kv_len);
    fill(m, n_layers, s.input.n_block_table);
    const double seconds = steps_run(&s, m, REPEATS) / n_layers;
    const double n_bytes = (double)kv_bytes_per_block(&m->kv) / LAYERS_MAX * s.input.n_block_table;
    const double pairs = (double)n_sequences * n_rows * (kv_len - 0.5 * (n_rows - 1));
    const double flops = 4 * pairs * HEADS * m->kv.head_dim;
    printf("%-5s %3d %-7s %2d x %3d of %4d: %9.1f us, %6.1f GB/s = %4.0f %% of read, %6.0f GFLOP/s = %4.0f %% of f32\n",
           kv_format_name(m->kv.format), m->kv.head_dim, what, n_sequences, n_rows, kv_len, seconds * 1e6,
           n_bytes / seconds / 1e9, 100 * n_bytes / seconds / peaks->read_bytes_per_s, flops / seconds / 1e9,
           100 * flops / seconds / peaks->f32_flops_per_s);
    fflush(stdout);
    steps_close(&s);
}

// What attention gives agrees with plain C.
static void validate(const struct backend_options *options, enum kv_format format, int32_t head_dim) {
    struct backend_options plain_options = *options;
    plain_options.instruction_set = "ref";
    const struct backend_options *all[] = {options, &plain_options};
    struct machine machines[2];
    struct steps steps[2];
    const float *out[2];
    for (int i = 0; i < 2; i++) {
        machine_open(&machines[i], all[i], format, head_dim);
        steps_open(&steps[i], &machines[i], 1, 3, 5, 200);
        fill(&machines[i], 1, steps[i].input.n_block_table);
        steps_run(&steps[i], &machines[i], 1);
        out[i] = ((const struct cpu_program *)steps[i].program)->attention;
    }
    for (int32_t i = 0; i < 15 * HEADS * head_dim; i++)
        if (!(fabsf(out[0][i] - out[1][i]) < 1e-4f)) fail("attention is wrong");
    for (int i = 0; i < 2; i++) {
        steps_close(&steps[i]);
        backend_close(machines[i].backend);
    }
}

static void bench(const struct backend_options *options, enum kv_format format, int32_t head_dim, const bool *parts) {
    validate(options, format, head_dim);
    static const int32_t sequences[] = {1, 8, 32}, lengths[] = {128, 512, 2048, 8192}, rows[] = {1, 2, 4, 8};
    struct machine m;
    machine_open(&m, options, format, head_dim);
    for (size_t s = 0; parts[0] && s < sizeof sequences / sizeof *sequences; s++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
            measure(&m, "decode", sequences[s], 1, lengths[k]);
    for (size_t s = 0; parts[1] && s < 2; s++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) measure(&m, "drafts", sequences[s], rows[r], 2048);
    for (size_t k = 1; parts[2] && k < sizeof lengths / sizeof *lengths; k++) measure(&m, "prompt", 1, 512, lengths[k]);
    backend_close(m.backend);
}

// The peaks of one core in its own time.
static void measure_core(const struct kernel_table *k, struct backend_peaks *out) {
    enum { N_BYTES = 256 << 20, ROUNDS = 200000 };
    double (*const rates[])(int32_t) = {k->peak_f32, k->peak_bf16, k->peak_int8};
    double *const to[] = {&out->f32_flops_per_s, &out->bf16_flops_per_s, &out->int8_ops_per_s};
    char *data = aligned_alloc(4096, N_BYTES);
    if (!data) fail("no memory");
    memset(data, 1, N_BYTES);
    *out = (struct backend_peaks){0};
    for (int i = 0; i < 5; i++) {
        double begin = now();
        k->peak_read(data, N_BYTES);
        out->read_bytes_per_s = fmax(out->read_bytes_per_s, N_BYTES / (now() - begin));
        for (int r = 0; r < 3; r++) {
            begin = now();
            const double n = rates[r](ROUNDS);
            *to[r] = fmax(*to[r], n / (now() - begin));
        }
    }
    free(data);
}

static void print_peaks(const struct backend_options *options, struct backend_peaks *out) {
    struct backend *backend;
    struct err err;
    if (backend_open(&backend, options, &err) != 0) fail(err.text);
    if (options->n_threads == 1)
        measure_core(((const struct cpu_backend *)backend)->kernels, out);
    else
        backend_measure_peaks(backend, out);
    printf("%s: read %.1f GB/s, f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n", backend_description(backend),
           out->read_bytes_per_s / 1e9, out->f32_flops_per_s / 1e9, out->bf16_flops_per_s / 1e9,
           out->int8_ops_per_s / 1e9);
    backend_close(backend);
}

int main(int argc, char **argv) {
    struct backend_options options = {.device = "cpu", .instruction_set = "auto"};
    static const char *const names[] = {"decode", "drafts", "prompt"};
    const char *wanted = NULL;
    int32_t head_dim = 0;
    bool parts[3] = {false}, any = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-i") && i + 1 < argc)
            options.instruction_set = argv[++i];
        else if (!strcmp(argv[i], "-t") && i + 1 < argc)
            options.n_threads = (int)strtol(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "-f") && i + 1 < argc)
            wanted = argv[++i];
        else if (!strcmp(argv[i], "-d") && i + 1 < argc)
            head_dim = (int32_t)strtol(argv[++i], NULL, 10);
        for (int p = 0; p < 3; p++)
            if (!strcmp(argv[i], names[p])) any = parts[p] = true;
    }
    for (int p = 0; p < 3; p++) parts[p] |= !any;
    if (options.n_threads == 1) clock_used = CLOCK_PROCESS_CPUTIME_ID;
    struct backend_peaks measured, after;
    print_peaks(&options, &measured);
    peaks = &measured;
    static const int32_t head_dims[] = {128, 64};
    for (size_t d = 0; d < 2; d++)
        for (int f = KV_F32; f <= KV_INT8; f++)
            if ((!wanted || !strcmp(wanted, kv_format_name((enum kv_format)f))) &&
                (!head_dim || head_dim == head_dims[d]))
                bench(&options, (enum kv_format)f, head_dims[d], parts);
    print_peaks(&options, &after);
    return 0;
}
