#include "kernels/kernel_table.h"

const struct kernel_table avx512_kernels = {.name = "avx512",
                                            .description = "avx512 (vnni, bf16)",
#define X(type, name, arguments) .name = avx512_##name,
                                            KERNELS(X)
#undef X
};
