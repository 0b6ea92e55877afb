#include "cli/advising.h"

#include "base/url.h"
#include "cli/benching.h"
#include "cli/serving.h"
#include "engine/step_cost.h"

#include <string.h>

// ------------------------------------------------------------------------------------------- where numbers come from

static size_t take_records(void *context, struct step_record *out, size_t n, uint64_t *n_lost) {
    return step_loop_take_records(((struct serving *)context)->step_loop, out, n, n_lost);
}

static void add_activity(const struct server *server, struct advisor_sample *out) {
    struct server_activity activity;
    server_activity(server, &activity);
    out->n_connections = activity.n_connections;
    out->n_rejected_total = activity.n_rejected;
    out->n_failed_total = activity.n_failed;
    out->n_events_total = activity.n_events;
    out->n_streams_total = activity.n_streams;
    out->n_streams_blocked_total = activity.n_streams_blocked;
    out->loop_busy_ns_total = activity.loop_busy_ns;
    out->text_busy_ns_total = activity.text_busy_ns;
    out->n_text_threads = activity.n_text_threads;
}

static void sample(void *context, struct advisor_sample *out) {
    struct serving *serving = context;
    struct step_loop_stats stats;
    step_loop_stats(serving->step_loop, &stats);
    *out = (struct advisor_sample){.n_running = stats.n_running,
                                   .n_waiting = stats.n_waiting,
                                   .n_blocks_used = stats.n_blocks_used,
                                   .n_preemptions_total = stats.n_preemptions,
                                   .n_prompt_tokens_total = stats.n_prompt_tokens,
                                   .n_cached_tokens_total = stats.n_prompt_tokens_cached,
                                   .n_generated_tokens_total = stats.n_generated_tokens,
                                   .n_recomputed_tokens_total = stats.n_recomputed_tokens,
                                   .n_prefix_queries_total = stats.n_prefix_queries,
                                   .n_prefix_hits_total = stats.n_prefix_hits,
                                   .n_prefix_ideal_total = stats.n_prefix_ideal,
                                   .n_prefix_evicted_total = stats.n_prefix_evicted,
                                   .idle_ns_total = stats.idle_ns,
                                   .n_slots = stats.n_slots,
                                   .n_tokens = stats.n_slot_tokens,
                                   .n_lookups_total = stats.n_lookups,
                                   .n_early_divergences_total = stats.n_early_divergences,
                                   .divergence_token = stats.n_early_divergences ? stats.divergence_token : NAN,
                                   .n_shadow_tokens_total = stats.n_shadow_tokens,
                                   .n_shadow_guesses_total = stats.n_shadow_guesses,
                                   .n_shadow_hits_total = stats.n_shadow_hits,
                                   .speculation_gain = serving->proposer ? stats.speculation_gain : NAN,
                                   .speculation_gain_best = NAN};
    add_activity(serving->server, out);
}

static bool measure_peaks(void *context, struct backend_peaks *out) {
    return step_loop_measure_peaks(((struct serving *)context)->step_loop, out);
}

static void read_knobs(void *context, struct knobs *out) {
    step_loop_read_knobs(((struct serving *)context)->step_loop, out);
}

static void set_knob(void *context, enum knob_id id, int64_t value) {
    step_loop_set_knob(((struct serving *)context)->step_loop, id, value);
}

// ------------------------------------------------------------------------------------------------------ the server

static struct figure said(double value) {
    return value > 0 ? figure_of(value, FIGURE_USER) : figure_unknown();
}

static const char *format_name(enum tensor_format format) {
    static const char *const names[] = {
        [TENSOR_F32] = "f32",   [TENSOR_F16] = "f16",   [TENSOR_BF16] = "bf16",        [TENSOR_FP8] = "fp8",
        [TENSOR_INT8] = "int8", [TENSOR_INT4] = "int4", [TENSOR_INT8_OFFSET] = "int8", [TENSOR_INT4_OFFSET] = "int4"};
    return names[format];
}

// What the layers' matrices are in: as the option says, or as the model has them.
static const char *weights_of(const struct serving *serving) {
    const char *option = serving->options.engine.weights;
    if (option && strcmp(option, "auto") != 0) return option;
    return format_name(serving->model->spec.layers[0].wq.format);
}

static void fill_model(struct setup *setup, const struct serving *serving) {
    const struct model_spec *spec = &serving->model->spec;
    const struct cost_model *cost = engine_cost(serving->engine);
    const struct engine_limits *limits = engine_limits(serving->engine);
    const struct kv_shape *kv = engine_kv(serving->engine);
    setup->parameters = (double)spec->n_parameters;
    setup->layer_bytes = cost->layer_bytes + cost->n_hit * cost->expert_bytes;
    setup->head_bytes = cost->head_bytes;
    setup->weight_bytes = setup->layer_bytes + cost->head_bytes;
    setup->expert_bytes = cost->expert_bytes;
    setup->bits_per_weight =
        setup->parameters > 0
            ? 8 * (cost->layer_bytes + cost->n_experts * cost->expert_bytes + cost->head_bytes) / setup->parameters
            : NAN;
    setup->kv_bytes_per_token = (double)kv_bytes_per_block(kv) / kv->block_tokens;
    setup->flops_per_token = cost->row_flops;
    setup->attention_flops_per_key = cost->key_flops * cost->n_layers;
    setup->head_flops_per_row = cost->head_flops;
    setup->n_layers = spec->n_layers;
    setup->vocab = spec->vocab;
    setup->hidden = spec->hidden;
    setup->n_kv_heads = spec->n_kv_heads;
    setup->n_experts = spec->n_experts;
    setup->n_experts_used = spec->n_hit;
    setup->context = limits->context;
    setup->rows_max = limits->rows_max;
    setup->sequences_max = limits->sequences_max;
    setup->block_tokens = limits->block_tokens;
    setup->n_blocks = limits->n_blocks;
    setup->steps_in_flight = limits->steps_in_flight;
    setup->kv_format = kv_format_name(kv->format);
}

static int fill_objectives(struct setup *setup, const char *text, struct err *err) {
    struct objectives objectives = {0};
    int rc = text ? benching_objectives(&objectives, text, err) : 0;
    setup->objective_ttft = said(objectives.ttft);
    setup->objective_itl = said(objectives.itl);
    return rc;
}

int advising_check(const struct advising_options *options, struct err *err) {
    struct setup unused;
    return fill_objectives(&unused, options->objectives, err);
}

int advising_open(struct advisor **out, struct serving *serving, struct err *err) {
    const struct advising_options *said_so = &serving->options.advising;
    struct advisor_options options = {
        .source = {.context = serving,
                   .take_records = take_records,
                   .sample = sample,
                   .measure_peaks = measure_peaks,
                   .knobs = {.context = serving, .read = read_knobs, .set = set_knob}},
        .record_path = said_so->record_path,
        .peaks_path = said_so->peaks_path,
        .self_tune = said_so->self_tune,
        .setup = {.model = serving->model->name,
                  .device = backend_description(serving->backend),
                  .weights = weights_of(serving),
                  .build = OPTIMA_VERSION,
                  .path = serving->options.model.path,
                  .url = serving->url,
                  .is_gpu = backend_threads(serving->backend) == 0,
                  .n_processors = backend_threads(serving->backend),
                  .has_prefix_cache = !serving->options.step_loop.settings.no_prefix_cache,
                  .weights_are_quantised = serving->model->spec.layers[0].wq.rows != NULL,
                  .speculates = serving->proposer != NULL,
                  .has_draft_model = serving->proposer && serving->proposer->runs_steps,
                  .price_per_hour = said(said_so->price_per_hour),
                  .watts_price_per_kwh = said(said_so->power_price)}};
    const char *host = serving->options.server.http.host;
    url_of_server(serving->url, sizeof serving->url, host ? host : "127.0.0.1", server_port(serving->server));
    fill_model(&options.setup, serving);
    int rc = fill_objectives(&options.setup, said_so->objectives, err);
    step_loop_read_knobs(serving->step_loop, &options.setup.knobs);
    return rc ? rc : advisor_open(out, &options, err);
}
