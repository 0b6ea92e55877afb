// How a backend on the host keeps quantised weights: one layout for all kernels.
//
// Sixteen outputs are a block; blocks follow each other. INT8 and INT4 share a scale (F16) among 32 inputs of an
// output, their group, so that Q8_0 and Q4_0 of GGUF fit as they are. A block is the numbers of all groups, then the
// scales [group][16]. In a group, 64 bytes hold four neighbouring inputs, a quad, of the sixteen outputs:
// [output][input of the quad]. Numbers are stored unsigned, 128 or 8 more than they are. INT4 packs two
// quads into 64 bytes: the even one in the low nibbles. FP8 (E4M3) is [input][16], then sixteen F32 scales.
// Outputs and inputs beyond the matrix are zeros.
//
// An activation row for INT8 and INT4: numbers [groups * 32] in -127 .. 127, F32 scales [groups], and for each group
// minus the zero point times the sum of its numbers, where the integer sum of the group starts.
#pragma once

#include "kernels/tensor.h"

enum { PACKED_OUTPUTS = 16, PACKED_GROUP = 32, PACKED_QUAD = 4, PACKED_LINE = 64 };

static inline int32_t packed_groups(int32_t n_in) {
    return (n_in + PACKED_GROUP - 1) / PACKED_GROUP;
}

static inline int32_t packed_zero(enum tensor_format format) {
    return format == TENSOR_INT8 ? 128 : 8;
}

// Bytes of a group of a block, without scales.
static inline size_t packed_group_bytes(enum tensor_format format) {
    size_t n_values = (size_t)PACKED_OUTPUTS * PACKED_GROUP;
    return format == TENSOR_INT4 ? n_values / 2 : n_values;
}

// Where the scales of a block begin.
static inline size_t packed_scales_at(enum tensor_format format, int32_t n_in) {
    if (format == TENSOR_FP8) return (size_t)n_in * PACKED_OUTPUTS;
    return (size_t)packed_groups(n_in) * packed_group_bytes(format);
}

static inline size_t packed_block_bytes(enum tensor_format format, int32_t n_in) {
    size_t n_scales = format == TENSOR_FP8 ? 2 : (size_t)packed_groups(n_in); // in units of sixteen F16
    size_t n_bytes = packed_scales_at(format, n_in) + n_scales * PACKED_OUTPUTS * 2;
    return (n_bytes + PACKED_LINE - 1) / PACKED_LINE * PACKED_LINE;
}

static inline size_t packed_bytes(const struct tensor *t) {
    size_t n_blocks = ((size_t)t->n_rows + PACKED_OUTPUTS - 1) / PACKED_OUTPUTS;
    return n_blocks * packed_block_bytes(t->format, t->n_cols);
}

static inline size_t packed_activation_bytes(int32_t n) {
    size_t n_bytes = (size_t)packed_groups(n) * (PACKED_GROUP + sizeof(float) + sizeof(int32_t));
    return (n_bytes + PACKED_LINE - 1) / PACKED_LINE * PACKED_LINE;
}
