#include "kernels/kernel_table.h"

const struct kernel_table avx2_kernels = {.name = "avx2",
                                          .description = "avx2",
#define X(type, name, arguments) .name = avx2_##name,
                                          KERNELS(X)
#undef X
};
