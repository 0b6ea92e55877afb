// The shards of a model put together are the model.
#include "tests/test.h"

#include "models/shard.h"

static const struct model_spec *open_spec(const char *name, struct model **model) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", TEST_SOURCE_DIR, name);
    struct err err = {0};
    if (model_open(model, &(struct model_options){.path = path}, &err)) fail_msg("%s", err.text);
    return &(*model)->spec;
}

// Rows of `part` are those of `full` from first_row on, columns from first_col on.
static void check_part(const struct tensor *part, const struct tensor *full, int32_t first_row, int32_t first_col) {
    float of_part[512], of_full[512];
    assert_true(full->n_cols <= 512);
    for (int32_t r = 0; r < part->n_rows; r++) {
        tensor_values(part, r, of_part);
        tensor_values(full, first_row + r, of_full);
        assert_memory_equal(of_part, of_full + first_col, (size_t)part->n_cols * sizeof(float));
    }
}

static void check_rows(const struct tensor *part, const struct tensor *full, int rank, int n_ranks) {
    assert_int_equal(part->n_rows * n_ranks, full->n_rows);
    assert_int_equal(part->n_cols, full->n_cols);
    check_part(part, full, rank * part->n_rows, 0);
}

static void check_columns(const struct tensor *part, const struct tensor *full, int rank, int n_ranks) {
    assert_int_equal(part->n_rows, full->n_rows);
    assert_int_equal(part->n_cols * n_ranks, full->n_cols);
    check_part(part, full, 0, rank * part->n_cols);
}

static void check_layer(const struct layer_spec *part, const struct layer_spec *full, const struct model_spec *spec,
                        int rank, int n_ranks) {
    check_rows(&part->wq, &full->wq, rank, n_ranks);
    check_rows(&part->wk, &full->wk, rank, n_ranks);
    check_rows(&part->wv, &full->wv, rank, n_ranks);
    check_columns(&part->wo, &full->wo, rank, n_ranks);
    check_rows(&part->gate, &full->gate, rank, n_ranks);
    check_rows(&part->up, &full->up, rank, n_ranks);
    check_columns(&part->down, &full->down, rank, n_ranks);
    if (!full->bq) return;
    assert_ptr_equal(part->bq, full->bq + rank * spec->n_heads * spec->head_dim);
    assert_ptr_equal(part->bk, full->bk + rank * spec->n_kv_heads * spec->head_dim);
    assert_ptr_equal(part->gate_bias, full->gate_bias + rank * spec->mlp_width);
    assert_ptr_equal(part->bo, rank ? NULL : full->bo);
    assert_ptr_equal(part->down_bias, rank ? NULL : full->down_bias);
}

static void check_model(const char *name) {
    struct model *model = NULL;
    const struct model_spec *full = open_spec(name, &model);
    for (int rank = 0; rank < 2; rank++) {
        struct arena arena = ARENA_INIT;
        struct model_spec part;
        struct err err = {0};
        assert_int_equal(model_shard(&part, full, rank, 2, &arena, &err), 0);
        assert_int_equal(part.n_heads * 2, full->n_heads);
        assert_int_equal(part.n_kv_heads * 2, full->n_kv_heads);
        assert_int_equal(part.mlp_width * 2, full->mlp_width);
        assert_int_equal(part.vocab, full->vocab);
        check_rows(&part.embed, &full->embed, rank, 2);
        check_rows(&part.head, &full->head, rank, 2);
        for (int32_t i = 0; i < full->n_layers; i++) check_layer(&part.layers[i], &full->layers[i], &part, rank, 2);
        arena_close(&arena);
    }
    model_close(model);
}

static void shards_are_the_model(void **state) {
    (void)state;
    check_model("llama_linear_biases");
    check_model("quantised/packed_zeros");
}

// Down has 160 inputs: 80 a rank would be two and a half groups of 32.
static void groups_of_inputs_are_not_cut(void **state) {
    (void)state;
    struct model *model = NULL;
    const struct model_spec *full = open_spec("quantised/int8", &model);
    struct arena arena = ARENA_INIT;
    struct model_spec part;
    struct err err = {0};
    assert_int_equal(model_shard(&part, full, 0, 2, &arena, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "2 ranks would cut groups"));
    arena_close(&arena);
    model_close(model);
}

// The router is everyone's; every expert's width is cut.
static void experts_are_cut_like_the_feed_forward(void **state) {
    (void)state;
    struct model *model = NULL;
    const struct model_spec *full = open_spec("qwen3_moe", &model);
    for (int rank = 0; rank < 2; rank++) {
        struct arena arena = ARENA_INIT;
        struct model_spec part;
        struct err err = {0};
        assert_int_equal(model_shard(&part, full, rank, 2, &arena, &err), 0);
        assert_int_equal(part.expert_width, 10);
        assert_null(part.layers[0].experts);
        assert_ptr_equal(part.layers[1].router.data, full->layers[1].router.data);
        for (int32_t e = 0; e < 6; e++) {
            const struct expert *own = &part.layers[1].experts[e], *all = &full->layers[1].experts[e];
            check_rows(&own->gate, &all->gate, rank, 2);
            check_rows(&own->up, &all->up, rank, 2);
            check_columns(&own->down, &all->down, rank, 2);
        }
        arena_close(&arena);
    }
    model_close(model);
}

// Of biases and sinks every rank has those of its part, but what is added behind is rank 0's alone.
static void biases_of_experts_are_cut(void **state) {
    (void)state;
    struct model *model = NULL;
    const struct model_spec *full = open_spec("gpt_oss", &model);
    const struct layer_spec *all = &full->layers[1];
    for (int rank = 0; rank < 2; rank++) {
        struct arena arena = ARENA_INIT;
        struct model_spec part;
        struct err err = {0};
        assert_int_equal(model_shard(&part, full, rank, 2, &arena, &err), 0);
        const struct layer_spec *own = &part.layers[1];
        for (int32_t e = 0; e < 5; e++)
            for (int32_t f = 0; f < 32; f++) {
                assert_true(own->gate_bias[e * 32 + f] == all->gate_bias[e * 64 + rank * 32 + f]);
                assert_true(own->up_bias[e * 32 + f] == all->up_bias[e * 64 + rank * 32 + f]);
            }
        assert_int_equal(own->experts[3].down.col_first, rank * 32);
        assert_ptr_equal(own->sinks, all->sinks + 2 * rank);
        assert_ptr_equal(own->router_bias, all->router_bias);
        assert_ptr_equal(own->down_bias, rank ? NULL : all->down_bias);
        arena_close(&arena);
    }
    model_close(model);
}

// A vocabulary of 128 on 3 ranks would be 43, 43 and 42 rows; 4 heads on 3 ranks cannot be.
static void uneven_parts(void **state) {
    (void)state;
    assert_int_equal(shard_vocab_rows(128, 3), 43);
    struct model *model = NULL;
    const struct model_spec *full = open_spec("llama2", &model);
    struct arena arena = ARENA_INIT;
    struct model_spec part;
    struct err err = {0};
    assert_int_equal(model_shard(&part, full, 0, 3, &arena, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "3 ranks cannot share 4 heads"));
    arena_close(&arena);
    model_close(model);
}

// The parts of fused tensors are those of the tensors in them.
static void parts_of_fused_tensors(void **state) {
    (void)state;
    struct model *model = NULL;
    const struct model_spec *full = open_spec("phi3_window", &model);
    for (int rank = 0; rank < 2; rank++) {
        struct arena arena = ARENA_INIT;
        struct model_spec part;
        struct err err = {0};
        assert_int_equal(model_shard(&part, full, rank, 2, &arena, &err), 0);
        for (int32_t i = 0; i < full->n_layers; i++) check_layer(&part.layers[i], &full->layers[i], &part, rank, 2);
        arena_close(&arena);
    }
    model_close(model);
}

static void norms_over_all_heads_are_not_cut(void **state) {
    (void)state;
    struct model *model = NULL;
    const struct model_spec *full = open_spec("olmo2", &model);
    struct arena arena = ARENA_INIT;
    struct model_spec part;
    struct err err = {0};
    assert_int_equal(model_shard(&part, full, 0, 2, &arena, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "olmo2"));
    arena_close(&arena);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_the_model),
        cmocka_unit_test(groups_of_inputs_are_not_cut),
        cmocka_unit_test(experts_are_cut_like_the_feed_forward),
        cmocka_unit_test(biases_of_experts_are_cut),
        cmocka_unit_test(uneven_parts),
        cmocka_unit_test(parts_of_fused_tensors),
        cmocka_unit_test(norms_over_all_heads_are_not_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
