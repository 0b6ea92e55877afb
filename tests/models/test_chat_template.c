// The interpreter against Python's Jinja2: renderings of real templates, and small cases of the language.
#include "tests/models/template_files.h"

struct tally {
    int n_right, n_wrong;
};

// Shows where the two texts part.
static void report(const char *name, const char *expected, const char *got) {
    size_t same = 0;
    while (expected[same] && expected[same] == got[same]) same++;
    size_t from = same > 30 ? same - 30 : 0;
    printf("%s\n  expected: %.100s\n  got:      %.100s\n", name, expected + from, got + from);
}

// `expected` NULL: the rendering must fail.
static void check(struct tally *tally, const char *name, struct str_view source, struct str_view context,
                  const struct token *tokens, size_t n_tokens, const char *expected) {
    struct prompt_text out;
    struct err err = {0};
    int code = render_once(source, context, tokens, n_tokens, &out, &err);
    bool right = expected ? code == 0 && out.text.n_bytes == strlen(expected) &&
                                !memcmp(str_text(&out.text), expected, out.text.n_bytes)
                          : code != 0;
    if (!right) report(name, expected ? expected : "an error", code ? err.text : str_text(&out.text));
    right ? tally->n_right++ : tally->n_wrong++;
    prompt_text_close(&out);
}

static const char *text_of(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void renders_every_real_template_as_jinja2_does(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/template_renderings_jinja2.json");
    struct file_text file = read_file("data/expected/template_renderings_jinja2.json");
    struct str_view contexts = member(file.text, "contexts");
    cJSON *results = parse_json(member(file.text, "results")), *result;
    struct tally tally = {0};
    cJSON_ArrayForEach(result, results) {
        char path[300], name[400];
        struct str context = STR_INIT;
        bool prompts = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(result, "add_generation_prompt"));
        snprintf(path, sizeof path, "data/%s", text_of(result, "template"));
        snprintf(name, sizeof name, "%s, %s, %d", path, text_of(result, "case"), prompts);
        struct file_text template = read_file(path);
        struct str_view given = member(contexts, text_of(result, "case"));
        str_append(&context, given.data, given.n_bytes - 1);
        str_printf(&context, ",\"add_generation_prompt\":%s}", prompts ? "true" : "false");
        struct str_view view = {context.data, context.n_bytes};
        check(&tally, name, template.text, view, standard_tokens, 2, text_of(result, "rendered"));
        str_close(&context);
        file_map_close(&template.map);
    }
    printf("%d of %d renderings\n", tally.n_right, tally.n_right + tally.n_wrong);
    assert_int_equal(tally.n_wrong, 0);
    cJSON_Delete(results);
    file_map_close(&file.map);
}

// The next element of an array's text; false at its end. *at starts behind the bracket.
static bool next_element(struct str_view array, size_t *at, struct str_view *text) {
    size_t i = *at, depth = 0;
    bool quoted = false;
    while (i < array.n_bytes && array.data[i] != '{') i++;
    for (size_t begin = i; i < array.n_bytes; i++) {
        char c = array.data[i];
        if (quoted) {
            if (c == '\\') i++;
            quoted = c != '"';
            continue;
        }
        quoted = c == '"';
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && --depth == 0) {
            *text = (struct str_view){array.data + begin, i + 1 - begin};
            *at = i + 1;
            return true;
        }
    }
    return false;
}

// Cases of a file: each has a template, its variables under `context_key` and the expected text under `expected_key`.
static void check_cases(const char *path, const char *template_key, const char *context_key, const char *expected_key) {
    struct file_text file = read_file(path);
    cJSON *cases = parse_json(file.text), *item;
    struct tally tally = {0};
    struct str_view element = {0};
    size_t at = 0;
    cJSON_ArrayForEach(item, cases) {
        assert_true(next_element(file.text, &at, &element));
        struct token tokens[2];
        size_t n_tokens = 0;
        const cJSON *data = cJSON_GetObjectItemCaseSensitive(item, context_key);
        const char *names[] = {"bos_token", "eos_token"};
        for (int i = 0; i < 2; i++)
            if (text_of(data, names[i])) tokens[n_tokens++] = (struct token){names[i], text_of(data, names[i])};
        check(&tally, text_of(item, "name"), str_view_of(text_of(item, template_key)), member(element, context_key),
              tokens, n_tokens, text_of(item, expected_key));
    }
    printf("%d of %d cases\n", tally.n_right, tally.n_right + tally.n_wrong);
    assert_int_equal(tally.n_wrong, 0);
    cJSON_Delete(cases);
    file_map_close(&file.map);
}

static void agrees_with_python_on_conversations(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/jinja_e2e_cases.json");
    check_cases("data/expected/jinja_e2e_cases.json", "chat_template", "data", "target_python");
}

static void agrees_with_python_on_the_language(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/jinja_unit_cases_python.json");
    check_cases("data/expected/jinja_unit_cases_python.json", "template", "context", "expected");
}

// Made by tests/golden/make_jinja.py.
static void agrees_with_python_on_the_corners(void **state) {
    (void)state;
    struct file_map file;
    struct err err;
    if (file_map_open(&file, TEST_SOURCE_DIR "/tests/golden/jinja_cases.json", &err)) fail_msg("%s", err.text);
    struct str_view text = file_map_text(&file), context = member(text, "context");
    cJSON *cases = parse_json(member(text, "cases")), *item;
    struct tally tally = {0};
    cJSON_ArrayForEach(item, cases) {
        const char *source = text_of(item, "template");
        check(&tally, source, str_view_of(source), context, NULL, 0, text_of(item, "expected"));
    }
    printf("%d of %d corners\n", tally.n_right, tally.n_right + tally.n_wrong);
    assert_int_equal(tally.n_wrong, 0);
    cJSON_Delete(cases);
    file_map_close(&file);
}

static void check_variables(const struct chat_template *template, const char *context, const char *expected) {
    struct prompt_text out;
    struct err err;
    struct chat_template_input input = {.context_json = str_view_of(context)};
    if (chat_template_render(template, &input, &out, &err)) fail_msg("%s: %s", context, err.text);
    assert_string_equal(str_text(&out.text), expected);
    prompt_text_close(&out);
}

// The model's tokens go before a client's variables; its template for tools renders only when there are tools.
static void the_models_own_come_first(void **state) {
    (void)state;
    struct chat_template *template;
    struct err err;
    struct str_view source = STR_VIEW("{{ bos_token }}|{{ pad_token is defined }}|{{ eos_token }}|{{ x }}");
    if (chat_template_open(&template, source, &err)) fail_msg("%s", err.text);
    chat_template_add_token(template, "bos_token", STR_VIEW("<s>"));
    chat_template_add_token(template, "bos_token", STR_VIEW("later"));
    chat_template_add_token(template, "pad_token", (struct str_view){0});
    check_variables(template, "{\"bos_token\":\"forged\",\"eos_token\":\"given\",\"x\":1.0}", "<s>|False|given|1.0");
    assert_true(chat_template_uses(template, "x") && !chat_template_uses(template, "tools"));
    if (chat_template_add_tool_use(template, STR_VIEW("{{ tools | length }} tools"), &err)) fail_msg("%s", err.text);
    assert_true(chat_template_uses(template, "tools"));
    check_variables(template, "{\"tools\":[1,2]}", "2 tools");
    check_variables(template, "{\"tools\":[]}", "<s>|False||");
    check_variables(template, "{\"tools\":null}", "<s>|False||");
    chat_template_close(template);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_models_own_come_first),
        cmocka_unit_test(agrees_with_python_on_the_corners),
        cmocka_unit_test(agrees_with_python_on_the_language),
        cmocka_unit_test(agrees_with_python_on_conversations),
        cmocka_unit_test(renders_every_real_template_as_jinja2_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
