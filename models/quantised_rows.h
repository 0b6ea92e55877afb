// The matrices of AWQ, GPTQ, compressed-tensors and FP8 checkpoints as rows of codes with scales.
//
// Codes, scales and zero points stay what they are, but for this: the product of scale and zero point is an offset,
// which a device may round; and where the groups of GPTQ's or compressed-tensors' inputs are not neighbours (a g_idx
// that is not in order), each 32 neighbours become 8-bit numbers of one scale, rounded to the nearest.
#pragma once

#include "base/mem.h"
#include "kernels/tensor.h"
#include "models/stored_tensor.h"

// How the codes of output o and input k lie; words are of 32 bits, little endian, lowest bits first.
enum codes_layout {
    CODES_INPUTS,  // words [in / n, out]: n neighbouring inputs a word (GPTQ)
    CODES_OUTPUTS, // words [in, out / 8]: eight outputs a word, in AWQ's order
    CODES_ROWS,    // words [out, in / n], the last one padded (compressed-tensors)
    CODES_INT8,    // [out, in] signed bytes
    CODES_FP8,     // [out, in] E4M3
};

enum zeros_layout {
    ZEROS_NONE,
    ZEROS_GPTQ,  // words [groups, out / n]
    ZEROS_AWQ,   // the same in AWQ's order
    ZEROS_ROWS,  // words [out / n, groups]: neighbouring outputs a word
    ZEROS_BYTES, // [out, groups] signed bytes
};

struct quantised_matrix {
    const char *name;
    int32_t n_out, n_in;
    int bits;
    enum codes_layout layout;
    const struct stored_tensor *codes, *scales, *zeros; // zeros NULL: none
    size_t scale_row, scale_col; // elements from a row of scales to the next, from a group to the next
    int32_t rows_per_scale;      // neighbouring outputs that share it
    int32_t group, n_groups;     // neighbouring inputs that share it, or as group_of says
    enum zeros_layout zeros_layout;
    int zero_added;          // to each zero point
    const int32_t *group_of; // [n_in] or NULL
    bool releasable;         // the codes are in a mapped file
};

// The form of the rows.
enum tensor_format quantised_rows_form(const struct quantised_matrix *matrix);
// Lives in the arena. Everything has been checked.
const struct tensor_rows *quantised_rows_open(struct arena *arena, const struct quantised_matrix *matrix);
