// Any bytes as the weights of a quantised checkpoint: what is accepted can be decoded to the last row.
#include "tests/fuzz/fuzz.h"

#include "base/log.h"
#include "models/weights.h"
#include "tests/models/gguf_builder.h"

#include <stdio.h>

// The first byte of the input chooses the configuration.
static const char *const names[] = {"awq",        "gptq",       "gptq_v2_act_order", "packed_zeros", "packed_act_order",
                                    "int8_zeros", "fp8_blocks", "fp8_tensors"};
enum { N_NAMES = sizeof names / sizeof *names };
static struct model_config configs[N_NAMES];
static struct arena arena;

void fuzz_seeds(void) {
    log_level_set(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < N_NAMES; i++) {
        char path[512];
        struct file_map weights, config;
        struct err err;
        snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/golden/quantised/%s/config.json", names[i]);
        if (file_map_open(&config, path, &err) || config_read_json(&configs[i], &arena, file_map_text(&config), &err))
            abort();
        file_map_close(&config);
        snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/golden/quantised/%s/model.safetensors", names[i]);
        if (file_map_open(&weights, path, &err)) abort();
        char *seed = mem_alloc(weights.n_bytes + 1);
        seed[0] = (char)i;
        memcpy(seed + 1, weights.data, weights.n_bytes);
        fuzz_add_seed(seed, weights.n_bytes + 1);
        free(seed);
        file_map_close(&weights);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (n_bytes == 0) return 0;
    const struct model_config *config = &configs[bytes[0] % N_NAMES];
    const struct embedded_file file = {"model.safetensors", (const char *)bytes + 1, n_bytes - 1};
    struct folder folder = folder_of_embedded("memory", &file, 1);
    struct checkpoint *checkpoint = NULL;
    struct err err = {0};
    if (checkpoint_open_folder(&checkpoint, &folder, &err)) return 0;
    checkpoint_expect_quantised(checkpoint, &config->quantization);
    struct arena lists = ARENA_INIT;
    struct model_spec spec;
    if (weights_bind(&spec, &lists, config, checkpoint, &err) == 0)
        for (int32_t i = 0; i < spec.n_layers; i++)
            for (size_t m = 0; layer_matrix(&spec, &spec.layers[i], m); m++)
                exercise_matrix(layer_matrix(&spec, &spec.layers[i], m));
    arena_close(&lists);
    checkpoint_close(checkpoint);
    return 0;
}
