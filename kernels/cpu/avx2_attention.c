#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/attention_template.h"
