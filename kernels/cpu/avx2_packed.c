#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/packed_template.h"
