// Parts of packed weights: as many outputs of a block as a vector has lanes. Included once for each instruction set.
#pragma once

#include "kernels/packed.h"

enum { PARTS = PACKED_OUTPUTS / VEC_N, PART_LINE = PACKED_LINE / PARTS, FETCH_BYTES = 2048 };

// What of a part lies in the range of outputs.
VEC_INLINE void part_store(const struct matmul *m, int32_t part, int32_t row, vec sum) {
    const int32_t first = part * VEC_N, end = m->out_first + m->out_count;
    float *to = m->out + (size_t)row * m->out_stride;
    if (first >= m->out_first && first + VEC_N <= end) {
        vec_store(to + first, m->bias ? vec_add(sum, vec_load(m->bias + first)) : sum);
        return;
    }
    float lanes[VEC_N];
    vec_store(lanes, sum);
    for (int32_t i = 0; i < VEC_N; i++)
        if (first + i >= m->out_first && first + i < end)
            to[first + i] = m->bias ? lanes[i] + m->bias[first + i] : lanes[i];
}
