// What config.json says about a quantised checkpoint: "quantization_config", or a file quantize_config.json beside it.
// The numbers are defaults that each matrix's shapes must bear out.
#pragma once

#include "base/err.h"
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>

enum quantization_method {
    QUANTIZATION_NONE,
    QUANTIZATION_AWQ,    // 4 bits, eight outputs a word
    QUANTIZATION_GPTQ,   // 4 or 8 bits, eight or four inputs a word
    QUANTIZATION_PACKED, // compressed-tensors "pack-quantized": as many inputs a word, a row of them an output
    QUANTIZATION_BYTES,  // INT8 or FP8 as they are: compressed-tensors "int-quantized", "float-quantized", and "fp8"
};

struct quantization {
    enum quantization_method method;
    int bits;
    int32_t group;                  // inputs that share a scale; 0: all of a row
    int32_t block_rows, block_cols; // FP8 with a scale for each block; 0: none
    bool symmetric;                 // no zero points
    bool zeros_are_one_less;        // GPTQ, first version
    bool differs;                   // modules may differ in bits and groups
};

// ERR_UNSUPPORTED: a method or layout that is not known here; ERR_INVALID: numbers that cannot be.
int quantization_read(struct quantization *out, const cJSON *config, struct err *err)
    __attribute__((warn_unused_result));
