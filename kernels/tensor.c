#include "kernels/tensor.h"

const char *tensor_format_name(enum tensor_format format) {
    static const char *const names[] = {[TENSOR_F32] = "f32", [TENSOR_F16] = "f16", [TENSOR_BF16] = "bf16"};
    return names[format];
}
