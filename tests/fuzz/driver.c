// Runs a fuzz target without a fuzzing engine: every seed as it is, then a bounded number of seeded mutations, so that
// CI sees the same inputs every time. With -DOPTIMA_LIBFUZZER=ON the same targets are driven by libFuzzer instead.
//
// A target defines LLVMFuzzerTestOneInput and fuzz_seeds, which hands its seeds to fuzz_add_seed.
#include "tests/fuzz/fuzz.h"

#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MUTATIONS_DEFAULT = 3000 };

static fuzz_seed_vec seeds;

static uint64_t counter;
static uint32_t draw(uint32_t below) {
    return (uint32_t)((uint64_t)rng_u32(rng_key(1, 2, 3), counter++) * below >> 32);
}

static size_t mutate_once(char *bytes, size_t n, size_t capacity) {
    static const uint64_t interesting[] = {0,
                                           1,
                                           0x7f,
                                           0x80,
                                           0xff,
                                           0x7fff,
                                           0x7fffffff,
                                           0x80000000,
                                           0xffffffff,
                                           0x7fffffffffffffff,
                                           0x8000000000000000,
                                           0xffffffffffffffff};
    size_t at = n ? draw((uint32_t)n) : 0;
    size_t length = 1 + draw(32);
    switch (draw(6)) {
    case 0:
        if (n) bytes[at] = (char)(bytes[at] ^ (1 << draw(8)));
        return n;
    case 1: {
        uint64_t value = interesting[draw(12)];
        size_t width = (size_t)1 << draw(4);
        if (at + width <= n) memcpy(bytes + at, &value, width);
        return n;
    }
    case 2:
        return n ? at : 0; // cut
    case 3:                // remove
        if (at + length > n) return n;
        memmove(bytes + at, bytes + at + length, n - at - length);
        return n - length;
    case 4: // repeat a piece
        if (at + length > n || n + length > capacity) return n;
        memmove(bytes + at + length, bytes + at, n - at);
        return n + length;
    default: { // a piece of another seed
        const struct fuzz_seed *other = &seeds.items[draw((uint32_t)seeds.count)];
        if (!other->n_bytes) return n;
        size_t from = draw((uint32_t)other->n_bytes);
        if (length > other->n_bytes - from) length = other->n_bytes - from;
        if (at + length > n) return n;
        memcpy(bytes + at, other->bytes + from, length);
        return n;
    }
    }
}

int main(int argc, char **argv) {
    long n_mutations = argc > 1 ? strtol(argv[1], NULL, 10) : MUTATIONS_DEFAULT;
    fuzz_seeds_collect(&seeds);
    for (size_t i = 0; i < seeds.count; i++)
        LLVMFuzzerTestOneInput((const uint8_t *)seeds.items[i].bytes, seeds.items[i].n_bytes);
    for (long i = 0; i < n_mutations; i++) {
        const struct fuzz_seed *seed = &seeds.items[draw((uint32_t)seeds.count)];
        size_t capacity = seed->n_bytes + 4096, n = seed->n_bytes;
        char *bytes = mem_alloc(capacity);
        memcpy(bytes, seed->bytes, n);
        for (uint32_t m = 1 + draw(6); m > 0; m--) n = mutate_once(bytes, n, capacity);
        char *exact = mem_alloc(n); // exactly as long as the input, so that the sanitizer sees a read too far
        memcpy(exact, bytes, n);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, n);
        free(exact);
        free(bytes);
    }
    printf("%zu seeds and %ld mutations ran\n", seeds.count, n_mutations);
    fuzz_seeds_free(&seeds);
    return 0;
}
