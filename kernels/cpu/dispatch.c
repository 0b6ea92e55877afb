// Chooses the kernels that this processor can run.
#include "kernels/cpu/cpu.h"

#include <string.h>

const struct kernel_table *cpu_kernels_find(const char *instruction_set) {
    bool any = strcmp(instruction_set, "auto") == 0;
    if (any || strcmp(instruction_set, "ref") == 0) return &ref_kernels;
    return NULL;
}
