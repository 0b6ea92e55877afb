#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/sample_template.h"
