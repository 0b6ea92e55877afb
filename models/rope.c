#include "models/rope.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static void scale_llama3(float *frequency, int n, const struct rope_config *config) {
    float factor = (float)config->factor, low = (float)config->low_freq_factor, high = (float)config->high_freq_factor;
    float context = (float)config->original_context;
    for (int i = 0; i < n; i++) {
        float wavelength = (float)(2 * pi) / frequency[i];
        if (wavelength < context / high) continue;
        float scaled = frequency[i] / factor;
        float smooth = high > low ? (context / wavelength - low) / (high - low) : 0;
        frequency[i] = wavelength > context / low ? scaled : (1 - smooth) * scaled + smooth * frequency[i];
    }
}

// The dimension whose pair turns `n_turns` times within the original context.
static double yarn_dimension(const struct rope_config *config, double n_turns) {
    return config->n_dims * log(config->original_context / (n_turns * 2 * pi)) / (2 * log(config->theta));
}

static void scale_yarn(float *frequency, int n, const struct rope_config *config) {
    double low = yarn_dimension(config, config->beta_fast), high = yarn_dimension(config, config->beta_slow);
    if (config->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, config->n_dims - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < n; i++) {
        float ramp = (float)fmin(fmax((i - low) / (high - low), 0), 1);
        float keep = 1 - ramp;
        frequency[i] = frequency[i] / (float)config->factor * (1 - keep) + frequency[i] * keep;
    }
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static double attention_factor(const struct rope_config *config) {
    if (config->kind != ROPE_YARN && config->kind != ROPE_LONG) return 1;
    if (config->attention_factor > 0) return config->attention_factor;
    if (config->kind == ROPE_LONG)
        return config->factor <= 1 ? 1 : sqrt(1 + log(config->factor) / log(config->original_context));
    if (config->mscale != 0 && config->mscale_all_dim != 0)
        return yarn_scale(config->factor, config->mscale) / yarn_scale(config->factor, config->mscale_all_dim);
    return yarn_scale(config->factor, 1);
}

struct rope_spec rope_make(const struct rope_config *config, struct arena *arena) {
    int n = config->n_dims / 2;
    float *frequency = arena_alloc(arena, (size_t)n * sizeof *frequency);
    for (int i = 0; i < n; i++) {
        float exponent = (float)(2 * i) / (float)config->n_dims;
        frequency[i] = 1.0f / (float)pow(config->theta, (double)exponent);
        if (config->kind == ROPE_LINEAR) frequency[i] /= (float)config->factor;
        if (config->divisors) frequency[i] /= config->divisors[i];
    }
    if (config->kind == ROPE_LLAMA3) scale_llama3(frequency, n, config);
    if (config->kind == ROPE_YARN) scale_yarn(frequency, n, config);
    return (struct rope_spec){.n_dims = config->n_dims,
                              .interleaved = config->interleaved,
                              .scale = (float)attention_factor(config),
                              .inverse_frequency = frequency};
}
