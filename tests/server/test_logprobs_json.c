// Log probabilities are written as both endpoints promise: exact bytes, honest alternatives, offsets in code points.
#include "tests/test.h"

#include "base/json.h"
#include "server/logprobs_json.h"

#include <math.h>
#include <stdlib.h>

// Byte-level: "a", a blank and "b", the two halves of U+00E4, and a marker.
static const char tokenizer_json[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\u0120b\":1,\"\\u00c3\":2,\"\\u00a4\":3},\"merges\":[]},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true,"
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false}]}";

static int open_tokenizer(void **state) {
    struct err err = {0};
    struct tokenizer *tokenizer;
    int rc = tokenizer_open_json(&tokenizer, str_view_of(tokenizer_json), (struct str_view){0}, &err);
    if (rc) fail_msg("%s", err.text);
    *state = tokenizer;
    return 0;
}

static int close_tokenizer(void **state) {
    tokenizer_close(*state);
    return 0;
}

static void add(struct logprobs_json *json, int32_t token, float logprob, int32_t n_top, const int32_t *top) {
    struct sample_result sample = {.token = token, .logprob = logprob, .n_top = n_top};
    for (int32_t i = 0; i < n_top; i++) sample.top_token[i] = top[i], sample.top_logprob[i] = -0.5f * (float)(i + 1);
    logprobs_json_add(json, token, &sample);
}

static void check(struct logprobs_json *json, const char *expected) {
    struct str out = STR_INIT;
    logprobs_json_write(json, &out);
    assert_string_equal(str_text(&out), expected);
    struct json_limits limits = JSON_LIMITS_CLIENT;
    assert_int_equal(json_validate(out.data, out.n_bytes, &limits, NULL), 0);
    str_close(&out);
}

static void chat_tokens_carry_their_bytes(void **state) {
    struct logprobs_json json = {.tokenizer = *state, .chat = true, .n_top = 1};
    add(&json, 1, -1.5f, 2, (const int32_t[]){0, 1});
    add(&json, 2, -INFINITY, 0, NULL);
    check(&json,
          "{\"content\":[{\"token\":\" b\",\"logprob\":-1.5,\"bytes\":[32,98],\"top_logprobs\":["
          "{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97]}]},"
          "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[195],\"top_logprobs\":[]}],\"refusal\":null}");
    check(&json, "{\"content\":[],\"refusal\":null}"); // what was written is forgotten
    logprobs_json_close(&json);
}

static void completions_tokens_line_up(void **state) {
    struct detokenizer text = {.tokenizer = *state, .skip_special = true};
    struct logprobs_json json = {.tokenizer = *state, .n_top = 2, .text = text};
    logprobs_json_add(&json, 4, NULL);                // a marker has no place in the text
    add(&json, 0, -0.5f, 2, (const int32_t[]){0, 1}); // among the alternatives
    add(&json, 2, -3, 2, (const int32_t[]){0, 1});    // not among them: one more
    add(&json, 3, -2, 0, NULL);                       // the second half of a code point
    add(&json, 1, -1, 2, (const int32_t[]){1, 1});    // equal texts: the more probable stays
    check(&json, "{\"tokens\":[\"<s>\",\"a\",\"bytes:\\\\xc3\",\"bytes:\\\\xa4\",\" b\"],"
                 "\"token_logprobs\":[null,-0.5,-3,-2,-1],"
                 "\"top_logprobs\":[null,{\"a\":-0.5,\" b\":-1},{\"a\":-0.5,\" b\":-1,\"bytes:\\\\xc3\":-3},"
                 "{\"bytes:\\\\xa4\":-2},{\" b\":-0.5}],\"text_offset\":[0,0,1,2,2]}");
    logprobs_json_close(&json);
}

static void prompt_entries_are_ranked(void **state) {
    struct sample_result sample = {
        .token = 1, .rank = 7, .logprob = -4, .n_top = 2, .top_token = {0, 3}, .top_logprob = {-1, -2}};
    struct str out = STR_INIT;
    prompt_logprobs_append(&out, *state, &sample, 1);
    assert_string_equal(str_text(&out), "{\"0\":{\"logprob\":-1,\"rank\":1,\"decoded_token\":\"a\"},"
                                        "\"1\":{\"logprob\":-4,\"rank\":7,\"decoded_token\":\" b\"}}");
    str_close(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_tokens_carry_their_bytes),
        cmocka_unit_test(completions_tokens_line_up),
        cmocka_unit_test(prompt_entries_are_ranked),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
