#include "tests/engine/lone_sequence.h"

#include "tests/test.h"

#include "base/file_map.h"

#include <assert.h>
#include <math.h>

bool lone_open(struct lone_engine *lone, const struct lone_options *options) {
    struct err err = {0};
    struct model_options model = {.path = options->path};
    struct backend_options backend = {.device = options->device ? options->device : "cpu",
                                      .instruction_set = options->instruction_set ? options->instruction_set : "auto",
                                      .n_threads = options->n_threads};
    struct engine_options engine = {.kv_bytes = 64 << 20,
                                    .kv_format = options->kv_format ? options->kv_format : "f32",
                                    .weights = options->weights,
                                    .comm = options->comm,
                                    .context = options->context,
                                    .steps_in_flight = options->steps_in_flight ? options->steps_in_flight : 1};
    int rc = backend_open(&lone->backend, &backend, &err);
    if (rc == ERR_UNSUPPORTED && !options->device) return false;
    if (rc) fail_msg("%s", err.text);
    if (model_open(&lone->model, &model, &err)) fail_msg("%s", err.text);
    if (engine_open(&lone->engine, lone->model, lone->backend, &engine, &err)) fail_msg("%s", err.text);
    return true;
}

void lone_close(struct lone_engine *lone) {
    engine_close(lone->engine);
    backend_close(lone->backend);
    model_close(lone->model);
}

// Blocks in an order that is not the identity: the table of any sequence visits scattered pages.
static int32_t block_number(int32_t i, int32_t n_blocks) {
    return (int32_t)(((int64_t)i * 7 + 3) % n_blocks);
}

static void fill_input(struct lone_engine *lone, const int32_t *tokens, int32_t first, int32_t n,
                       int32_t n_logit_rows) {
    const struct engine_limits *limits = engine_limits(lone->engine);
    int32_t n_blocks = limits->n_blocks - (limits->n_blocks % 7 == 0); // coprime to 7: the order is a permutation
    struct step_input *input = engine_next_input(lone->engine);
    input->n_rows = n;
    for (int32_t i = 0; i < n; i++) {
        input->token[i] = tokens[i];
        input->position[i] = first + i;
        input->sequence[i] = 0;
    }
    int32_t kv_len = first + n;
    input->n_sequences = 1;
    input->sequences[0] = (struct step_sequence){.row_first = 0, .row_count = n, .kv_len = kv_len, .block_first = 0};
    input->n_block_table = (kv_len + limits->block_tokens - 1) / limits->block_tokens;
    for (int32_t i = 0; i < input->n_block_table; i++) input->block_table[i] = block_number(i, n_blocks);
    input->n_logit_rows = n_logit_rows;
    for (int32_t i = 0; i < n_logit_rows; i++) {
        int32_t row = n - n_logit_rows + i;
        input->logit_row[i] = row;
        input->sample[i] = (struct sample_params){
            .top_p = 1, .repetition_penalty = 1, .position = first + row + 1, .n_top_logprobs = -1, .forced_token = -1};
    }
}

int32_t lone_compute(struct lone_engine *lone, const int32_t *tokens, int32_t first, int32_t n, float *logits) {
    const struct engine_limits *limits = engine_limits(lone->engine);
    assert(n <= limits->rows_max);
    int32_t n_logit_rows = logits ? n : 1;
    assert(n_logit_rows <= limits->logit_rows_max);
    fill_input(lone, tokens, first, n, n_logit_rows);
    engine_submit(lone->engine);
    const struct sample_result *results;
    struct step_record record;
    struct err err = {0};
    if (engine_collect(lone->engine, &results, &record, &err)) fail_msg("%s", err.text);
    size_t vocab = (size_t)lone->model->spec.vocab;
    for (int32_t i = 0; logits && i < n; i++)
        memcpy(logits + (size_t)i * vocab, engine_logits(lone->engine, i), vocab * sizeof *logits);
    return results[n_logit_rows - 1].token;
}

int golden_read_ids(const cJSON *object, const char *key, int32_t *ids, int n_max) {
    const cJSON *item;
    int n = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(object, key)) {
        assert_true(n < n_max);
        ids[n++] = item->valueint;
    }
    return n;
}

int golden_read_tokens(const char *folder, int32_t *tokens, int n_max) {
    char path[1100];
    snprintf(path, sizeof path, "%s/tokens.json", folder);
    struct file_map map;
    struct err err = {0};
    if (file_map_open(&map, path, &err)) fail_msg("%s", err.text);
    struct json_limits limits = JSON_LIMITS_FILE;
    cJSON *tree;
    if (json_parse(&tree, map.data, map.n_bytes, &limits, &err)) fail_msg("%s", err.text);
    const cJSON *list = cJSON_IsArray(tree) ? tree : cJSON_GetObjectItemCaseSensitive(tree, "tokens"), *item;
    int n = 0;
    cJSON_ArrayForEach(item, list) {
        assert_true(n < n_max);
        tokens[n++] = item->valueint;
    }
    cJSON_Delete(tree);
    file_map_close(&map);
    assert_true(n > 8);
    return n;
}

void golden_check_close(const char *name, const char *instruction_set, const float *got, const float *want, size_t n) {
    golden_check_within(1e-4f, name, instruction_set, got, want, n);
}

void golden_check_within(float tolerance, const char *name, const char *instruction_set, const float *got,
                         const float *want, size_t n) {
    float largest = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        if (fabsf(want[i]) > largest) largest = fabsf(want[i]);
        if (!(fabsf(got[i] - want[i]) <= worst)) worst = fabsf(got[i] - want[i]);
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s, %s: logits differ by %g of %g", name, instruction_set, (double)worst, (double)largest);
}
