// Whole models open from each kind of source, with the numbers that their authors give.
#include "tests/test.h"

#include "base/file_map.h"
#include "base/log.h"
#include "base/number.h"
#include "base/str.h"
#include "models/chat_template.h"
#include "models/model.h"
#include "models/tokenizer.h"

#include <stdlib.h>

#define STORIES TEST_SHARED_DIR "/data/models/stories260K/"

static struct model *open_model(const char *path) {
    struct model *model = NULL;
    struct err err = {0};
    struct model_options options = {.path = path};
    if (model_open(&model, &options, &err)) fail_msg("%s", err.text);
    return model;
}

// From run.c's description of the model: dim 64, 5 layers, 8 heads, 4 key-value heads, vocabulary and context 512.
static void check_stories_shape(const struct model_spec *spec) {
    assert_string_equal(spec->family, "llama");
    assert_int_equal(spec->n_layers, 5);
    assert_int_equal(spec->hidden, 64);
    assert_int_equal(spec->n_heads, 8);
    assert_int_equal(spec->n_kv_heads, 4);
    assert_int_equal(spec->head_dim, 8);
    assert_int_equal(spec->mlp_width, 172);
    assert_int_equal(spec->vocab, 512);
    assert_int_equal(spec->context_max, 512);
    assert_true(spec->tied);
    assert_ptr_equal(spec->head.data, spec->embed.data);
    assert_ptr_equal(spec->head.rows, spec->embed.rows);
    // 512*64 + 64 + 5 * (2*64 + 64*64*2 + 2*32*64 + 3*64*172)
    assert_int_equal(spec->n_parameters, 260032);
    assert_int_equal(spec->n_ropes, 1);
    assert_int_equal(spec->ropes[0].n_dims, 8);
    assert_true(spec->ropes[0].scale == 1);
}

static void stories_folder_opens(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/hf/config.json");
    struct model *model = open_model(STORIES "hf");
    check_stories_shape(&model->spec);
    assert_string_equal(model->name, "hf");
    assert_string_equal(model->source_format, "safetensors");
    assert_false(model->spec.ropes[0].interleaved);
    assert_int_equal(model->spec.weight_bytes, 260032 * 4);
    assert_int_equal(model->n_stop_tokens, 1);
    assert_int_equal(model->stop_tokens[0], 2);
    assert_non_null(model->tokenizer);
    assert_int_equal(tokenizer_vocab(model->tokenizer), 512);
    model_close(model);
}

// A row of 64 values in any format.
static void read_row(const struct tensor *matrix, int32_t row, float out[64]) {
    uint8_t codes[64];
    float scales[2], offsets[2];
    struct tensor_row decoded = {codes, scales, offsets};
    assert_int_equal(matrix->n_cols, 64);
    if (matrix->rows) {
        tensor_rows_decode(matrix, row, 1, &decoded);
        tensor_row_values(&decoded, matrix->format, 64, out);
        return;
    }
    for (size_t i = 0; i < 64; i++) {
        uint16_t bits;
        const char *at = (const char *)matrix->data + ((size_t)row * 64 + i) * tensor_format_bytes(matrix->format);
        memcpy(&bits, at, 2);
        if (matrix->format == TENSOR_F32)
            memcpy(&out[i], at, 4);
        else
            out[i] = f32_from_f16(bits);
    }
}

// The four GGUF files hold the same weights, q and k rows in the order of pairs (2i, 2i+1), rounded to their formats.
static void gguf_files_hold_the_folders_weights(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/stories260K.f32.gguf");
    static const struct {
        const char *path;
        float tolerance;
    } files[] = {{STORIES "stories260K.f32.gguf", 0},
                 {STORIES "stories260K.f16.gguf", 2e-3f},
                 {STORIES "stories260K.q8_0.gguf", 2e-2f},
                 {STORIES "stories260K.q4_0.gguf", 3e-1f}};
    struct model *folder = open_model(STORIES "hf");
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct model *model = open_model(files[f].path);
        check_stories_shape(&model->spec);
        assert_true(model->spec.ropes[0].interleaved);
        assert_int_equal(tokenizer_vocab(model->tokenizer), 512);
        assert_int_equal(model->n_stop_tokens, 1);
        const struct tensor *a = &folder->spec.layers[3].wq, *b = &model->spec.layers[3].wq;
        for (int32_t row = 0; row < a->n_rows; row++) {
            int32_t head = row / 8, within = row % 8, hf_row = head * 8 + within % 2 * 4 + within / 2;
            float values[64];
            read_row(b, row, values);
            for (int32_t col = 0; col < a->n_cols; col++) {
                float x, y = values[col];
                memcpy(&x, (const char *)a->data + (size_t)(hf_row * a->n_cols + col) * 4, 4);
                if (!(y >= x - files[f].tolerance && y <= x + files[f].tolerance))
                    fail_msg("%s: row %d column %d: %g, folder %g", files[f].path, row, col, (double)y, (double)x);
            }
        }
        assert_memory_equal(folder->spec.ropes[0].inverse_frequency, model->spec.ropes[0].inverse_frequency,
                            4 * sizeof(float));
        for (int32_t i = 0; i < 64; i++) assert_true(folder->spec.final_norm[i] == model->spec.final_norm[i]);
        model_close(model);
    }
    model_close(folder);
}

static const char *const golden[] = {"llama2",
                                     "llama3_tied",
                                     "llama_linear_biases",
                                     "llama_yarn",
                                     "mistral_window",
                                     "mistral_full",
                                     "ministral_lower_window",
                                     "qwen2_tied",
                                     "qwen2_upper_window",
                                     "qwen3",
                                     "qwen3_tied_biases"};

// transformers wrote exactly the tensors that each architecture has: all are found and none is left over.
static void every_family_opens(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/%s", TEST_SOURCE_DIR, golden[i]);
        struct model *model = open_model(path);
        assert_string_equal(model->name, golden[i]);
        assert_int_equal(model->spec.n_layers, 2);
        assert_int_equal(model->spec.weight_bytes, model->spec.n_parameters * 4);
        const struct layer_spec *layer = &model->spec.layers[1];
        bool qwen3 = strncmp(golden[i], "qwen3", 5) == 0, qwen2 = strncmp(golden[i], "qwen2", 5) == 0;
        bool biases = strstr(golden[i], "biases") != NULL;
        assert_int_equal(layer->q_norm != NULL && layer->k_norm != NULL, qwen3);
        assert_int_equal(layer->bq && layer->bk && layer->bv, biases || qwen2);
        assert_int_equal(layer->bo != NULL, biases);
        assert_int_equal(layer->down_bias != NULL, biases && !qwen3);
        assert_int_equal(model->spec.tied, strstr(golden[i], "tied") != NULL);
        model_close(model);
    }
}

// The same models as GGUF: names and keys come from gguf-py, llama3's scaling as divisors computed in Python.
static void gguf_models_equal_their_folders(void **state) {
    (void)state;
    static const char *const names[] = {"llama3_tied", "qwen2_tied", "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/tests/golden/%s", TEST_SOURCE_DIR, names[i]);
        struct model *folder = open_model(path);
        snprintf(path, sizeof path, "%s/tests/golden/%s/model.gguf", TEST_SOURCE_DIR, names[i]);
        struct model *file = open_model(path);
        const struct model_spec *a = &folder->spec, *b = &file->spec;
        assert_string_equal(a->family, b->family);
        assert_int_equal(a->n_parameters, b->n_parameters);
        assert_int_equal(a->context_max, b->context_max);
        assert_int_equal(a->tied, b->tied);
        assert_true(a->norm_eps == b->norm_eps);
        assert_int_equal(a->ropes[0].n_dims, b->ropes[0].n_dims);
        for (int k = 0; k < a->ropes[0].n_dims / 2; k++) {
            float ratio = a->ropes[0].inverse_frequency[k] / b->ropes[0].inverse_frequency[k];
            assert_true(ratio > 1 - 1e-6f && ratio < 1 + 1e-6f);
        }
        assert_int_equal(b->ropes[0].interleaved, strcmp(a->family, "llama") == 0);
        assert_memory_equal(a->layers[1].down.data, b->layers[1].down.data, tensor_bytes(&a->layers[1].down));
        if (!b->ropes[0].interleaved)
            assert_memory_equal(a->layers[1].wk.data, b->layers[1].wk.data, tensor_bytes(&a->layers[1].wk));
        if (a->layers[1].bk) assert_memory_equal(a->layers[1].bk, b->layers[1].bk, 16 * sizeof(float));
        if (a->layers[1].k_norm) assert_memory_equal(a->layers[1].k_norm, b->layers[1].k_norm, 12 * sizeof(float));
        assert_int_equal(file->n_stop_tokens, 1);
        model_close(folder);
        model_close(file);
    }
}

// Gemma's files name the end of text alone.
static void ends_of_turns_are_stop_tokens(void **state) {
    (void)state;
    struct model *model = open_model(TEST_SOURCE_DIR "/tests/golden/gemma2/model.gguf");
    assert_int_equal(model->n_stop_tokens, 2);
    assert_int_equal(model->stop_tokens[0], 2);
    assert_int_equal(model->stop_tokens[1], 107);
    model_close(model);
}

// The text side alone, from everything that has one.
static void text_side_opens_alone(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/hf/tokenizer.json");
    static const char *const paths[] = {STORIES "hf", STORIES "hf/tokenizer.json", STORIES "stories260K.f16.gguf"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct model_text text;
        struct err err = {0};
        if (model_text_open(&text, paths[i], &err)) fail_msg("%s", err.text);
        assert_int_equal(tokenizer_vocab(text.tokenizer), 512);
        assert_null(text.chat_template);
        model_text_close(&text);
    }
}

// ---------------------------------------------------------------------------------------------------- refusals

static char root[] = "/tmp/optima_test_XXXXXX";

static void copy_golden(const char *folder, const char *name) {
    char command[1024];
    snprintf(command, sizeof command, "cp '%s/tests/golden/%s/%s' '%s/%s'", TEST_SOURCE_DIR, folder, name, root, name);
    assert_int_equal(system(command), 0);
}

static int make_root(void **state) {
    (void)state;
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static void write_config(const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#define SHAPE(hidden, layers)                                                                                          \
    "\"vocab_size\":128,\"hidden_size\":" #hidden ",\"intermediate_size\":48,\"num_hidden_layers\":" #layers           \
    ",\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":12,\"rope_theta\":1000000.0"

// The weights are those of the golden qwen3; the configuration says something else.
static void wrong_tensors_are_named_with_expected_and_actual(void **state) {
    (void)state;
    static const struct {
        const char *config, *expected;
    } rows[] = {
        {"{\"model_type\":\"qwen3\"," SHAPE(32, 2) "}", NULL},
        {"{\"model_type\":\"qwen3\"," SHAPE(64, 2) "}",
         "tensor \"model.embed_tokens.weight\": expected [128, 64], found [128, 32]"},
        {"{\"model_type\":\"qwen3\"," SHAPE(32, 3) "}",
         "expected a tensor \"model.layers.2.input_layernorm.weight\" [32], there is none"},
        {"{\"model_type\":\"qwen3\"," SHAPE(32, 1) "}",
         "11 tensors that this architecture does not have, the first \"model.layers.1."},
        {"{\"model_type\":\"llama\"," SHAPE(32, 2) "}",
         "4 tensors that this architecture does not have, the first \"model.layers."},
        {"{\"model_type\":\"qwen2\"," SHAPE(32, 2) "}",
         "expected a tensor \"model.layers.0.self_attn.q_proj.bias\" [48], there is none"},
        {"{\"model_type\":\"qwen3\"", "config.json"},
        {"{\"model_type\":\"opt\"," SHAPE(32, 2) "}", "config.json: architecture \"opt\""},
    };
    copy_golden("qwen3", "model.safetensors");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_config(rows[i].config);
        struct model *model = NULL;
        struct err err = {0};
        struct model_options options = {.path = root};
        int rc = model_open(&model, &options, &err);
        model_close(model);
        if (!rows[i].expected && rc) fail_msg("row %zu: %s", i, err.text);
        if (rows[i].expected &&
            (!rc || !strstr(err.text, rows[i].expected) || strncmp(err.text, root, strlen(root)) != 0))
            fail_msg("row %zu: \"%s\"", i, err.text);
    }
}

// Experts of gpt-oss whose configuration is off by one, or that some other program has written in full.
static void wrong_mxfp4_tensors_are_named(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *expected;
    } rows[] = {
        {"\"intermediate_size\": 64", "\"intermediate_size\": 63",
         "experts.gate_up_proj_blocks\": expected [5, 126, 1, 16], found [5, 128, 1, 16]"},
        {"\"num_local_experts\": 5", "\"num_local_experts\": 4", "router.bias\": expected [4], found [5]"},
        {"\"hidden_size\": 32", "\"hidden_size\": 33", "expected [128, 33], found [128, 32]"},
    };
    copy_golden("gpt_oss", "model.safetensors");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct file_map map;
        struct err err = {0};
        assert_int_equal(file_map_open(&map, TEST_SOURCE_DIR "/tests/golden/gpt_oss/config.json", &err), 0);
        struct str text = STR_INIT;
        const char *at = strstr(map.data, rows[i].from);
        assert_non_null(at);
        str_append(&text, map.data, (size_t)(at - map.data));
        str_append_text(&text, rows[i].to);
        at += strlen(rows[i].from);
        str_append(&text, at, map.n_bytes - (size_t)(at - map.data));
        write_config(str_text(&text));
        struct model *model = NULL;
        int rc = model_open(&model, &(struct model_options){.path = root}, &err);
        if (!rc || !strstr(err.text, rows[i].expected)) fail_msg("row %zu: \"%s\"", i, err.text);
        str_close(&text);
        file_map_close(&map);
    }
}

// The golden mistral as the language model inside a wrapper that sees images: names have a prefix, the configuration
// lies in text_config, and the wrapper's own tensors are left alone.
static void language_models_inside_wrappers_open(void **state) {
    (void)state;
    struct file_map map;
    struct err err = {0};
    assert_int_equal(file_map_open(&map, TEST_SOURCE_DIR "/tests/golden/mistral_window/model.safetensors", &err), 0);
    uint64_t header_bytes;
    memcpy(&header_bytes, map.data, sizeof header_bytes);
    struct str file = STR_INIT;
    str_append(&file, "01234567", 8);
    for (uint64_t i = 0; i < header_bytes; i++) {
        const char *at = map.data + 8 + i;
        bool is_name = strncmp(at, "\"model.", 7) == 0 || strncmp(at, "\"lm_head.", 9) == 0;
        str_append_text(&file, is_name ? "\"language_model." : "");
        if (!is_name) str_append_char(&file, *at);
        if (i == 0) str_printf(&file, "\"vision_tower.x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},");
    }
    uint64_t new_bytes = file.n_bytes - 8;
    memcpy(file.data, &new_bytes, sizeof new_bytes);
    str_append(&file, map.data + 8 + header_bytes, map.n_bytes - 8 - header_bytes);
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors", root);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file.data, 1, file.n_bytes, out), file.n_bytes);
    fclose(out);
    write_config(
        "{\"architectures\":[\"Mistral3ForConditionalGeneration\"],\"text_config\":{\"model_type\":\"mistral\","
        "\"sliding_window\":7," SHAPE(32, 2) "}}");
    struct model *model = open_model(root), *plain = open_model(TEST_SOURCE_DIR "/tests/golden/mistral_window");
    assert_int_equal(model->spec.layers[1].window, 7);
    assert_int_equal(model->spec.n_parameters, plain->spec.n_parameters);
    assert_memory_equal(model->spec.head.data, plain->spec.head.data, tensor_bytes(&plain->spec.head));
    model_close(model);
    model_close(plain);
    str_close(&file);
    file_map_close(&map);
}

// In the Hugging Face cache a folder's name is a hash; the repository's name says more.
static void cached_models_have_their_repositorys_name(void **state) {
    (void)state;
    char command[2048], path[512];
    snprintf(path, sizeof path, "%s/models--Some--Tiny-Qwen3/snapshots/0123abcd", root);
    snprintf(command, sizeof command, "mkdir -p '%s' && cp '%s'/tests/golden/qwen3/*.* '%s'", path, TEST_SOURCE_DIR,
             path);
    assert_int_equal(system(command), 0);
    struct model *model = open_model(path);
    assert_string_equal(model->name, "Tiny-Qwen3");
    assert_string_equal(model->path, path);
    model_close(model);
}

static void missing_things_are_named(void **state) {
    (void)state;
    static const char *const paths[] = {"/nonexistent", "/nonexistent.gguf", "/dev/null", "/dev/zero.gguf", "/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct model *model = NULL;
        struct err err = {0};
        struct model_options options = {.path = paths[i]};
        assert_int_not_equal(model_open(&model, &options, &err), 0);
        assert_null(model);
        assert_int_equal(strncmp(err.text, paths[i], strlen(paths[i])), 0);
    }
}

// --------------------------------------------------------------------------------------------------- templates

static void write_text(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

// Renders the folder's template without messages; "" when there is none.
static void render_folder(struct str *out) {
    struct model_text text;
    struct err err = {0};
    if (model_text_open(&text, root, &err)) fail_msg("%s", err.text);
    str_clear(out);
    if (text.chat_template) {
        struct prompt_text prompt = PROMPT_TEXT_INIT;
        struct chat_template_input input = {.context_json = STR_VIEW("{\"messages\":[]}")};
        if (chat_template_render(text.chat_template, &input, &prompt, &err)) fail_msg("%s", err.text);
        str_append(out, prompt.text.data, prompt.text.n_bytes);
        prompt_text_close(&prompt);
    }
    model_text_close(&text);
}

// Later files of this list win over earlier ones.
static void templates_come_from_the_first_source(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *expected;
    } files[] = {
        {"config.json", "{}", ""},
        {"chat_template.json", "{\"chat_template\":\"from chat_template.json\"}", "from chat_template.json"},
        {"tokenizer_config.json", "{\"eos_token\":\"x\"}", "from chat_template.json"},
        {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"}]}", "tools"},
        {"tokenizer_config.json",
         "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"},{\"name\":\"default\",\"template\":"
         "\"plain\"}]}",
         "plain"},
        {"tokenizer_config.json", "{\"chat_template\":\"from {{ 'tokenizer' }}_config\"}", "from tokenizer_config"},
        {"chat_template.jinja", "from the file", "from the file"},
    };
    struct str got = STR_INIT;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_text(files[i].name, files[i].text);
        render_folder(&got);
        if (strcmp(str_text(&got), files[i].expected) != 0) fail_msg("file %zu: \"%s\"", i, str_text(&got));
    }
    str_close(&got);
}

// Whoever renders learns why it cannot be; a model whose template is broken still completes text.
static void broken_templates_stop_rendering_alone(void **state) {
    (void)state;
    copy_golden("qwen3", "model.safetensors");
    copy_golden("qwen3", "config.json");
    write_text("chat_template.jinja", "line one\n{% if %}");
    struct model_text text;
    struct err err = {0};
    assert_int_not_equal(model_text_open(&text, root, &err), 0);
    assert_non_null(strstr(err.text, "chat_template.jinja: chat template: "));
    struct model *model = open_model(root);
    assert_null(model->chat_template);
    model_close(model);
}

// ------------------------------------------------------------------------------------- weights that no file holds

// What a device has packed can go back to the system and still be read.
static void released_weights_can_be_read(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/stories260K.q8_0.gguf");
    struct model *model = open_model(STORIES "stories260K.q8_0.gguf");
    const struct tensor *embed = &model->spec.embed;
    assert_int_equal(embed->format, TENSOR_INT8);
    uint8_t before[64], after[64];
    float scales[2], offsets[2];
    tensor_rows_decode(embed, 300, 1, &(struct tensor_row){before, scales, offsets});
    embed->rows->release(embed->rows, 0, embed->n_rows);
    model_release_weights(model);
    tensor_rows_decode(embed, 300, 1, &(struct tensor_row){after, scales, offsets});
    assert_memory_equal(before, after, sizeof before);
    assert_true(model->spec.final_norm[0] != 0); // vectors stay
    model_close(model);
}

static void random_weights_are_left_to_the_device(void **state) {
    (void)state;
    write_config("{\"model_type\":\"qwen3\",\"dtype\":\"bfloat16\"," SHAPE(512, 3) "}");
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", root);
    struct model *models[3] = {0};
    for (int i = 0; i < 3; i++) {
        struct err err = {0};
        struct model_options options = {.random_weights_path = path, .random_seed = i == 2 ? 8 : 7};
        if (model_open(&models[i], &options, &err)) fail_msg("%s", err.text);
    }
    const struct model_spec *spec = &models[0]->spec;
    assert_string_equal(models[0]->source_format, "random");
    assert_int_equal(spec->embed.format, TENSOR_BF16);
    assert_int_equal(spec->n_layers, 3);
    assert_non_null(spec->layers[2].q_norm);
    for (int i = 0; i < 12; i++) assert_true(spec->layers[2].q_norm[i] == 1);
    const struct tensor *up = &spec->layers[1].up;
    assert_true(tensor_present(up) && !up->data && up->random_key);
    assert_true(up->random_key == models[1]->spec.layers[1].up.random_key); // the seed decides
    assert_true(up->random_key != models[2]->spec.layers[1].up.random_key);
    assert_true(up->random_key != spec->layers[1].gate.random_key);
    for (int i = 0; i < 3; i++) model_close(models[i]);
}

int main(void) {
    log_level_set(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_folder_opens),
        cmocka_unit_test(gguf_files_hold_the_folders_weights),
        cmocka_unit_test(every_family_opens),
        cmocka_unit_test(gguf_models_equal_their_folders),
        cmocka_unit_test(ends_of_turns_are_stop_tokens),
        cmocka_unit_test(text_side_opens_alone),
        cmocka_unit_test(missing_things_are_named),
        cmocka_unit_test_setup_teardown(wrong_tensors_are_named_with_expected_and_actual, make_root, remove_root),
        cmocka_unit_test_setup_teardown(wrong_mxfp4_tensors_are_named, make_root, remove_root),
        cmocka_unit_test_setup_teardown(language_models_inside_wrappers_open, make_root, remove_root),
        cmocka_unit_test_setup_teardown(cached_models_have_their_repositorys_name, make_root, remove_root),
        cmocka_unit_test_setup_teardown(templates_come_from_the_first_source, make_root, remove_root),
        cmocka_unit_test_setup_teardown(broken_templates_stop_rendering_alone, make_root, remove_root),
        cmocka_unit_test(released_weights_can_be_read),
        cmocka_unit_test_setup_teardown(random_weights_are_left_to_the_device, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
