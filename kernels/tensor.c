#include "kernels/tensor.h"

const char *tensor_format_name(enum tensor_format format) {
    static const char *const names[] = {"f32", "f16", "bf16", "fp8", "int8", "int4"};
    return names[format];
}
