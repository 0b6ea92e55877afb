#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/matmul_template.h"
