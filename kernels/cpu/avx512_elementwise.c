#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/elementwise_template.h"
