// Matrix products of packed weights (kernels/packed.h) with any number of rows. Included once for each instruction set.
//
// A vector holds outputs: VEC_N of a block of sixteen, a part. Integers are exact within a group and groups are added
// in order of k, one output a lane: so their bits are the same in every tile shape, on any instruction set. Those of
// FP8 are the same in every tile shape.
#include "kernels/cpu/packed.h"
#include "kernels/cpu/packed_part.h"
#include "kernels/packed_make.h"

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

size_t KERNEL(activation_packed_bytes)(enum tensor_format format, int32_t n) {
    return format == TENSOR_FP8 ? fp8_activation_bytes(n) : packed_activation_bytes(n);
}

void KERNEL(activation_pack)(char *row, const float *x, enum tensor_format format, int32_t n, int32_t first,
                             int32_t count) {
    if (format == TENSOR_FP8)
        fp8_activation(row, x, n, first, count);
    else
        packed_activation(row, x, n, first, count);
}

void KERNEL(weight_pack)(void *block, const float *rows, enum tensor_format format, int32_t n) {
    pack_block(block, rows, format, n);
}

void KERNEL(weight_fill)(void *block, const struct tensor_row *rows, enum tensor_format format, int32_t n) {
    fill_block(block, rows, format, n);
}
