#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/packed_template.h"
