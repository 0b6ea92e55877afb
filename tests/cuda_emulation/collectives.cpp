// What the lanes of a warp do together: votes, fragments of matrices, products of fragments.
#include "internal.h"

extern "C" {
#include "base/number.h"
}

uint16_t emulation_bf16_from_f32(float x) {
    return bf16_from_f32(x);
}
uint16_t emulation_f16_from_f32(float x) {
    return f16_from_f32(x);
}
float emulation_f32_from_f16(uint16_t x) {
    return f32_from_f16(x);
}

struct ballot {
    bool predicate;
    unsigned result;
};

static void ballot_complete(void *const arguments[32], unsigned mask) {
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) result |= (unsigned)static_cast<ballot *>(arguments[lane])->predicate << lane;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) static_cast<ballot *>(arguments[lane])->result = result;
}

unsigned __ballot_sync(unsigned mask, int predicate) {
    ballot vote = {predicate != 0, 0};
    emulation_collective(ballot_complete, "a vote", mask, &vote);
    return vote.result;
}

static void syncwarp_complete(void *const *, unsigned) {}

void __syncwarp(unsigned mask) {
    emulation_collective(syncwarp_complete, "__syncwarp", mask, nullptr);
}

// ---------------------------------------------------------------------------------------------------------- ldmatrix

struct matrix_load {
    uint32_t *registers;
    const void *row;
};

// Lanes 8 i .. 8 i + 7 name the rows of matrix i, 8 rows of 8 elements of 2 bytes. Lane l receives the elements
// 2 (l % 4) and the next one of row l / 4, or of column l / 4 when transposed.
template <int N, bool TRANSPOSED> static void ldmatrix_complete(void *const arguments[32], unsigned) {
    for (int i = 0; i < N; i++) {
        uint16_t matrix[8][8];
        for (int row = 0; row < 8; row++) {
            const void *from = static_cast<matrix_load *>(arguments[8 * i + row])->row;
            if ((uintptr_t)from % 16) emulation_fail("ldmatrix: row %d of matrix %d is not on 16 bytes", row, i);
            memcpy(matrix[row], from, 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            int row = lane / 4, column = lane % 4 * 2;
            uint32_t low = TRANSPOSED ? matrix[column][row] : matrix[row][column];
            uint32_t high = TRANSPOSED ? matrix[column + 1][row] : matrix[row][column + 1];
            static_cast<matrix_load *>(arguments[lane])->registers[i] = low | high << 16;
        }
    }
}

void emulation_ldmatrix(uint32_t *registers, const void *row, int n_matrices, bool transposed) {
    matrix_load load = {registers, row};
    emulation_operation *operation;
    if (n_matrices == 4)
        operation = transposed ? ldmatrix_complete<4, true> : ldmatrix_complete<4, false>;
    else
        operation = transposed ? ldmatrix_complete<2, true> : ldmatrix_complete<2, false>;
    emulation_collective(operation, transposed ? "ldmatrix_trans" : "ldmatrix", 0xffffffffu, &load);
}

// --------------------------------------------------------------------------------------------------------------- mma

struct fragments {
    float *d;
    const uint32_t *a, *b;
};

template <bool IS_BF16> static float half_of(uint32_t pair, int high) {
    uint16_t bits = (uint16_t)(high ? pair >> 16 : pair);
    return IS_BF16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

// PTX, m16n8k16: with g = lane / 4 and t = lane % 4, register i of A holds row g + 8 (i % 2), columns 2 t + 8 (i / 2)
// and the next one; of B, column g, rows 2 t + 8 i and the next one; of D, row g + 8 (i / 2), column 2 t + i % 2.
template <bool IS_BF16> static void mma_complete(void *const arguments[32], unsigned) {
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const fragments *f = static_cast<fragments *>(arguments[lane]);
        int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 8; i++) a[g + i / 2 % 2 * 8][t + i / 4 * 8 + i % 2] = half_of<IS_BF16>(f->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++) b[t + i / 2 * 8 + i % 2][g] = half_of<IS_BF16>(f->b[i / 2], i % 2);
        for (int i = 0; i < 4; i++) d[g + i / 2 * 8][t + i % 2] = f->d[i];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++) {
        const fragments *f = static_cast<fragments *>(arguments[lane]);
        for (int i = 0; i < 4; i++) f->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    }
}

void emulation_mma(float d[4], const uint32_t a[4], const uint32_t b[2], bool is_bf16) {
    fragments mine = {d, a, b};
    emulation_collective(is_bf16 ? mma_complete<true> : mma_complete<false>, "mma", 0xffffffffu, &mine);
}
