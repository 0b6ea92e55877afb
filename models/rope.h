// Rotary position embedding: the frequency of each pair of dimensions, from what a configuration says.
//
// Formulas: theta^(-2i/d), then the scaling of "rope_type" as transformers computes it, in single precision and in the
// same order, so that the frequencies are the same numbers.
#pragma once

#include "base/mem.h"
#include "kernels/backend.h"
#include <stdbool.h>
#include <stdint.h>

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN, ROPE_LONG };

struct rope_config {
    enum rope_kind kind;
    int32_t n_dims;   // rotated dimensions of a head, even
    bool interleaved; // pairs (2i, 2i+1)
    double theta;
    double factor;
    double original_context;                  // llama3, yarn, longrope: positions before scaling
    double low_freq_factor, high_freq_factor; // llama3
    double beta_fast, beta_slow;              // yarn
    bool truncate;                            // yarn: round the ramp's ends outward
    double attention_factor;       // yarn, longrope: on cos and sin; 0: from factor (yarn: and the two below)
    double mscale, mscale_all_dim; // yarn: 0 unless given
    const float *divisors; // [n_dims/2], divide the frequencies (GGUF rope_freqs; longrope's short factors); or NULL
    const float *long_divisors; // longrope: instead of these, in contexts beyond the original one
};

// What a configuration means that says nothing.
#define ROPE_CONFIG_INIT                                                                                               \
    ((struct rope_config){.theta = 10000,                                                                              \
                          .factor = 1,                                                                                 \
                          .low_freq_factor = 1,                                                                        \
                          .high_freq_factor = 4,                                                                       \
                          .beta_fast = 32,                                                                             \
                          .beta_slow = 1,                                                                              \
                          .truncate = true})

// The frequencies live in the arena.
struct rope_spec rope_make(const struct rope_config *config, struct arena *arena);
