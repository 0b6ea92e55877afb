// optima bench-model: how fast a model reads prompts and writes tokens on a device, without HTTP, beside what the
// device's measured peaks allow.
#include "cli/commands.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/option.h"
#include "base/rng.h"
#include "base/str.h"
#include "cli/command_line.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "engine/step_cost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCHES_MAX = 16, WARM_STEPS = 3 };

struct bench_options {
    const char *batches, *device, *weights, *kv_format, *random_weights, *instruction_set;
    int64_t prompt, new_tokens, rows, threads, random_seed;
    bool deterministic, json;
};

#define FIELD(field) offsetof(struct bench_options, field)
static const struct option_row rows[] = {
    {"p", OPTION_INT, FIELD(prompt), "N", NULL, 1, 1 << 24, false, "tokens of each prompt (512)"},
    {"n", OPTION_INT, FIELD(new_tokens), "N", NULL, 1, 1 << 24, false, "tokens to write after each prompt (128)"},
    {"b", OPTION_TEXT, FIELD(batches), "LIST", NULL, 0, 0, false, "sequences at once, one line for each (1,8,32)"},
    {"device", OPTION_TEXT, FIELD(device), "DEVICE", NULL, 0, 0, false,
     "auto (cuda, else cpu), cpu, cuda, cuda:N or the path of a plugin (auto)"},
    {"weights", OPTION_CHOICE, FIELD(weights), NULL, "auto|bf16|fp8|int8|int4", 0, 0, false,
     "precision of the weights (auto: as the model has them); beside int8 and int4 the head is int8"},
    {"kv-format", OPTION_CHOICE, FIELD(kv_format), NULL, "auto|f32|bf16|int8|fp8", 0, 0, false,
     "precision of the KV cache (auto: f32 below 100 M parameters, bf16 above)"},
    {"rows", OPTION_INT, FIELD(rows), "N", NULL, 1, 65536, true,
     "most token positions computed in one step (512; 2048 on a GPU)"},
    {"deterministic", OPTION_FLAG, FIELD(deterministic), NULL, NULL, 0, 0, false,
     "the same bits at any load on a GPU too"},
    {"threads", OPTION_INT, FIELD(threads), "N", NULL, 1, 1024, true, "compute threads (one a physical core)"},
    {"instruction-set", OPTION_CHOICE, FIELD(instruction_set), NULL, "auto|ref|avx2|avx512|amx", 0, 0, false,
     "kernels to use (auto: the best that the processor has)"},
    {"random-weights", OPTION_TEXT, FIELD(random_weights), "CONFIG", NULL, 0, 0, false,
     "measure random weights in the shape of this config.json"},
    {"random-seed", OPTION_INT, FIELD(random_seed), "N", NULL, 0, 9e15, false, "seed of the random weights (0)"},
    {"json", OPTION_FLAG, FIELD(json), NULL, NULL, 0, 0, false, "print one JSON object instead of a table"},
};

static const struct option_table table = {
    .usage = "optima bench-model [MODEL] [options]",
    .summary = "Measures MODEL (a Hugging Face folder or a GGUF file; the embedded demo model when it is left out):\n"
               "the rate of prompts and of new tokens, each beside its limit by this device's measured peaks.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

// One phase of one batch: all its prompts, or all its new tokens.
struct phase {
    int64_t n_tokens, n_steps;
    double seconds, host_seconds; // host: filling inputs and submitting
    double least_seconds;         // by the peaks; 0: they were not measured
    double bytes, flops;          // read and computed, as engine/step_cost.h counts
};

struct bench {
    const struct bench_options *options;
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    enum weight_format weights;
    struct backend_peaks peaks;
    double peak_flops_per_s; // of these weights
    int batches[BATCHES_MAX];
    int n_batches;
};

static int read_batches(struct bench *bench, const char *list, struct err *err) {
    for (const char *p = list;; p++) {
        char *end;
        long n = strtol(p, &end, 10);
        if (end == p || n < 1 || n > 65536 || (*end && *end != ',') || bench->n_batches == BATCHES_MAX)
            return err_set(err, ERR_INVALID, "-b: \"%s\" is no list of up to %d numbers", list, BATCHES_MAX);
        bench->batches[bench->n_batches++] = (int)n;
        if (!*end) return 0;
        p = end;
    }
}

// ------------------------------------------------------------------------------------------------------------- steps

static int32_t blocks_per_sequence(const struct bench *bench) {
    const struct engine_limits *limits = engine_limits(bench->engine);
    return (limits->context + limits->block_tokens - 1) / limits->block_tokens;
}

// Appends rows of one sequence; its last row has logits when it is to draw.
static void add_rows(const struct bench *bench, struct step_input *input, int32_t sequence, int32_t position,
                     int32_t n_rows, bool draws) {
    const struct engine_limits *limits = engine_limits(bench->engine);
    struct step_sequence *s = &input->sequences[input->n_sequences];
    *s = (struct step_sequence){input->n_rows, n_rows, position + n_rows, input->n_block_table};
    for (int32_t b = 0; b * limits->block_tokens < s->kv_len; b++)
        input->block_table[input->n_block_table++] = sequence * blocks_per_sequence(bench) + b;
    for (int32_t i = 0; i < n_rows; i++) {
        uint64_t at = (uint64_t)sequence << 32 | (uint64_t)(position + i);
        input->token[input->n_rows] = (int32_t)(rng_u32(rng_key(1, 2, 3), at) % (uint32_t)limits->vocab);
        input->position[input->n_rows] = position + i;
        input->sequence[input->n_rows++] = input->n_sequences;
    }
    input->n_sequences++;
    if (!draws) return;
    input->logit_row[input->n_logit_rows] = input->n_rows - 1;
    input->sample[input->n_logit_rows++] = (struct sample_params){
        .top_p = 1, .repetition_penalty = 1, .n_top_logprobs = -1, .forced_token = -1, .position = position + n_rows};
}

static int collect(struct bench *bench, struct err *err) {
    const struct sample_result *results;
    struct step_record record;
    return engine_collect(bench->engine, &results, &record, err);
}

static int collect_all(struct bench *bench, struct err *err) {
    int rc = 0;
    while (!rc && engine_n_in_flight(bench->engine) > 0) rc = collect(bench, err);
    return rc;
}

// Submits the filled input, after which there is room for another.
static int submit(struct bench *bench, struct phase *phase, const struct step_input *input, uint64_t filling_ns,
                  struct err *err) {
    struct step_record record = {0};
    step_cost_count(&record, engine_cost(bench->engine), input);
    phase->least_seconds += step_cost_least_s(&record, bench->peaks.read_bytes_per_s, bench->peak_flops_per_s);
    phase->bytes += record.weight_bytes + record.head_bytes + record.kv_bytes;
    phase->flops += record.linear_flops + record.attention_flops + record.head_flops;
    phase->n_tokens += input->n_rows;
    phase->n_steps++;
    uint64_t start_ns = clock_now_ns();
    engine_submit(bench->engine);
    phase->host_seconds += (double)(filling_ns + clock_now_ns() - start_ns) * 1e-9;
    return engine_n_in_flight(bench->engine) == engine_limits(bench->engine)->steps_in_flight ? collect(bench, err) : 0;
}

// Prompts one after another, in steps as large as they may be.
static int run_prompts(struct bench *bench, int batch, int32_t n_tokens, struct phase *phase, struct err *err) {
    const struct engine_limits *limits = engine_limits(bench->engine);
    int32_t sequence = 0, done = 0;
    int rc = 0;
    uint64_t start_ns = clock_now_ns();
    while (!rc && sequence < batch) {
        struct step_input *input = engine_next_input(bench->engine);
        uint64_t fill_ns = clock_now_ns();
        while (sequence < batch && input->n_rows < limits->rows_max && input->n_sequences < limits->sequences_max) {
            int32_t room = limits->rows_max - input->n_rows, left = n_tokens - done;
            int32_t n = left < room ? left : room;
            add_rows(bench, input, sequence, done, n, n == left);
            done += n;
            if (done == n_tokens) sequence++, done = 0;
        }
        rc = submit(bench, phase, input, clock_now_ns() - fill_ns, err);
    }
    if (!rc) rc = collect_all(bench, err);
    phase->seconds += (double)(clock_now_ns() - start_ns) * 1e-9;
    return rc;
}

// Every sequence takes the token that the step before drew, which the host need not have seen.
static int run_decode(struct bench *bench, int batch, int32_t first, int32_t n_tokens, struct phase *phase,
                      struct err *err) {
    int rc = 0;
    uint64_t start_ns = clock_now_ns();
    for (int32_t i = 0; !rc && i < n_tokens; i++) {
        struct step_input *input = engine_next_input(bench->engine);
        uint64_t fill_ns = clock_now_ns();
        for (int32_t s = 0; s < batch; s++) {
            add_rows(bench, input, s, first + i, 1, true);
            if (i > 0) input->token[s] = STEP_TOKEN_REF(s);
        }
        rc = submit(bench, phase, input, clock_now_ns() - fill_ns, err);
    }
    if (!rc) rc = collect_all(bench, err);
    phase->seconds += (double)(clock_now_ns() - start_ns) * 1e-9;
    return rc;
}

static int run_batch(struct bench *bench, int batch, struct phase *prompts, struct phase *decode, struct err *err) {
    int32_t n_prompt = (int32_t)bench->options->prompt, n_new = (int32_t)bench->options->new_tokens;
    struct phase warm = {0};
    // Kernels are loaded and steps captured before the clock runs.
    int rc = 0;
    for (int i = 0; !rc && i < WARM_STEPS; i++) {
        int32_t rows_max = engine_limits(bench->engine)->rows_max;
        rc = run_prompts(bench, (int64_t)n_prompt * batch > rows_max ? (rows_max + n_prompt - 1) / n_prompt : batch,
                         n_prompt, &warm, err);
    }
    if (!rc) rc = run_decode(bench, batch, n_prompt, n_new < WARM_STEPS ? n_new : WARM_STEPS, &warm, err);
    if (!rc) rc = run_prompts(bench, batch, n_prompt, prompts, err);
    return rc ? rc : run_decode(bench, batch, n_prompt, n_new, decode, err);
}

// ------------------------------------------------------------------------------------------------------------- output

static double rate(double n, double seconds) {
    return seconds > 0 ? n / seconds : 0;
}

// A number, or `unknown` where the peaks that it needs were not measured.
static const char *number_or(char text[32], const char *unknown, int n_decimals, double number) {
    snprintf(text, 32, "%.*f", n_decimals, number);
    return number > 0 ? text : unknown;
}

static void print_head(const struct bench *bench) {
    const struct backend_peaks *peaks = &bench->peaks;
    printf("model    %s (%s, %.1f M parameters), weights %s, KV cache %s\n", bench->model->name,
           bench->model->spec.family, (double)bench->model->spec.n_parameters / 1e6, weight_format_name(bench->weights),
           kv_format_name(engine_kv(bench->engine)->format));
    printf("device   %s\n", backend_description(bench->backend));
    printf("peaks    %.1f GB/s read, %.1f GFLOP/s f32, %.1f GFLOP/s bf16 (measured; limits are modelled from them)\n",
           peaks->read_bytes_per_s / 1e9, peaks->f32_flops_per_s / 1e9, peaks->bf16_flops_per_s / 1e9);
    printf("prompts of %lld tokens, then %lld new tokens each\n\n", (long long)bench->options->prompt,
           (long long)bench->options->new_tokens);
    printf("%5s  %12s %12s %6s  %12s %12s %6s  %9s %11s\n", "batch", "prompt tok/s", "limit", "%", "new tok/s", "limit",
           "%", "ms a step", "host us");
}

static void print_phase(const struct phase *phase) {
    char limit[32], percent[32];
    printf("  %12.1f %12s %6s", rate((double)phase->n_tokens, phase->seconds),
           number_or(limit, "-", 1, rate((double)phase->n_tokens, phase->least_seconds)),
           number_or(percent, "-", 1, 100 * rate(phase->least_seconds, phase->seconds)));
}

static void print_row(int batch, const struct phase *prompts, const struct phase *decode) {
    printf("%5d", batch);
    print_phase(prompts);
    print_phase(decode);
    printf("  %9.3f %11.1f\n", 1e3 * rate(decode->seconds, (double)decode->n_steps),
           1e6 * rate(decode->host_seconds, (double)decode->n_steps));
    fflush(stdout);
}

static void append_phase(struct str *out, const char *name, const struct phase *phase) {
    char limit[32];
    str_printf(out,
               "\"%s\": {\"tokens\": %lld, \"steps\": %lld, \"seconds\": %.9g, \"tokens_per_s\": %.9g, "
               "\"limit_tokens_per_s\": %s, \"bytes\": %.9g, \"flops\": %.9g, \"host_us_per_step\": %.6g}",
               name, (long long)phase->n_tokens, (long long)phase->n_steps, phase->seconds,
               rate((double)phase->n_tokens, phase->seconds),
               number_or(limit, "null", 3, rate((double)phase->n_tokens, phase->least_seconds)), phase->bytes,
               phase->flops, 1e6 * rate(phase->host_seconds, (double)phase->n_steps));
}

static void append_head(struct str *out, const struct bench *bench) {
    str_append_text(out, "{\"model\": ");
    json_append_string(out, bench->model->name, strlen(bench->model->name));
    str_append_text(out, ", \"device\": ");
    json_append_string(out, backend_description(bench->backend), strlen(backend_description(bench->backend)));
    str_printf(out,
               ", \"weights\": \"%s\", \"kv_format\": \"%s\", \"peaks_measured\": {\"read_bytes_per_s\": %.9g, "
               "\"f32_flops_per_s\": %.9g, \"bf16_flops_per_s\": %.9g}, \"results\": [",
               weight_format_name(bench->weights), kv_format_name(engine_kv(bench->engine)->format),
               bench->peaks.read_bytes_per_s, bench->peaks.f32_flops_per_s, bench->peaks.bf16_flops_per_s);
}

static int run(struct bench *bench, struct err *err) {
    struct str json = STR_INIT;
    bool as_json = bench->options->json;
    if (as_json)
        append_head(&json, bench);
    else
        print_head(bench);
    int rc = 0;
    for (int i = 0; !rc && i < bench->n_batches; i++) {
        struct phase prompts = {0}, decode = {0};
        rc = run_batch(bench, bench->batches[i], &prompts, &decode, err);
        if (!rc && !as_json) print_row(bench->batches[i], &prompts, &decode);
        str_printf(&json, "%s{\"batch\": %d, ", i ? ", " : "", bench->batches[i]);
        append_phase(&json, "prompt", &prompts);
        str_append_text(&json, ", ");
        append_phase(&json, "decode", &decode);
        str_append_text(&json, "}");
    }
    str_append_text(&json, "]}");
    if (!rc && as_json) puts(str_text(&json));
    str_close(&json);
    return rc;
}

static int open_engine(struct bench *bench, const char *path, struct err *err) {
    const struct bench_options *o = bench->options;
    int batch_max = 1;
    for (int i = 0; i < bench->n_batches; i++)
        if (bench->batches[i] > batch_max) batch_max = bench->batches[i];
    struct model_options model = {
        .path = path, .random_weights_path = o->random_weights, .random_seed = (uint64_t)o->random_seed};
    struct backend_options backend = {.device = o->device,
                                      .instruction_set = o->instruction_set,
                                      .n_threads = (int)o->threads,
                                      .deterministic = o->deterministic};
    int32_t context = (int32_t)(o->prompt + o->new_tokens);
    struct engine_options engine = {.context = context,
                                    .rows_max = (int32_t)o->rows,
                                    .sequences_max = batch_max,
                                    .kv_format = o->kv_format,
                                    .weights = o->weights};
    int rc = model_open(&bench->model, &model, err);
    if (!rc) rc = backend_open(&bench->backend, &backend, err);
    if (rc) return rc;
    backend_measure_peaks(bench->backend, &bench->peaks);
    rc = memory_plan_weight_format(&bench->weights, o->weights, err);
    if (!rc) bench->peak_flops_per_s = step_cost_peak_flops(&bench->model->spec, bench->weights, &bench->peaks);
    if (!rc) rc = engine_open(&bench->engine, bench->model, bench->backend, &engine, err);
    if (rc) return rc;
    const struct engine_limits *limits = engine_limits(bench->engine);
    if (limits->rows_max < batch_max)
        return err_set(err, ERR_INVALID, "--rows: %d sequences need as many rows", batch_max);
    if (limits->context < context || (int64_t)blocks_per_sequence(bench) * batch_max > limits->n_blocks)
        return err_set(err, ERR_LIMIT, "the KV cache has room for %d tokens, %d sequences of %d were asked for",
                       limits->n_blocks * limits->block_tokens, batch_max, context);
    while (engine_touch_kv(bench->engine, blocks_per_sequence(bench) * batch_max)) continue; // as an idle server does
    return 0;
}

int bench_model_main(int argc, char **argv) {
    struct bench_options options = {.batches = "1,8,32",
                                    .device = "auto",
                                    .weights = "auto",
                                    .kv_format = "auto",
                                    .instruction_set = "auto",
                                    .prompt = 512,
                                    .new_tokens = 128};
    struct option_result result;
    int status;
    if (!command_line_read("bench-model", &table, argc, argv, &options, &result, &status)) return status;
    struct bench bench = {.options = &options};
    struct err err = {0};
    int rc = read_batches(&bench, options.batches, &err);
    if (!rc) rc = open_engine(&bench, result.n_positional ? result.positional[0] : NULL, &err);
    if (!rc) rc = run(&bench, &err);
    engine_close(bench.engine);
    backend_close(bench.backend);
    model_close(bench.model);
    return command_line_end("bench-model", rc, &err);
}
