// The loops behind the measured peaks. Included once for each instruction set, after its vectors.

enum { READ_STREAMS = 4, PEAK_CHAINS = 12 };

// Several streams a thread, as matrix products read.
uint32_t KERNEL(peak_read)(const void *data, size_t n_bytes) {
    const size_t part = n_bytes / READ_STREAMS, ahead = 2048;
    __m256i sum[READ_STREAMS] = {0};
    for (size_t i = 0; i < part; i += 64)
        for (size_t s = 0; s < READ_STREAMS; s++) {
            const char *at = (const char *)data + s * part + i;
            _mm_prefetch(at + ahead, _MM_HINT_T0);
            sum[s] = _mm256_xor_si256(sum[s], _mm256_loadu_si256((const __m256i *)(const void *)at));
            sum[s] = _mm256_xor_si256(sum[s], _mm256_loadu_si256((const __m256i *)(const void *)(at + 32)));
        }
    __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return (uint32_t)_mm256_extract_epi32(all, 0) ^ (uint32_t)_mm256_extract_epi32(all, 5);
}

// Keeps a value that the compiler could otherwise leave out.
static void keep(vec x) {
    __asm__ volatile("" : : "x"(x));
}

double KERNEL(peak_f32)(int32_t n) {
    vec sums[PEAK_CHAINS];
    for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = vec_all((float)c);
    vec a = vec_all(0.5f), b = vec_all(1);
    for (int32_t i = 0; i < n; i++)
#pragma GCC unroll 12
        for (int c = 0; c < PEAK_CHAINS; c++) sums[c] = vec_fma(sums[c], a, b);
    for (int c = 0; c < PEAK_CHAINS; c++) keep(sums[c]);
    return 2.0 * VEC_N * PEAK_CHAINS * n;
}
