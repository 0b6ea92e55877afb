// Any bytes as a GGUF file, as far as the weights of a model.
#include "tests/fuzz/fuzz.h"

#include "base/log.h"
#include "tests/models/gguf_builder.h"

void fuzz_seeds(void) {
    log_level_set(LOG_LEVEL_ERROR);
    struct gguf_builder b;
    build_tiny_gguf(&b);
    fuzz_add_seed(b.bytes.data, b.bytes.n_bytes);
    // Without the weights behind: mutations then meet the header more often.
    size_t header = b.bytes.n_bytes - b.data_bytes;
    fuzz_add_seed(b.bytes.data, header);
    builder_close(&b);
    fuzz_add_seed_file(TEST_SHARED_DIR "/data/models/stories260K/stories260K.q4_0.gguf");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct err err = {0};
    exercise_gguf((const char *)bytes, n_bytes, &err);
    return 0;
}
