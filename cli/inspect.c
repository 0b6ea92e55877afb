// optima inspect: what a model is, what it needs, and what this machine can do.
#include "cli/commands.h"

#include "base/option.h"
#include "cli/command_line.h"
#include "engine/memory_plan.h"
#include "models/model.h"
#include "models/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct inspect_options {
    const char *random_weights;
    int64_t context;
    bool tensors, hardware;
    const char *kv_format, *weights, *device;
};

static const struct option_row rows[] = {
    {.name = "tensors",
     .kind = OPTION_FLAG,
     .offset = offsetof(struct inspect_options, tensors),
     .help = "list every tensor of the files"},
    {.name = "context",
     .kind = OPTION_INT,
     .offset = offsetof(struct inspect_options, context),
     .value = "N",
     .min = 1,
     .max = 1 << 27,
     .help = "plan memory for sequences of N tokens; default: the model's context"},
    {.name = "kv-format",
     .kind = OPTION_CHOICE,
     .offset = offsetof(struct inspect_options, kv_format),
     .choices = "auto|f32|bf16|int8|fp8",
     .help = "format of the KV cache; default: auto"},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .offset = offsetof(struct inspect_options, weights),
     .choices = "auto|bf16|fp8|int8|int4",
     .help = "plan memory for the layers' weights in this format; default: as the model has them"},
    {.name = "device",
     .kind = OPTION_TEXT,
     .offset = offsetof(struct inspect_options, device),
     .value = "DEVICE",
     .help = "plan for, and measure, this device: auto (cuda, else cpu), cpu, cuda, cuda:N or the path of a\n"
             "plugin; default: auto"},
    {.name = "random-weights",
     .kind = OPTION_TEXT,
     .offset = offsetof(struct inspect_options, random_weights),
     .value = "CONFIG.json",
     .help = "describe the shape of a config.json instead of a model"},
    {.name = "hardware",
     .kind = OPTION_FLAG,
     .offset = offsetof(struct inspect_options, hardware),
     .help = "measure the device's peaks (takes some seconds)"},
};

static const struct option_table table = {
    .usage = "optima inspect [MODEL] [options]",
    .summary = "Describes a model (a Hugging Face folder or a .gguf file; the embedded demo when none is given): its "
               "shape, its tensors,\nwhat it needs in memory and what fits. Weights are checked, not read.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

static double mib(uint64_t n_bytes) {
    return (double)n_bytes / 0x1p20;
}

static void print_architecture(const struct model *model) {
    const struct model_spec *s = &model->spec;
    printf("model         %s (%s, %s)\n", model->name, model->source_format, model->path);
    printf("architecture  %s: %d layers, width %d, %d heads of %d on %d key-value heads", s->family, s->n_layers,
           s->hidden, s->n_heads, s->head_dim, s->n_kv_heads);
    if (s->mlp_width) printf(", feed-forward %d", s->mlp_width);
    printf("\n");
    if (s->n_experts) {
        int32_t n_sparse = 0;
        for (int32_t i = 0; i < s->n_layers; i++) n_sparse += s->layers[i].experts != NULL;
        printf("experts       %d of width %d in %d of %d layers, %d a token%s\n", s->n_experts, s->expert_width,
               n_sparse, s->n_layers, s->n_hit, s->is_renormalised ? ", weights normalised again" : "");
    }
    printf("vocabulary    %d, %s head\n", s->vocab, s->tied ? "tied" : "untied");
    printf("context       %d tokens\n", s->context_max);
    int32_t n_windows = 0, window = 0;
    for (int32_t i = 0; i < s->n_layers; i++)
        if (s->layers[i].window) n_windows++, window = s->layers[i].window;
    if (n_windows) printf("window        %d tokens in %d of %d layers\n", window, n_windows, s->n_layers);
    printf("parameters    %.2f M, %.1f MiB in memory\n", (double)s->n_parameters / 1e6, mib(s->weight_bytes));
    printf("end of text  ");
    for (int32_t i = 0; i < model->n_stop_tokens; i++) printf(" %d", model->stop_tokens[i]);
    printf("%s\n", model->n_stop_tokens ? "" : " no token");
    if (model->tokenizer)
        printf("tokenizer     %d ids, chat template: %s\n", tokenizer_vocab(model->tokenizer),
               model->chat_template ? "yes" : "none");
}

static void print_shape(const char *name, const struct tensor *tensor, const char *format) {
    if (tensor_present(tensor)) printf("  %-12s [%d, %d] %s\n", name, tensor->n_rows, tensor->n_cols, format);
}

// The matrix of the first layer that has it, with its format in all layers.
static void print_layers_shape(const char *name, const struct model_spec *spec, size_t offset) {
    const struct tensor *first = NULL;
    const char *format = "";
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct tensor *tensor = (const void *)((const char *)&spec->layers[i] + offset);
        if (!tensor_present(tensor)) continue;
        if (!first)
            first = tensor, format = tensor_format_name(tensor->format);
        else if (tensor->format != first->format)
            format = "mixed";
    }
    if (first) print_shape(name, first, format);
}

static void print_shapes(const struct model_spec *spec) {
    static const struct {
        const char *name;
        size_t offset;
    } matrices[] = {
        {"q", offsetof(struct layer_spec, wq)},      {"k", offsetof(struct layer_spec, wk)},
        {"v", offsetof(struct layer_spec, wv)},      {"o", offsetof(struct layer_spec, wo)},
        {"gate", offsetof(struct layer_spec, gate)}, {"up", offsetof(struct layer_spec, up)},
        {"down", offsetof(struct layer_spec, down)}, {"router", offsetof(struct layer_spec, router)},
    };
    printf("\nmatrices\n");
    print_shape("embedding", &spec->embed, tensor_format_name(spec->embed.format));
    for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++)
        print_layers_shape(matrices[m].name, spec, matrices[m].offset);
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct expert *expert = spec->layers[i].experts;
        if (!expert) continue;
        print_shape("expert gate", &expert->gate, tensor_format_name(expert->gate.format));
        print_shape("expert up", &expert->up, tensor_format_name(expert->up.format));
        print_shape("expert down", &expert->down, tensor_format_name(expert->down.format));
        break;
    }
    if (!spec->tied) print_shape("head", &spec->head, tensor_format_name(spec->head.format));
}

static void print_tensors(const struct model *model) {
    size_t n = 0;
    const struct stored_tensor *tensors = model_stored_tensors(model, &n);
    printf("\ntensors (%zu)\n", n);
    for (size_t i = 0; i < n; i++) {
        printf("  %-48s %-5s [", tensors[i].name, tensors[i].format_name);
        for (int d = 0; d < tensors[i].n_dims; d++) printf("%s%" PRId64, d ? ", " : "", tensors[i].shape[d]);
        printf("] %zu bytes\n", tensors[i].n_bytes);
    }
}

static int print_memory(const struct model *model, const struct backend *backend, const struct inspect_options *options,
                        struct err *err) {
    const struct model_spec *spec = &model->spec;
    struct memory_plan plan;
    struct engine_options wanted = {.context = (int32_t)options->context, .kv_format = options->kv_format};
    enum weight_format format;
    int rc = memory_plan_weight_format(&format, options->weights, err);
    if (rc) return rc;
    uint64_t available = backend_memory_available(backend), weights = memory_plan_weight_bytes(backend, spec, format);
    uint64_t free_bytes = available > weights ? available - weights : 0;
    printf("\nmemory\n  available    %.0f MiB\n  weights      %.1f MiB", mib(available), mib(weights));
    printf(format == WEIGHT_AS_IS ? "\n" : " (%s)\n", weight_format_name(format));
    uint64_t kv_budget = memory_plan_kv_budget(backend, free_bytes);
    rc = memory_plan_make(&plan, spec, spec->vocab, &wanted, kv_budget, err);
    if (rc == ERR_LIMIT) {
        printf("  fits         no: %s\n", err->text);
        return 0;
    }
    if (rc) return rc;
    uint64_t per_token = kv_bytes_per_block(&plan.kv) / (uint64_t)plan.kv.block_tokens;
    int32_t context = wanted.context ? wanted.context : spec->context_max;
    uint64_t per_sequence = per_token * (uint64_t)context;
    printf("  KV cache     %" PRIu64 " bytes a token (%s), %.1f MiB for a sequence of %d tokens\n", per_token,
           kv_format_name(plan.kv.format), mib(per_sequence), context);
    printf("  planned      %d blocks of %d tokens, %.1f MiB, up to %d sequences at once\n", plan.kv.n_blocks,
           plan.kv.block_tokens, mib(kv_bytes_per_block(&plan.kv) * (uint64_t)plan.kv.n_blocks),
           plan.limits.sequences_max);
    printf("  fits         %.0f sequences of %d tokens in %.0f%% of what the weights leave\n",
           floor((double)kv_budget / (double)per_sequence), context, backend_holds_weights(backend) ? 80.0 : 50.0);
    return 0;
}

static uint64_t passed_over_bytes(const struct model_spec *spec) {
    uint64_t n_bytes = 0, n = (uint64_t)(spec->n_experts - spec->n_hit);
    for (int32_t i = 0; i < spec->n_layers; i++) {
        const struct expert *expert = spec->layers[i].experts;
        if (expert)
            n_bytes += n * (tensor_bytes(&expert->gate) + tensor_bytes(&expert->up) + tensor_bytes(&expert->down));
    }
    return n_bytes;
}

static void print_hardware(const struct model *model, struct backend *backend) {
    struct backend_peaks peaks;
    backend_measure_peaks(backend, &peaks);
    printf("\nhardware (measured)\n  device       %s\n  memory       %.1f GB/s read\n  f32          %.1f GFLOP/s\n",
           backend_description(backend), peaks.read_bytes_per_s / 1e9, peaks.f32_flops_per_s / 1e9);
    if (peaks.bf16_flops_per_s > 0) printf("  bf16         %.1f GFLOP/s\n", peaks.bf16_flops_per_s / 1e9);
    if (peaks.int8_ops_per_s > 0) printf("  int8         %.1f GOP/s\n", peaks.int8_ops_per_s / 1e9);
    if (model) {
        const struct model_spec *spec = &model->spec;
        // Of an embedding table that is not the head, a token reads one row; of experts, those it hits.
        uint64_t read = spec->weight_bytes - (spec->tied ? 0 : tensor_bytes(&spec->embed)) - passed_over_bytes(spec);
        printf("  one stream   at most %.1f tokens/s (modelled: each token reads %.1f MiB of weights)\n",
               peaks.read_bytes_per_s / (double)read, mib(read));
    }
}

static int inspect(const struct inspect_options *options, const char *path, struct backend *backend, struct err *err) {
    struct model *model = NULL;
    struct model_options model_options = {.path = path, .random_weights_path = options->random_weights};
    int rc = model_open(&model, &model_options, err);
    if (rc) return rc;
    print_architecture(model);
    print_shapes(&model->spec);
    if (options->tensors) print_tensors(model);
    rc = print_memory(model, backend, options, err);
    if (!rc && options->hardware) print_hardware(model, backend);
    model_close(model);
    return rc;
}

int inspect_main(int argc, char **argv) {
    struct inspect_options options = {.kv_format = "auto", .weights = "auto", .device = "auto"};
    struct option_result result;
    int status;
    if (!command_line_read("inspect", &table, argc, argv, &options, &result, &status)) return status;
    const char *path = result.n_positional ? result.positional[0] : NULL;
    bool hardware_alone = options.hardware && !path && !options.random_weights;
    struct err err = {0};
    struct backend *backend = NULL;
    struct backend_options backend_options = {.device = options.device, .instruction_set = "auto"};
    int rc = backend_open(&backend, &backend_options, &err);
    if (!rc && hardware_alone)
        print_hardware(NULL, backend);
    else if (!rc)
        rc = inspect(&options, path, backend, &err);
    backend_close(backend);
    return command_line_end("inspect", rc, &err);
}
