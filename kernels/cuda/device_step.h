// How one step's input lies in device memory: this header, then arrays at byte offsets from its start, packed by the
// host into one buffer and uploaded with one copy. Kernels read sizes from here, so that one captured graph serves
// every step that fits its bucket: grids are as large as the bucket, and what lies beyond n_rows or n_logit_rows is
// padding, which computes nothing that anybody reads and writes nothing into the KV cache.
//
// Shared by the plugin's C files and its CUDA files.
#pragma once

#include "kernels/backend.h"

struct device_step {
    int32_t n_rows, n_sequences, n_logit_rows;
    int32_t n_decode_items, n_prefill_items, n_merges; // of attention; see attention.h
    // Byte offsets from the start of this struct, multiples of 16.
    uint32_t token;                       // int32_t [n_rows], tokens or STEP_TOKEN_REF of the step before
    uint32_t position;                    // int32_t [n_rows]
    uint32_t sequence;                    // int32_t [n_rows]
    uint32_t sequences;                   // struct step_sequence [n_sequences]
    uint32_t block_table;                 // int32_t
    uint32_t logit_row;                   // int32_t [n_logit_rows]
    uint32_t sample;                      // struct sample_params [n_logit_rows]
    uint32_t edits;                       // struct logit_edit
    uint32_t seen;                        // struct seen_token
    uint32_t decode_items, prefill_items; // struct attention_item
    uint32_t merges;                      // struct attention_merge
    uint32_t n_bytes;                     // of everything
};

// The array at an offset: STEP_ARRAY(step, int32_t, position)[row].
#define STEP_ARRAY(step, type, field) ((const type *)(const void *)((const char *)(step) + (step)->field))
