// The order in which threads run is given by a seed under the emulation; a device has its own.
#pragma once

#include <stdint.h>

#if defined(OPTIMA_CUDA_EMULATION)
#include "tests/cuda_emulation/emulation_control.h"
#endif

static inline void order_threads(uint64_t seed) {
#if defined(OPTIMA_CUDA_EMULATION)
    emulation_seed(seed);
#else
    (void)seed;
#endif
}
