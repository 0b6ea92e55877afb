#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/sample_template.h"
