#include "models/dequant.h"

#include "base/number.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

enum { SCALE_BYTES = 2, Q8_0_BYTES = SCALE_BYTES + 32, Q4_0_BYTES = SCALE_BYTES + 16 };

bool dequant_knows(enum stored_format format) {
    return format == STORED_Q8_0 || format == STORED_Q4_0;
}

size_t dequant_block_bytes(enum stored_format format) {
    assert(dequant_knows(format));
    return format == STORED_Q8_0 ? Q8_0_BYTES : Q4_0_BYTES;
}

void dequant(enum stored_format format, const void *blocks, size_t n_values, float *out) {
    const unsigned char *block = blocks;
    const size_t block_bytes = dequant_block_bytes(format);
    assert(n_values % DEQUANT_BLOCK == 0);
    for (size_t done = 0; done < n_values; done += DEQUANT_BLOCK, block += block_bytes, out += DEQUANT_BLOCK) {
        uint16_t scale_bits;
        memcpy(&scale_bits, block, sizeof scale_bits);
        const float scale = f32_from_f16(scale_bits);
        const unsigned char *q = block + SCALE_BYTES;
        if (format == STORED_Q8_0) {
            for (int i = 0; i < 32; i++) out[i] = scale * (float)(int8_t)q[i];
            continue;
        }
        // Low halves are values 0 to 15, high halves 16 to 31.
        for (int i = 0; i < 16; i++) {
            out[i] = scale * (float)((q[i] & 15) - 8);
            out[i + 16] = scale * (float)((q[i] >> 4) - 8);
        }
    }
}
