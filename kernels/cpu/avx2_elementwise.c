#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/elementwise_template.h"
