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

typedef float vector __attribute__((vector_size(32))); // a row of B or D

// PTX, m16n8k16: with g = lane / 4 and t = lane % 4, register i of A holds row g + 8 (i % 2), columns 2 t + 8 (i / 2)
// and the next one; of B, column g, rows 2 t + 8 i and the next one; of D, row g + 8 (i / 2), column 2 t + i % 2.
template <bool IS_BF16> static void mma_complete(void *const arguments[32], unsigned) {
    fragments *const *lanes = reinterpret_cast<fragments *const *>(arguments);
    vector b[16];
    for (int lane = 0; lane < 32; lane++) {
        int column = lane / 4, row = lane % 4 * 2;
        for (int i = 0; i < 4; i++) b[row + i / 2 * 8 + i % 2][column] = half_of<IS_BF16>(lanes[lane]->b[i / 2], i % 2);
    }
    for (int row = 0; row < 16; row++) {
        vector sum;
        fragments *const *owners = lanes + row % 8 * 4; // the four lanes that have this row
        int first = row / 8;
        for (int i = 0; i < 8; i++) sum[i] = owners[i / 2]->d[2 * first + i % 2];
        for (int k = 0; k < 16; k++) sum += half_of<IS_BF16>(owners[k % 8 / 2]->a[first + k / 8 * 2], k % 2) * b[k];
        for (int i = 0; i < 8; i++) owners[i / 2]->d[2 * first + i % 2] = sum[i];
    }
}

void emulation_mma(float d[4], const uint32_t a[4], const uint32_t b[2], bool is_bf16) {
    fragments mine = {d, a, b};
    emulation_collective(is_bf16 ? mma_complete<true> : mma_complete<false>, "mma", 0xffffffffu, &mine);
}
