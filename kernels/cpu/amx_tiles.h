// The tile registers of AMX. Included by files that are compiled for it.
#pragma once

#include <immintrin.h>
#include <stdint.h>

enum { TILE = 16, TILE_ROW_BYTES = 64, TILE_BYTES = 1024 };

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t n_rows[16];
};

// The compiler does not know that tile instructions read memory: what they read must have been written.
static inline void tile_memory_written(const void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

// Of products of two tiles by two: the registers of the sums; the other four are operands.
#define N_TILES 8
#define SUM_00 0
#define SUM_01 1
#define SUM_10 2
#define SUM_11 3

static inline void sums_zero(void) {
    _tile_zero(SUM_00);
    _tile_zero(SUM_01);
    _tile_zero(SUM_10);
    _tile_zero(SUM_11);
}

// Clears all tiles, too.
static inline void tile_config_load(const struct tile_config *config) {
    tile_memory_written(config);
    _tile_loadconfig(config);
}
