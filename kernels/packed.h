// How a backend on the host keeps quantised weights: one layout for all kernels.
//
// Sixteen outputs are a block; blocks follow each other. INT8 and INT4 share a scale (F16) among 32 inputs of an
// output, their group, so that Q8_0 and Q4_0 of GGUF fit as they are. A block is the codes of all groups, then the
// scales [group][16], then, in formats that have them, the offsets (F16) [group][16]. In a group, 64 bytes hold four
// neighbouring inputs, a quad, of the sixteen outputs: [output][input of the quad]. INT4 packs two quads into 64 bytes:
// the even one in the low nibbles. FP8 (E4M3) has F32 scales [group of 128 inputs][16].
// A value is scale * (code - zero), or scale * code + offset. Outputs and inputs beyond the matrix are zeros.
//
// An activation row for all integer formats is a struct packed_group for each group. An output is the sum, in order of
// k, of the groups' (integer sum * activation scale) * weight scale, the first product rounded and the second fused
// with the addition, each followed by offset * total, fused too.
//
// Activations of FP8 matrices are rounded to BF16. An output is the sum, in order of k, of the groups' sums * scale,
// fused; in which order a group is summed is the instruction set's own affair.
#pragma once

#include "kernels/tensor.h"

enum { PACKED_OUTPUTS = 16, PACKED_GROUP = TENSOR_GROUP, PACKED_QUAD = 4, PACKED_LINE = 64, PACKED_FP8_GROUP = 128 };

static inline int32_t packed_groups(int32_t n_in) {
    return tensor_groups(n_in);
}

// Inputs that share a scale.
static inline int32_t packed_scale_inputs(enum tensor_format format) {
    return format == TENSOR_FP8 ? PACKED_FP8_GROUP : PACKED_GROUP;
}

static inline int32_t packed_zero(enum tensor_format format) {
    return tensor_format_has_offsets(format) ? 0 : format == TENSOR_INT8 ? 128 : 8;
}

// Bytes of a group of a block, without scales.
static inline size_t packed_group_bytes(enum tensor_format format) {
    size_t n_values = (size_t)PACKED_OUTPUTS * PACKED_GROUP;
    return tensor_format_is_int4(format) ? n_values / 2 : n_values;
}

// Where the scales of a block begin.
static inline size_t packed_scales_at(enum tensor_format format, int32_t n_in) {
    return (size_t)packed_groups(n_in) * packed_group_bytes(format);
}

// Bytes of one plane of scales or offsets.
static inline size_t packed_plane_bytes(enum tensor_format format, int32_t n_in) {
    if (format == TENSOR_FP8)
        return (size_t)((n_in + PACKED_FP8_GROUP - 1) / PACKED_FP8_GROUP) * PACKED_OUTPUTS * sizeof(float);
    return (size_t)packed_groups(n_in) * PACKED_OUTPUTS * sizeof(uint16_t);
}

static inline size_t packed_offsets_at(enum tensor_format format, int32_t n_in) {
    return packed_scales_at(format, n_in) + packed_plane_bytes(format, n_in);
}

static inline size_t packed_block_bytes(enum tensor_format format, int32_t n_in) {
    size_t n_bytes = packed_offsets_at(format, n_in);
    if (tensor_format_has_offsets(format)) n_bytes += packed_plane_bytes(format, n_in);
    return (n_bytes + PACKED_LINE - 1) / PACKED_LINE * PACKED_LINE;
}

static inline size_t packed_bytes(const struct tensor *t) {
    size_t n_blocks = ((size_t)t->n_rows + PACKED_OUTPUTS - 1) / PACKED_OUTPUTS;
    return n_blocks * packed_block_bytes(t->format, t->n_cols);
}

// A group of an activation row, a cache line. It saves conversions: the integer sum of a group of unsigned codes starts
// at minus the zero point times the sum of the numbers, plus the bits of 1.5 * 2^23. So the bits of the result are
// those of the F32 1.5 * 2^23 + sum, and one fused multiply-add with the shift makes of them the sum times the scale,
// rounded once.
struct packed_group {
    int8_t numbers[PACKED_GROUP]; // -127 .. 127
    float scale;                  // its last two bits are zero
    float shift;                  // -1.5 * 2^23 * scale, exact
    float total;                  // scale * the sum of the numbers
    int32_t start_int8, start_int4;
    int32_t unused[3];
};

// The bits of 1.5 * 2^23; where integer sums start in formats with offsets.
#define PACKED_START 0x4b400000

// An odd number of cache lines, so that neighbouring rows do not compete for the same places of a cache.
static inline size_t packed_activation_bytes(int32_t n) {
    return ((size_t)packed_groups(n) | 1) * sizeof(struct packed_group);
}
