// However the bytes are split into tokens, the text is the same: whole code points, cut where the first stop string
// ends, and every token's fate told once, in order.
#include "tests/test.h"

#include "server/text_stream.h"

#include <stdlib.h>

struct stream_case {
    const char *bytes;
    const char *stops[4];
    bool include_stop;
    const char *text;
    bool stopped;
};

static const struct stream_case cases[] = {
    {"hello world", {0}, false, "hello world", false},
    {"", {"x"}, false, "", false},
    {"hello world", {"wor"}, false, "hello ", true},
    {"hello world", {"wor"}, true, "hello wor", true},
    {"hello world", {"world!"}, false, "hello world", false},
    {"abcabcabd!", {"abcabd"}, false, "abc", true},
    {"aaaaab", {"aaab"}, false, "aa", true},
    {"xabcdy", {"abcd", "bc"}, false, "xa", true}, // "bc" ends first
    {"xabcdy", {"bcd", "abcd"}, false, "x", true}, // both end together: the longer one
    {"xabcdy", {"d", "abcde"}, false, "xabc", true},
    {"STOPSTO", {"STOPSTOP"}, false, "STOPSTO", false},
    {"a\xc3\xa4z", {"\xc3\xa4"}, false, "a", true},
    {"\xf0\x9f\x98\x80!", {"!"}, true, "\xf0\x9f\x98\x80!", true},
    {"a\xf0\x9f", {0}, false, "a\xef\xbf\xbd", false},                   // unfinished at the end
    {"a\xf0\x9fz\xff", {0}, false, "a\xef\xbf\xbdz\xef\xbf\xbd", false}, // broken in the middle
    {"\n\nUser: x", {"\n\n\n", "\n\nUser:"}, false, "", true},
    {"<|im_en<|im_end|>", {"<|im_end|>"}, false, "<|im_en", true},
};

struct run_result {
    char text[256];
    bool stopped;
    size_t n_pushed, n_released, n_dropped;
};

// Splits the bytes into tokens where the bits of `cuts` say so.
static void run_split(const struct stream_case *c, uint64_t cuts, struct run_result *result) {
    struct arena arena = ARENA_INIT;
    struct stop_set stops = {0};
    for (size_t i = 0; i < 4 && c->stops[i]; i++) stop_set_add(&stops, &arena, c->stops[i], strlen(c->stops[i]));
    struct text_stream stream;
    text_stream_open(
        &stream, &(struct text_stream_options){.stops = &stops, .include_stop = c->include_stop, .track_tokens = true});
    struct str out = STR_INIT;
    *result = (struct run_result){0};
    size_t n = strlen(c->bytes);
    for (size_t begin = 0; begin < n && !result->stopped;) {
        size_t end = begin + 1;
        while (end < n && !(cuts >> end & 1)) end++;
        result->stopped = text_stream_push(&stream, c->bytes + begin, end - begin, &out);
        assert_int_equal(utf8_valid_prefix(str_text(&out), out.n_bytes), out.n_bytes);
        result->n_pushed++;
        begin = end;
        for (enum token_fate fate; (fate = text_stream_next_fate(&stream)) != TOKEN_PENDING;)
            fate == TOKEN_RELEASED ? result->n_released++ : result->n_dropped++;
    }
    text_stream_finish(&stream, &out);
    for (enum token_fate fate; (fate = text_stream_next_fate(&stream)) != TOKEN_PENDING;)
        fate == TOKEN_RELEASED ? result->n_released++ : result->n_dropped++;
    snprintf(result->text, sizeof result->text, "%s", str_text(&out));
    str_close(&out);
    text_stream_close(&stream);
    arena_close(&arena);
}

static void any_split_gives_the_same_text(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct stream_case *c = &cases[i];
        size_t n = strlen(c->bytes);
        uint64_t n_splits = n > 13 ? 8192 : 1u << n;
        for (uint64_t split = 0; split < n_splits; split++) {
            struct run_result result;
            uint64_t cuts = n > 13 ? split * 0x9e3779b97f4a7c15u : split;
            run_split(c, cuts, &result);
            if (strcmp(result.text, c->text) != 0) fail_msg("case %zu gave \"%s\"", i, result.text);
            assert_int_equal(result.stopped, c->stopped);
            assert_int_equal(result.n_released + result.n_dropped, result.n_pushed);
            if (!c->stopped) assert_int_equal(result.n_dropped, 0);
        }
    }
}

static void tokens_without_text_in_the_answer_are_dropped(void **state) {
    (void)state;
    struct run_result result;
    // Tokens "ab", "cS", "TO", "P": the second gave "c", the last two nothing.
    const struct stream_case c = {"abcSTOP", {"STOP"}, false, "abc", true};
    run_split(&c, 1u << 2 | 1u << 4 | 1u << 6, &result);
    assert_string_equal(result.text, "abc");
    assert_int_equal(result.n_released, 2);
    assert_int_equal(result.n_dropped, 2);
}

static void text_is_released_as_soon_as_it_is_decided(void **state) {
    (void)state;
    static const struct {
        const char *token, *released;
    } steps[] = {{"Hello", "Hello"},       {" ST", " "}, {"O", ""}, {"X", "STOX"}, {"\xe2\x82", ""},
                 {"\xac", "\xe2\x82\xac"}, {"S", ""}};
    struct arena arena = ARENA_INIT;
    struct stop_set stops = {0};
    stop_set_add(&stops, &arena, "STOP", 4);
    struct text_stream stream;
    text_stream_open(&stream, &(struct text_stream_options){.stops = &stops});
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct str out = STR_INIT;
        assert_false(text_stream_push(&stream, steps[i].token, strlen(steps[i].token), &out));
        assert_string_equal(str_text(&out), steps[i].released);
        str_close(&out);
    }
    struct str rest = STR_INIT;
    text_stream_finish(&stream, &rest);
    assert_string_equal(str_text(&rest), "S");
    str_close(&rest);
    text_stream_close(&stream);
    arena_close(&arena);
}

static void stop_strings_wait_for_the_fewest_tokens(void **state) {
    (void)state;
    struct arena arena = ARENA_INIT;
    struct stop_set stops = {0};
    stop_set_add(&stops, &arena, "aa", 2);
    struct text_stream stream;
    text_stream_open(&stream, &(struct text_stream_options){.stops = &stops, .n_tokens_min = 2});
    struct str out = STR_INIT;
    assert_false(text_stream_push(&stream, "aa", 2, &out));
    assert_false(text_stream_push(&stream, "ab", 2, &out));
    assert_true(text_stream_push(&stream, "caad", 4, &out));
    assert_string_equal(str_text(&out), "aaabc");
    str_close(&out);
    text_stream_close(&stream);
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_split_gives_the_same_text),
        cmocka_unit_test(tokens_without_text_in_the_answer_are_dropped),
        cmocka_unit_test(text_is_released_as_soon_as_it_is_decided),
        cmocka_unit_test(stop_strings_wait_for_the_fewest_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
