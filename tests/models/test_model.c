// Whole models open from each kind of source, with the numbers that their authors give.
#include "tests/test.h"

#include "base/number.h"
#include "models/model.h"

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
    assert_true(model->n_stop_tokens >= 1);
    assert_int_equal(model->stop_tokens[0], 2);
    model_close(model);
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
        const struct tensor *a = &folder->spec.layers[3].wq, *b = &model->spec.layers[3].wq;
        for (int32_t row = 0; row < a->n_rows; row++) {
            int32_t head = row / 8, within = row % 8, hf_row = head * 8 + within % 2 * 4 + within / 2;
            for (int32_t col = 0; col < a->n_cols; col++) {
                float x, y;
                memcpy(&x, (const char *)a->data + (size_t)(hf_row * a->n_cols + col) * 4, 4);
                if (b->format == TENSOR_F32) {
                    memcpy(&y, (const char *)b->data + (size_t)(row * a->n_cols + col) * 4, 4);
                } else {
                    uint16_t bits;
                    memcpy(&bits, (const char *)b->data + (size_t)(row * a->n_cols + col) * 2, 2);
                    y = f32_from_f16(bits);
                }
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_folder_opens),
        cmocka_unit_test(gguf_files_hold_the_folders_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
