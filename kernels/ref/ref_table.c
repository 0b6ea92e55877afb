#include "kernels/kernel_table.h"

const struct kernel_table ref_kernels = {.name = "ref",
                                         .description = "portable C",
#define X(type, name, arguments) .name = ref_##name,
                                         KERNELS(X)
#undef X
};
