// A draft model is refused unless its tokens are the target's, and is found where a model has one beside it.
#include "tests/engine/lone_sequence.h"
#include "tests/test.h"

#include "engine/draft_model.h"

static void other_tokens_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *target, *draft, *text; // NULL: accepted
    } rows[] = {
        {"demo", "demo/draft", NULL},
        {"demo", "demo", NULL},
        {"demo", TEST_SOURCE_DIR "/tests/golden/llama3_tied", "it has 128 tokens, the model 4096"},
        {TEST_SOURCE_DIR "/tests/golden/llama3_tied", "demo", NULL}, // it has no tokenizer, and fewer ids
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model *target, *draft;
        struct err err = {0};
        if (model_open(&target, &(struct model_options){.path = rows[i].target}, &err)) fail_msg("%s", err.text);
        if (model_open(&draft, &(struct model_options){.path = rows[i].draft}, &err)) fail_msg("%s", err.text);
        int rc = draft_model_check_tokens(target, draft, &err);
        assert_int_equal(rc, rows[i].text ? ERR_INVALID : 0);
        if (rows[i].text && !strstr(err.text, rows[i].text)) fail_msg("\"%s\"", err.text);
        model_close(draft);
        model_close(target);
    }
}

// Both have 512 or more tokens; the first that differs is named with its text on either side.
static void the_first_token_that_differs_is_named(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/models/stories260K/hf");
    struct model *target, *draft;
    struct err err = {0};
    if (model_open(&target, &(struct model_options){.path = TEST_SHARED_DIR "/data/models/stories260K/hf"}, &err))
        fail_msg("%s", err.text);
    if (model_open(&draft, &(struct model_options){.path = "demo"}, &err)) fail_msg("%s", err.text);
    assert_int_equal(draft_model_check_tokens(target, draft, &err), ERR_INVALID);
    if (!strstr(err.text, "token 0 is \"<|endoftext|>\" there and \"<unk>\" here")) fail_msg("\"%s\"", err.text);
    model_close(draft);
    model_close(target);
}

static void the_draft_beside_a_model_is_found(void **state) {
    (void)state;
    char path[4096];
    assert_true(draft_model_find(NULL, path));
    assert_string_equal(path, "demo/draft");
    assert_true(draft_model_find("demo", path));
    assert_true(draft_model_find(TEST_SOURCE_DIR "/models/demo", path));
    assert_string_equal(path, TEST_SOURCE_DIR "/models/demo/draft");
    assert_false(draft_model_find(TEST_SOURCE_DIR "/tests/golden/llama3_tied", path));
    assert_false(draft_model_find("/nowhere", path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_tokens_are_refused),
        cmocka_unit_test(the_first_token_that_differs_is_named),
        cmocka_unit_test(the_draft_beside_a_model_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
