// Configurations: both spellings of config.json mean the same, GGUF keys mean what config.json means, scaled rotary
// frequencies are those of other implementations, and what is not known is refused by name.
#include "tests/test.h"

#include "base/file_map.h"
#include "base/log.h"
#include "models/family.h"
#include "tests/models/gguf_builder.h"

#include <math.h>

static int read_text(struct model_config *config, struct arena *arena, const char *text, struct err *err) {
    return config_read_json(config, arena, str_view_of(text), err);
}

static void read_file(struct model_config *config, struct arena *arena, const char *folder, const char *name) {
    char path[512];
    struct file_map map;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/tests/golden/%s/%s", TEST_SOURCE_DIR, folder, name);
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    if (config_read_json(config, arena, (struct str_view){map.data, map.n_bytes}, &err))
        fail_msg("%s: %s", path, err.text);
    file_map_close(&map);
}

// What tests/golden/make.py asked transformers for.
static const struct {
    const char *folder, *family;
    int32_t n_kv_heads, head_dim;
    bool tied;
    unsigned traits;
    enum rope_kind rope;
    int32_t windows[2]; // of the two layers
} golden[] = {
    {"llama2", "llama", 4, 8, false, 0, ROPE_PLAIN, {0, 0}},
    {"llama3_tied", "llama", 2, 8, true, 0, ROPE_LLAMA3, {0, 0}},
    {"llama_linear_biases", "llama", 2, 8, false, TRAIT_QKV_BIAS | TRAIT_O_BIAS | TRAIT_MLP_BIAS, ROPE_LINEAR, {0, 0}},
    {"llama_yarn", "llama", 2, 8, false, 0, ROPE_YARN, {0, 0}},
    {"mistral_window", "mistral", 2, 12, false, 0, ROPE_PLAIN, {7, 7}},
    {"mistral_full", "mistral", 1, 6, false, 0, ROPE_PLAIN, {0, 0}},
    {"ministral_lower_window", "mistral", 2, 8, false, 0, ROPE_PLAIN, {7, 0}},
    {"qwen2_tied", "qwen2", 2, 8, true, TRAIT_QKV_BIAS, ROPE_PLAIN, {0, 0}},
    {"qwen2_upper_window", "qwen2", 2, 8, false, TRAIT_QKV_BIAS, ROPE_YARN, {0, 5}},
    {"qwen3", "qwen3", 2, 12, false, TRAIT_QK_NORM, ROPE_PLAIN, {0, 0}},
    {"qwen3_tied_biases", "qwen3", 2, 8, true, TRAIT_QK_NORM | TRAIT_QKV_BIAS | TRAIT_O_BIAS, ROPE_PLAIN, {0, 0}},
};

static void both_spellings_mean_the_same(void **state) {
    (void)state;
    static const char *const files[] = {"config.json", "config_transformers4.json"};
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        struct arena arena = ARENA_INIT;
        struct rope_spec ropes[2];
        for (int f = 0; f < 2; f++) {
            struct model_config c;
            read_file(&c, &arena, golden[i].folder, files[f]);
            assert_string_equal(c.family->name, golden[i].family);
            assert_int_equal(c.n_layers, 2);
            assert_int_equal(c.hidden, 32);
            assert_int_equal(c.mlp_width, 48);
            assert_int_equal(c.n_heads, 4);
            assert_int_equal(c.vocab, 128);
            assert_int_equal(c.context_max, 64);
            assert_int_equal(c.n_kv_heads, golden[i].n_kv_heads);
            assert_int_equal(c.head_dim, golden[i].head_dim);
            assert_int_equal(c.tied, golden[i].tied);
            assert_int_equal(c.traits, golden[i].traits);
            assert_int_equal(c.rope.kind, golden[i].rope);
            assert_int_equal(c.weight_format, TENSOR_F32);
            for (int layer = 0; layer < 2; layer++)
                assert_int_equal(config_window(&c, layer), golden[i].windows[layer]);
            assert_int_equal(c.n_stop_tokens, 1);
            assert_int_equal(c.stop_tokens[0], 2);
            ropes[f] = rope_make(&c.rope, &arena);
        }
        assert_true(ropes[0].scale == ropes[1].scale);
        for (int k = 0; k < golden[i].head_dim / 2; k++)
            assert_true(ropes[0].inverse_frequency[k] == ropes[1].inverse_frequency[k]);
        arena_close(&arena);
    }
}

// What differs between layers in the families that mix them, and what scales.
static const struct {
    const char *folder, *family;
    int32_t n_layers, windows[5], ropes[5];
    double attention_divisor, attention_soft_cap, final_soft_cap;
    bool tied;
} mixed[] = {
    {"gemma2", "gemma2", 3, {7, 0, 7}, {0, 0, 0}, 12, 2, 4, true},
    {"gemma3", "gemma3", 4, {7, 7, 0, 7}, {1, 1, 0, 1}, 12, 0, 0, true},
    {"gemma3_in_wrapper", "gemma3", 4, {7, 7, 0, 7}, {1, 1, 0, 1}, 24, 0, 0, true},
    {"phi3_window", "phi3", 2, {9, 9}, {0, 0}, 0, 0, 0, false},
    {"phi3_long", "phi3", 2, {0, 0}, {0, 0}, 0, 0, 0, true},
    {"olmo2", "olmo2", 2, {0, 0}, {0, 0}, 0, 0, 0, false},
    {"gpt_oss", "gpt_oss", 3, {7, 0, 7}, {0, 0, 0}, 0, 0, 0, false},
    {"smollm3", "smollm3", 5, {0}, {0, 0, 0, -1, 0}, 0, 0, 0, true},
    {"smollm3_listed", "smollm3", 2, {0}, {-1, 0}, 0, 0, 0, false},
};

static void layers_differ_as_the_family_says(void **state) {
    (void)state;
    static const char *const files[] = {"config.json", "config_transformers4.json"};
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++) {
        struct arena arena = ARENA_INIT;
        struct model_config c[2];
        for (int f = 0; f < 2; f++) {
            read_file(&c[f], &arena, mixed[i].folder, files[f]);
            assert_string_equal(c[f].family->name, mixed[i].family);
            assert_int_equal(c[f].n_layers, mixed[i].n_layers);
            assert_int_equal(c[f].tied, mixed[i].tied);
            for (int layer = 0; layer < c[f].n_layers; layer++) {
                assert_int_equal(config_window(&c[f], layer), mixed[i].windows[layer]);
                assert_int_equal(config_rope(&c[f], layer), mixed[i].ropes[layer]);
            }
            assert_true(c[f].attention_divisor == mixed[i].attention_divisor);
            assert_true(c[f].attention_soft_cap == mixed[i].attention_soft_cap);
            assert_true(c[f].final_soft_cap == mixed[i].final_soft_cap);
        }
        assert_int_equal(c[0].rope.kind, c[1].rope.kind);
        assert_int_equal(c[0].rope.n_dims, c[1].rope.n_dims);
        assert_true(c[0].rope.theta == c[1].rope.theta && c[0].rope.factor == c[1].rope.factor);
        assert_true(c[0].local_rope.theta == c[1].local_rope.theta);
        arena_close(&arena);
    }
}

// As Google publishes the text part of Gemma 3 4B: whatever is as in most models is left out.
static void gemma_has_defaults(void **state) {
    (void)state;
    struct arena arena = ARENA_INIT;
    struct model_config c;
    struct err err = {0};
    const char *text = "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"eos_token_id\":[1,106],"
                       "\"torch_dtype\":\"bfloat16\",\"text_config\":{\"hidden_size\":2560,"
                       "\"intermediate_size\":10240,\"model_type\":\"gemma3_text\",\"num_hidden_layers\":34,"
                       "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"sliding_window\":1024}}";
    if (read_text(&c, &arena, text, &err)) fail_msg("%s", err.text);
    assert_int_equal(c.n_heads, 8);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 256);
    assert_int_equal(c.vocab, 262208);
    assert_int_equal(c.context_max, 131072);
    assert_int_equal(c.activation, ACTIVATION_GELU_TANH);
    assert_true(c.tied && c.rope.theta == 1e6 && c.rope.factor == 8 && c.rope.kind == ROPE_LINEAR);
    assert_true(c.local_rope.theta == 1e4 && c.local_rope.kind == ROPE_PLAIN && c.attention_divisor == 256);
    assert_int_equal(config_window(&c, 4), 1024);
    assert_int_equal(config_window(&c, 5), 0);
    assert_int_equal(c.n_stop_tokens, 2);
    assert_int_equal(c.stop_tokens[1], 106);
    arena_close(&arena);
}

#define SHAPE                                                                                                          \
    "\"vocab_size\":128,\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4"
#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"]," SHAPE
#define PHI3 "\"architectures\":[\"Phi3ForCausalLM\"]," SHAPE
#define EXPERTS "\"architectures\":[\"Qwen3MoeForCausalLM\"]," SHAPE

static void unknown_quantisations_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}",
         "quantization_config: quant_method \"bitsandbytes\""},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":2}}", "quantization_config: bits 2"},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":48}}",
         "group_size 48"},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}}",
         "checkpoint_format \"marlin\""},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,64]}}",
         "weight_block_size: blocks"},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":128}}",
         "no list of two numbers"},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"dense\"}}",
         "\"dense\""},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}}",
         "config_groups has 0 groups"},
        {"{" LLAMA ",\"quantization_config\":[1]}", "quantization_config: not an object"},
        {"{" LLAMA ",\"quantization\":{\"bits\":4}}", "MLX"},
        {"{\"model_type\":\"gpt_oss\",\"quantization_config\":{\"quant_method\":\"gptq\"}," SHAPE "}", "bits 0"},
        {"{" LLAMA ",\"quantization_config\":{\"quant_method\":\"mxfp4\"}}", "mxfp4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena arena = ARENA_INIT;
        struct model_config config;
        struct err err = {0};
        int rc = read_text(&config, &arena, rows[i].text, &err);
        if (!rc || !strstr(err.text, rows[i].expected)) fail_msg("row %zu: \"%s\"", i, err.text);
        arena_close(&arena);
    }
}

static void unknown_things_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"", "byte"},
        {"[]", "not a JSON object"},
        {"{}", "architecture \"\" is not supported"},
        {"{\"architectures\":[\"GPT2LMHeadModel\"]," SHAPE "}",
         "\"GPT2LMHeadModel\" is not supported (supported: LlamaForCausalLM"},
        {"{\"architectures\":[\"CohereForCausalLM\"],\"model_type\":\"llama\"," SHAPE "}", "CohereForCausalLM"},
        {"{\"architectures\":[\"MixtralForCausalLM\"]," SHAPE "}", "num_local_experts is missing"},
        {"{" EXPERTS ",\"num_experts\":8}", "the number of experts a token hits is 0"},
        {"{" EXPERTS ",\"num_experts\":8,\"num_experts_per_tok\":9}", "hits is 9, not within 1 and 8"},
        {"{" EXPERTS ",\"num_experts\":9999,\"num_experts_per_tok\":9}", "the number of experts is 9999"},
        {"{" EXPERTS ",\"num_experts\":8,\"num_experts_per_tok\":2,\"mlp_only_layers\":[77]}", "mlp_only_layers"},
        {"{" EXPERTS ",\"num_experts\":8,\"num_experts_per_tok\":2,\"decoder_sparse_step\":0}", "decoder_sparse_step"},
        {"{" EXPERTS ",\"shared_expert_intermediate_size\":16}", "shared_expert_intermediate_size"},
        {"{\"architectures\":[\"LlamaForCausalLM\"]}", "vocab_size is missing"},
        {"{" LLAMA ",\"num_experts\":8}", "num_experts"},
        {"{" LLAMA ",\"num_local_experts\":8}", "num_local_experts"},
        {"{" LLAMA ",\"attn_logit_softcapping\":50.0}", "attn_logit_softcapping"},
        {"{" LLAMA ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor"},
        {"{" LLAMA ",\"hidden_act\":\"relu\"}", "hidden_act \"relu\""},
        {"{" LLAMA ",\"rope_scaling\":{\"type\":\"longrope\",\"factor\":2}}", "rope_type \"longrope\""},
        {"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "no factor"},
        {"{" LLAMA ",\"no_rope_layers\":[1,0]}", "no_rope_layers"},
        {"{" LLAMA ",\"rope_local_base_freq\":10000}", "rope_local_base_freq"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1]," SHAPE "}", "each of the 2 layers"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,2]," SHAPE "}", "other than 0 and 1"},
        {"{\"model_type\":\"smollm3\",\"use_sliding_window\":true," SHAPE "}", "without layer_types"},
        {"{\"model_type\":\"gemma2\",\"query_pre_attn_scalar\":-1," SHAPE "}", "the scale or the soft caps"},
        {"{\"model_type\":\"gemma2\",\"final_logit_softcapping\":\"30\"," SHAPE "}", "final_logit_softcapping"},
        {"{\"model_type\":\"gemma3_text\",\"sliding_window_pattern\":0," SHAPE "}", "sliding_window_pattern"},
        {"{\"model_type\":\"gemma3_text\",\"use_bidirectional_attention\":true," SHAPE "}", "bidirectional"},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,1,1,1]}}", "long_factor"},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,1,1]}}", "short_factor"},
        {"{" PHI3 ",\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1,1,1,0]}}", "short_factor"},
        {"{" PHI3 ",\"original_max_position_embeddings\":0,\"rope_scaling\":{\"type\":\"su\",\"short_factor\":"
         "[1,1,1,1],\"long_factor\":[1,1,1,1]}}",
         "original context"},
        {"{\"model_type\":\"gpt_oss\"," SHAPE "}", "num_local_experts is missing"},
        {"{\"model_type\":\"gpt_oss\",\"swiglu_limit\":5," SHAPE "}", "swiglu_limit"},
        {"{" PHI3 ",\"partial_rotary_factor\":0.1}", "rotary embedding of 0"},
        {"{" PHI3 ",\"partial_rotary_factor\":1.5}", "partial_rotary_factor"},
        {"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":0}}", "rotary embedding"},
        {"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":\"4\"}}", "factor"},
        {"{" LLAMA ",\"rope_scaling\":7}", "rope_scaling"},
        {"{" LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}", "differ between layers"},
        {"{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"llama_4_scaling_beta\":0.1}}",
         "llama_4_scaling_beta"},
        {"{" LLAMA ",\"rope_theta\":1}", "rotary embedding"},
        {"{" LLAMA ",\"layer_types\":[\"full_attention\"]}", "layer_types"},
        {"{" LLAMA ",\"layer_types\":[\"full_attention\",\"linear_attention\"]}", "\"linear_attention\""},
        {"{" LLAMA ",\"num_key_value_heads\":3}", "evenly"},
        {"{" LLAMA ",\"num_key_value_heads\":8}", "key-value heads is 8"},
        {"{" LLAMA ",\"head_dim\":7}", "rotary embedding of 7"},
        {"{" LLAMA ",\"head_dim\":4096}", "head width"},
        {"{" LLAMA ",\"max_position_embeddings\":0}", "context is 0"},
        {"{" LLAMA ",\"max_position_embeddings\":1e30}", "max_position_embeddings"},
        {"{" LLAMA ",\"rms_norm_eps\":-1}", "epsilon"},
        {"{" LLAMA ",\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena arena = ARENA_INIT;
        struct model_config config;
        struct err err = {0};
        int rc = read_text(&config, &arena, rows[i].text, &err);
        if (!rc || !strstr(err.text, rows[i].expected)) fail_msg("row %zu: \"%s\"", i, err.text);
        arena_close(&arena);
    }
}

static void neutral_values_say_nothing(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{" LLAMA ",\"quantization_config\":null,\"num_experts\":0,\"partial_rotary_factor\":1.0,\"use_mrope\":false}",
        "{" LLAMA ",\"rope_scaling\":null,\"rope_parameters\":null,\"layer_types\":null,\"sliding_window\":null}",
        "{\"model_type\":\"llama\"," SHAPE ",\"hidden_act\":\"swish\"}",
        "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"text_config\":{\"model_type\":\"mistral\"," SHAPE
        "}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct arena arena = ARENA_INIT;
        struct model_config config;
        struct err err = {0};
        if (read_text(&config, &arena, texts[i], &err)) fail_msg("text %zu: %s", i, err.text);
        assert_int_equal(config.head_dim, 8);
        assert_int_equal(config.n_kv_heads, 4);
        assert_false(config.tied);
        assert_int_equal(config.rope.kind, ROPE_PLAIN);
        arena_close(&arena);
    }
}

static void windows_follow_the_family(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int32_t windows[2];
    } rows[] = {
        {"{\"model_type\":\"llama\",\"sliding_window\":5," SHAPE "}", {0, 0}},
        {"{\"model_type\":\"mistral\",\"sliding_window\":5," SHAPE "}", {5, 5}},
        {"{\"model_type\":\"mistral\",\"sliding_window\":null," SHAPE "}", {0, 0}},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":5," SHAPE "}", {0, 0}},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":5,\"use_sliding_window\":false,\"max_window_layers\":0," SHAPE
         "}",
         {0, 0}},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":5,\"use_sliding_window\":true,\"max_window_layers\":1," SHAPE
         "}",
         {0, 5}},
        {"{\"model_type\":\"qwen3\",\"sliding_window\":5,\"use_sliding_window\":true,\"max_window_layers\":2," SHAPE
         "}",
         {0, 0}},
        {"{\"model_type\":\"qwen3\",\"sliding_window\":5,\"use_sliding_window\":true,\"max_window_layers\":2,"
         "\"layer_types\":[\"sliding_attention\",\"full_attention\"]," SHAPE "}",
         {5, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena arena = ARENA_INIT;
        struct model_config config;
        struct err err = {0};
        if (read_text(&config, &arena, rows[i].text, &err)) fail_msg("row %zu: %s", i, err.text);
        for (int layer = 0; layer < 2; layer++)
            if (config_window(&config, layer) != rows[i].windows[layer]) fail_msg("row %zu layer %d", i, layer);
        arena_close(&arena);
    }
}

static void stop_tokens_are_united(void **state) {
    (void)state;
    struct arena arena = ARENA_INIT;
    struct model_config config;
    struct err err = {0};
    assert_int_equal(read_text(&config, &arena, "{" LLAMA ",\"eos_token_id\":[5,-1,128,1e99]}", &err), 0);
    struct str_view generation =
        STR_VIEW("{\"eos_token_id\":[5,9,\"x\"],\"temperature\":0.6,\"top_p\":0.95,\"top_k\":20,"
                 "\"repetition_penalty\":\"high\",\"do_sample\":true}");
    assert_int_equal(config_read_generation(&config, generation, &err), 0);
    assert_int_equal(config.n_stop_tokens, 2);
    assert_int_equal(config.stop_tokens[0], 5);
    assert_int_equal(config.stop_tokens[1], 9);
    assert_true(config.defaults.has_temperature && config.defaults.temperature == 0.6f);
    assert_true(config.defaults.has_top_p && config.defaults.top_p == 0.95f);
    assert_true(config.defaults.has_top_k && config.defaults.top_k == 20);
    assert_false(config.defaults.has_repetition_penalty);
    for (int64_t id = 10; id < 40; id++) config_add_stop_token(&config, id);
    assert_int_equal(config.n_stop_tokens, MODEL_STOP_TOKENS_MAX);
    arena_close(&arena);
}

static void context_grows_with_yarn(void **state) {
    (void)state;
    struct arena arena = ARENA_INIT;
    struct model_config config;
    struct err err = {0};
    const char *text = "{" LLAMA ",\"max_position_embeddings\":100,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
                       "\"original_max_position_embeddings\":100}}";
    assert_int_equal(read_text(&config, &arena, text, &err), 0);
    assert_int_equal(config.context_max, 400);
    arena_close(&arena);
}

// cos and sin at positions 0 .. n_positions-1, as vLLM's rotary modules compute them (files of float32: [row, cos and
// sin], position 0 at row `first`).
static void check_rope(const char *name, const struct rope_config *config, int first, int n_positions) {
    char path[512];
    struct file_map map;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/data/expected/ops/%s/cos_sin_cache.npy", TEST_SHARED_DIR, name);
    assert_int_equal(file_map_open(&map, path, &err), 0);
    uint16_t header_bytes;
    memcpy(&header_bytes, map.data + 8, sizeof header_bytes); // behind the magic and version of .npy 1.0
    const char *values = map.data + 10 + header_bytes;
    struct arena arena = ARENA_INIT;
    struct rope_spec rope = rope_make(config, &arena);
    int n = rope.n_dims / 2;
    values += (size_t)first * 2 * (size_t)n * sizeof(float);
    assert_true(values + (size_t)n_positions * 2 * (size_t)n * sizeof(float) <= map.data + map.n_bytes);
    for (int p = 0; p < n_positions; p++) {
        for (int i = 0; i < n; i++) {
            float expected[2];
            memcpy(&expected[0], values + ((size_t)p * 2 * (size_t)n + (size_t)i) * 4, 4);
            memcpy(&expected[1], values + ((size_t)p * 2 * (size_t)n + (size_t)(n + i)) * 4, 4);
            double angle = (double)((float)p * rope.inverse_frequency[i]);
            assert_true(fabs(cos(angle) * (double)rope.scale - (double)expected[0]) < 2e-6);
            assert_true(fabs(sin(angle) * (double)rope.scale - (double)expected[1]) < 2e-6);
        }
    }
    arena_close(&arena);
    file_map_close(&map);
}

static void scaled_frequencies_agree_with_others(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/ops/long_rope_llama3_neox_f32_bands/cos_sin_cache.npy");
    struct rope_config llama3 = ROPE_CONFIG_INIT, yarn = ROPE_CONFIG_INIT, phi3 = ROPE_CONFIG_INIT;
    llama3.kind = ROPE_LLAMA3;
    llama3.n_dims = 16;
    llama3.factor = 4;
    llama3.original_context = 32;
    check_rope("long_rope_llama3_neox_f32_bands", &llama3, 0, 128);
    yarn.kind = ROPE_YARN;
    yarn.n_dims = 8;
    yarn.factor = 4;
    yarn.original_context = 32;
    check_rope("long_rope_yarn_neox_f32_truncate", &yarn, 0, 128);
    // Rows for short contexts, then those for long ones.
    static const float short_factors[] = {1, 1.1f, 1.2f, 1.3f}, long_factors[] = {2, 2.2f, 2.4f, 2.6f};
    phi3.kind = ROPE_LONG;
    phi3.n_dims = 8;
    phi3.factor = 4;
    phi3.original_context = 32;
    phi3.divisors = short_factors;
    check_rope("long_rope_phi3_neox_f32_short", &phi3, 0, 32);
    phi3.divisors = long_factors;
    check_rope("long_rope_phi3_neox_f32_short", &phi3, 32, 128);
}

// A GGUF file with keys and an embedding table alone, which is all that a configuration needs.
static void build_gguf_config(struct gguf_builder *b, const char *scaling, const char *architecture) {
    *b = (struct gguf_builder){0};
    build_bytes(b, "GGUF", 4);
    build_field(b, "version", 3, 4);
    build_field(b, "n_tensors", 2, 8);
    build_field(b, "n_values", 11, 8);
    build_text(b, "general.architecture", architecture);
    build_u32(b, "llama.block_count", 2);
    build_u32(b, "llama.embedding_length", 32);
    build_u32(b, "llama.feed_forward_length", 48);
    build_key(b, "llama.attention.head_count", GGUF_ARRAY); // one number a layer
    build_field(b, "element type", GGUF_I32, 4);
    build_field(b, "array count", 2, 8);
    build_field(b, "heads of layer 0", 4, 4);
    build_field(b, "heads of layer 1", 4, 4);
    build_u32(b, "llama.attention.head_count_kv", 2);
    build_u32(b, "llama.attention.sliding_window", 5);
    build_text(b, "llama.rope.scaling.type", scaling);
    build_f32(b, "llama.rope.scaling.factor", 4);
    build_u32(b, "llama.rope.scaling.original_context_length", 32);
    build_u32(b, "llama.context_length", 128);
    build_tensor(b, "token_embd.weight", 128, 32, 0, 1, 4);
    build_tensor(b, "rope_freqs.weight", 0, 4, 0, 1, 4);
    while (b->bytes.n_bytes % 32) str_append_char(&b->bytes, 0);
    static const float divisors[4] = {1, 2, 4, 8};
    for (uint64_t i = 0; i < 128 * 32 * 4; i++) str_append_char(&b->bytes, 0);
    build_bytes(b, divisors, sizeof divisors);
}

static void gguf_keys_mean_the_same(void **state) {
    (void)state;
    static const struct {
        const char *scaling, *architecture;
        enum rope_kind kind;
        const char *refused; // part of the error
    } rows[] = {{"none", "llama", ROPE_PLAIN, NULL},
                {"linear", "llama", ROPE_LINEAR, NULL},
                {"yarn", "llama", ROPE_YARN, NULL},
                {"longrope", "llama", ROPE_PLAIN, "neither none nor linear nor yarn"},
                {"none", "mamba", ROPE_PLAIN, "architecture \"mamba\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gguf_builder b;
        build_gguf_config(&b, rows[i].scaling, rows[i].architecture);
        struct gguf gguf;
        struct err err = {0};
        if (gguf_open(&gguf, b.bytes.data, b.bytes.n_bytes, &err)) fail_msg("%s", err.text);
        struct arena arena = ARENA_INIT;
        struct model_config c;
        int rc = config_read_gguf(&c, &arena, &gguf, &err);
        if (rows[i].refused) {
            assert_int_equal(rc, ERR_UNSUPPORTED);
            assert_non_null(strstr(err.text, rows[i].refused));
        } else {
            if (rc) fail_msg("%s", err.text);
            assert_int_equal(c.n_heads, 4);
            assert_int_equal(c.n_kv_heads, 2);
            assert_int_equal(c.head_dim, 8);
            assert_int_equal(config_window(&c, 1), 5);
            assert_true(c.tied && c.rope.interleaved);
            assert_int_equal(c.rope.kind, rows[i].kind);
            struct rope_spec rope = rope_make(&c.rope, &arena);
            // The last pair: theta^(-6/8), divided by its own divisor and by the factor of 4 of either scaling.
            double factor = rows[i].kind == ROPE_PLAIN ? 1 : 4;
            assert_true(fabs((double)rope.inverse_frequency[3] * pow(10000, 0.75) * 8 * factor - 1) < 1e-6);
            double scale = rows[i].kind == ROPE_YARN ? 0.1 * log(4) + 1 : 1;
            assert_true(fabs((double)rope.scale - scale) < 1e-6);
        }
        arena_close(&arena);
        gguf_close(&gguf);
        builder_close(&b);
    }
}

int main(void) {
    log_level_set(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_mean_the_same),
        cmocka_unit_test(layers_differ_as_the_family_says),
        cmocka_unit_test(gemma_has_defaults),
        cmocka_unit_test(unknown_quantisations_are_refused_by_name),
        cmocka_unit_test(unknown_things_are_refused_by_name),
        cmocka_unit_test(neutral_values_say_nothing),
        cmocka_unit_test(windows_follow_the_family),
        cmocka_unit_test(stop_tokens_are_united),
        cmocka_unit_test(context_grows_with_yarn),
        cmocka_unit_test(scaled_frequencies_agree_with_others),
        cmocka_unit_test(gguf_keys_mean_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
