// Functions that every CUDA program has without including anything, as far as the kernels need them.
#pragma once

static inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline int __float_as_int(float x) {
    return (int)__float_as_uint(x);
}
static inline float __int_as_float(int bits) {
    return __uint_as_float((uint32_t)bits);
}

static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __clzll(long long x) {
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __ffsll(long long x) {
    return __builtin_ffsll(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((unsigned long long)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) result |= (unsigned)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return result;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31));
}

// Macros: the C library has declared these names for itself.
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __fdividef(float x, float y) {
    return x / y;
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __fdiv_rn(float x, float y) {
    return x / y;
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __fmaf_rn(float x, float y, float z) {
    return fmaf(x, y, z);
}
static inline float __fmul_rn(float x, float y) {
    return x * y;
}
static inline float __fadd_rn(float x, float y) {
    return x + y;
}
static inline float __fsub_rn(float x, float y) {
    return x - y;
}
static inline float __saturatef(float x) {
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
static inline int __float2int_rn(float x) {
    return (int)lrintf(x);
}
static inline int __float2int_rd(float x) {
    return (int)floorf(x);
}
static inline float __int2float_rn(int x) {
    return (float)x;
}

static inline int min(int a, int b) {
    return a < b ? a : b;
}
static inline int max(int a, int b) {
    return a > b ? a : b;
}
static inline unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
static inline unsigned max(unsigned a, unsigned b) {
    return a > b ? a : b;
}
static inline long min(long a, long b) {
    return a < b ? a : b;
}
static inline long max(long a, long b) {
    return a > b ? a : b;
}
static inline unsigned long min(unsigned long a, unsigned long b) {
    return a < b ? a : b;
}
static inline unsigned long max(unsigned long a, unsigned long b) {
    return a > b ? a : b;
}
static inline long long min(long long a, long long b) {
    return a < b ? a : b;
}
static inline long long max(long long a, long long b) {
    return a > b ? a : b;
}
static inline float min(float a, float b) {
    return fminf(a, b);
}
static inline float max(float a, float b) {
    return fmaxf(a, b);
}

template <typename T> T __ldg(const T *address) {
    return *address;
}
template <typename T> T __ldcs(const T *address) {
    return *address;
}
template <typename T> T __ldcg(const T *address) {
    return *address;
}
template <typename T> void __stcs(T *address, T value) {
    *address = value;
}
template <typename T> void __stcg(T *address, T value) {
    *address = value;
}

// One thread runs at a time, and changes only at barriers and collectives: plain operations are atomic.
#define EMULATION_ATOMIC(name, type, expression)                                                                       \
    static inline type name(type *address, type value) {                                                               \
        type old = *address;                                                                                           \
        *address = (expression);                                                                                       \
        return old;                                                                                                    \
    }
#define EMULATION_INTEGER_ATOMICS(type)                                                                                \
    EMULATION_ATOMIC(atomicAdd, type, old + value)                                                                     \
    EMULATION_ATOMIC(atomicMax, type, old > value ? old : value)                                                       \
    EMULATION_ATOMIC(atomicMin, type, old < value ? old : value)                                                       \
    EMULATION_ATOMIC(atomicAnd, type, old &value)                                                                      \
    EMULATION_ATOMIC(atomicOr, type, old | value)                                                                      \
    EMULATION_ATOMIC(atomicXor, type, old ^ value)                                                                     \
    EMULATION_ATOMIC(atomicExch, type, value)                                                                          \
    static inline type atomicCAS(type *address, type compare, type value) {                                            \
        type old = *address;                                                                                           \
        if (old == compare) *address = value;                                                                          \
        return old;                                                                                                    \
    }
EMULATION_INTEGER_ATOMICS(int)
EMULATION_INTEGER_ATOMICS(unsigned)
EMULATION_INTEGER_ATOMICS(unsigned long long)
EMULATION_ATOMIC(atomicAdd, float, old + value)
EMULATION_ATOMIC(atomicExch, float, value)
#undef EMULATION_INTEGER_ATOMICS
#undef EMULATION_ATOMIC

[[noreturn]] static inline void __trap() {
    emulation_fail("__trap");
}
