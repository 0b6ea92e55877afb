// Matrix products of packed weights (kernels/packed.h) with any number of rows. Included once for each instruction set.
//
// A vector holds outputs: VEC_N of a block of sixteen, a part. Integers are exact within a group and groups are added
// in order of k, one output a lane; FP8 adds the inputs of a group in order of k, and then the groups. So bits are the
// same in every tile shape, on any instruction set.
#include "kernels/cpu/packed.h"
#include "kernels/packed_make.h"

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

#include "kernels/cpu/packed_fp8.h"
#include "kernels/cpu/packed_integers.h"

// One function a format, so that the compiler sees each as a constant.
static void matmul_int8(const struct matmul *m) {
    integers_run(m, TENSOR_INT8);
}
static void matmul_int4(const struct matmul *m) {
    integers_run(m, TENSOR_INT4);
}
static void matmul_int8_offset(const struct matmul *m) {
    integers_run(m, TENSOR_INT8_OFFSET);
}
static void matmul_int4_offset(const struct matmul *m) {
    integers_run(m, TENSOR_INT4_OFFSET);
}

void KERNEL(matmul_packed)(const struct matmul *m) {
    switch (m->weight->format) {
    case TENSOR_FP8:
        matmul_fp8(m);
        break;
    case TENSOR_INT8:
        matmul_int8(m);
        break;
    case TENSOR_INT4:
        matmul_int4(m);
        break;
    case TENSOR_INT8_OFFSET:
        matmul_int8_offset(m);
        break;
    case TENSOR_INT4_OFFSET:
        matmul_int4_offset(m);
        break;
    default:
        break;
    }
}

void KERNEL(activation_pack)(char *row, const float *x, int32_t n) {
    packed_activation(row, x, n);
}

void KERNEL(weight_pack)(void *block, const float *rows, enum tensor_format format, int32_t n) {
    pack_block(block, rows, format, n);
}

void KERNEL(weight_fill)(void *block, const struct tensor_row *rows, enum tensor_format format, int32_t n) {
    fill_block(block, rows, format, n);
}
