// What plain C reaches, as the peaks of processors without a vectorised version.
#include "kernels/kernel_table.h"

#include <string.h>

uint32_t ref_peak_read(const void *data, size_t n_bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n_bytes; i += sizeof sum) {
        uint64_t word;
        memcpy(&word, (const char *)data + i, sizeof word);
        sum ^= word;
    }
    return (uint32_t)(sum ^ sum >> 32);
}

double ref_peak_f32(int32_t n) {
    enum { CHAINS = 32 };
    float sums[CHAINS] = {0};
    for (int32_t i = 0; i < n; i++)
        for (int c = 0; c < CHAINS; c++) sums[c] = sums[c] * 0.5f + 1;
    float total = 0;
    for (int c = 0; c < CHAINS; c++) total += sums[c];
    volatile float kept = total;
    (void)kept;
    return 2.0 * CHAINS * n;
}

double ref_peak_bf16(int32_t n) {
    (void)n;
    return 0;
}

double ref_peak_int8(int32_t n) {
    (void)n;
    return 0;
}
