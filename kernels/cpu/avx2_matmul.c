#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/matmul_template.h"
