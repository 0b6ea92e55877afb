// Chooses the kernels that this processor can run.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

// clang's __builtin_cpu_supports has no name for it.
static bool has_f16c(void) {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

// The AVX-512 kernels are compiled for all of these; a processor with fewer runs the AVX2 ones.
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vbmi");
}

static bool has_amx(void) {
    enum { LEAF = 7, EDX_AMX_BF16 = 1 << 22, EDX_AMX_TILE = 1 << 24, EDX_AMX_INT8 = 1 << 25 };
    unsigned eax, ebx, ecx, edx;
    if (!has_avx512() || !__get_cpuid_count(LEAF, 0, &eax, &ebx, &ecx, &edx)) return false;
    return (edx & EDX_AMX_BF16) && (edx & EDX_AMX_TILE) && (edx & EDX_AMX_INT8) && amx_permitted();
}
#endif

const struct kernel_table *cpu_kernels_find(const char *instruction_set) {
    bool any = strcmp(instruction_set, "auto") == 0;
#if defined(__x86_64__)
    if ((any || strcmp(instruction_set, "amx") == 0) && has_amx()) return &amx_kernels;
    if ((any || strcmp(instruction_set, "avx512") == 0) && has_avx512()) return &avx512_kernels;
    if ((any || strcmp(instruction_set, "avx2") == 0) && has_avx2()) return &avx2_kernels;
#endif
    return any || strcmp(instruction_set, "ref") == 0 ? &ref_kernels : NULL;
}
