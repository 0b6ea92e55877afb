// Any text as config.json and as generation_config.json: what is accepted gives finite rotary frequencies, windows and
// stop tokens within the vocabulary.
#include "tests/fuzz/fuzz.h"

#include "base/log.h"
#include "models/config.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void add_text(const char *text) {
    fuzz_add_seed(text, strlen(text));
}

void fuzz_seeds(void) {
    log_level_set(LOG_LEVEL_ERROR);
    add_text(
        "{\"architectures\":[\"Qwen2ForCausalLM\"],\"vocab_size\":128,\"hidden_size\":32,\"intermediate_size\":48,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"eos_token_id\":[2,3],"
        "\"layer_types\":[\"full_attention\",\"sliding_attention\"],\"sliding_window\":5,\"use_sliding_window\":true,"
        "\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":16,"
        "\"rope_theta\":10000.0,\"beta_slow\":0.05},\"dtype\":\"float32\",\"temperature\":0.7}");
    add_text(
        "{\"model_type\":\"llama\",\"vocab_size\":256,\"hidden_size\":64,\"intermediate_size\":128,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"head_dim\":16,\"rope_theta\":500000.0,\"rope_scaling\":"
        "{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192},\"quantization_config\":null,\"tie_word_embeddings\":true}");
    add_text("{\"model_type\":\"llama\",\"vocab_size\":256,\"hidden_size\":64,\"intermediate_size\":128,"
             "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"quantization_config\":{\"quant_method\":"
             "\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":{\"group_0\":{\"weights\":{"
             "\"num_bits\":4,\"type\":\"int\",\"symmetric\":false,\"strategy\":\"group\",\"group_size\":32}}}}}");
    add_text("{\"model_type\":\"llama\",\"vocab_size\":256,\"hidden_size\":64,\"intermediate_size\":128,"
             "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"quantization_config\":{\"quant_method\":"
             "\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":[128,128]}}");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct str_view text = {(const char *)bytes, n_bytes};
    struct arena arena = ARENA_INIT;
    struct model_config config;
    struct err err = {0};
    if (config_read_json(&config, &arena, text, &err) == 0 && config_read_generation(&config, text, &err) == 0) {
        struct rope_spec rope = rope_make(&config.rope, &arena);
        for (int32_t i = 0; i < rope.n_dims / 2; i++) assert(isfinite(rope.inverse_frequency[i]));
        assert(isfinite(rope.scale));
        for (int32_t i = 0; i < config.n_layers; i++) assert(config_window(&config, i) >= 0);
        for (int32_t i = 0; i < config.n_stop_tokens; i++) assert(config.stop_tokens[i] < config.vocab);
    }
    arena_close(&arena);
    return 0;
}
