// Any bytes as a safetensors file: what is accepted lies within the file, adjacent and complete.
#include "tests/fuzz/fuzz.h"

#include "models/safetensors.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void fuzz_seeds(void) {
    static const char header[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"__metadata__\":{\"x\":\"y\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]}}  ";
    char file[8 + sizeof header - 1 + 26] = {0};
    file[0] = (char)(sizeof header - 1);
    memcpy(file + 8, header, sizeof header - 1);
    fuzz_add_seed(file, sizeof file);
    fuzz_add_seed_file(TEST_SHARED_DIR "/data/models/tiny_random/tiny_qwen3_sharded/model-00001-of-00002.safetensors");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    const char *data = (const char *)bytes;
    stored_tensor_vec tensors = {0};
    struct arena arena = ARENA_INIT;
    struct err err;
    if (safetensors_read(&tensors, &arena, data, n_bytes, &err) == 0) {
        size_t n_total = 0;
        for (size_t i = 0; i < tensors.count; i++) {
            const struct stored_tensor *tensor = &tensors.items[i];
            assert(tensor->data >= data && tensor->data + tensor->n_bytes <= data + n_bytes);
            n_total += tensor->n_bytes;
        }
        assert(n_total <= n_bytes - 8);
    }
    vec_free(&tensors);
    arena_close(&arena);
    return 0;
}
