// Templates that want too much, or are no templates, end with an error inside their budget.
#include "tests/models/template_files.h"

#include "base/rng.h"

#include <dirent.h>

static const struct attack {
    const char *name, *source;
    int code;
    const char *text; // what the error says
} attacks[] = {
    {"classes", "{{ ''.__class__.__mro__ }}", ERR_INVALID, "SecurityError"},
    {"subclasses", "{{ [].__class__.__base__.__subclasses__() }}", ERR_INVALID, "SecurityError"},
    {"globals of a function", "{{ range.__globals__ }}{{ range.__globals__.os }}", ERR_INVALID, "SecurityError"},
    {"a format string", "{{ '{0.__class__.__mro__}'.format(1) }}", ERR_INVALID, "SecurityError"},
    {"attributes by item", "{{ messages['__class__']['__init__'] }}", ERR_INVALID, "SecurityError"},
    {"changing a list", "{{ messages.append(1) }}", ERR_INVALID, "SecurityError"},
    {"changing a dict", "{{ messages[0].update({}) }}", ERR_INVALID, "SecurityError"},
    {"files", "{% include '/etc/passwd' %}", ERR_FORMAT, "unknown tag"},
    {"modules", "{% import 'os' as os %}", ERR_FORMAT, "unknown tag"},
    {"inheritance", "{% extends 'x' %}", ERR_FORMAT, "unknown tag"},
    {"a long range", "{% for i in range(10**9) %}{% endfor %}", ERR_INVALID, "Range too big"},
    {"an endless range", "{{ range(-9223372036854775807, 9223372036854775807) | length }}", ERR_INVALID,
     "Range too big"},
    {"nested loops", "{% for i in range(10**4) %}{% for j in range(10**4) %}{% endfor %}{% endfor %}", ERR_LIMIT, ""},
    {"nested loops over one list", "{% set r = range(10**4) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
     ERR_LIMIT, "steps"},
    {"recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ERR_LIMIT, "deep"},
    {"mutual recursion", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
     ERR_LIMIT, "deep"},
    {"branching recursion", "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
     ERR_LIMIT, "steps"},
    {"recursive loop", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", ERR_LIMIT, "deep"},
    {"a long string", "{{ 'a' * 10**9 }}", ERR_LIMIT, ""},
    {"a long list", "{{ ([1] * 10**9) | length }}", ERR_LIMIT, "memory"},
    {"a list of lists", "{{ ([[1] * 10**6] * 10**7) | length }}", ERR_LIMIT, "memory"},
    {"doubling text",
     "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
     ERR_LIMIT, ""},
    {"doubling lists",
     "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", ERR_LIMIT, ""},
    {"growing text",
     "{% set ns = namespace(s='') %}{% for i in range(10**5) %}{% set ns.s = ns.s ~ 'aaaaaaaaaaaaaaaa' %}"
     "{% endfor %}",
     ERR_LIMIT, ""},
    {"nested lists",
     "{% set ns = namespace(s=[]) %}{% for i in range(10**5) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
     ERR_LIMIT, "deep"},
    {"comparing nested lists",
     "{% set ns = namespace(a=[], b=[]) %}{% for i in range(10**4) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}"
     "{% endfor %}{{ ns.a == ns.b }}",
     ERR_LIMIT, "deep"},
    {"JSON of nested lists",
     "{% set ns = namespace(s=[]) %}{% for i in range(10**4) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}",
     ERR_LIMIT, "deep"},
    {"a list seen often",
     "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
     "{{ ns.s }}",
     ERR_LIMIT, ""},
    {"comparing a list seen often",
     "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
     "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
     ERR_LIMIT, "steps"},
    {"padding", "{{ 'a'.center(10**9) }}", ERR_LIMIT, "output"},
    {"padding by format", "{{ '%999999999d' % 1 }}", ERR_INVALID, "too large"},
    {"padding by braces", "{{ '{:999999999}'.format(1) }}", ERR_INVALID, "too large"},
    {"precision", "{{ '%.99999f' % 1.5 }}", ERR_INVALID, "precision"},
    {"indent", "{{ 'a\nb' | indent(10**9, true) }}", ERR_LIMIT, "output"},
    {"JSON indent", "{{ [1] | tojson(indent=10**9) }}", ERR_LIMIT, "output"},
    {"replacing nothing", "{{ ('a' * 10**6).replace('', 'a' * 1000) }}", ERR_LIMIT, ""},
    {"splitting", "{% set s = 'a' * 10**6 %}{% for i in range(10**5) %}{% set x = s.split('a') %}{% endfor %}",
     ERR_LIMIT, ""},
    {"searching", "{% set s = 'a' * 10**6 %}{% for i in range(10**5) %}{% set x = 'b' in s %}{% endfor %}", ERR_LIMIT,
     "steps"},
    {"searching backwards",
     "{% set s = 'a' * 10**6 %}{% for i in range(10**5) %}{% set x = s.rfind('b') %}{% endfor %}", ERR_LIMIT, "steps"},
    {"slices of wide text", "{% set s = 'é' * 10**6 %}{% for i in range(10**5) %}{% set x = s[999999] %}{% endfor %}",
     ERR_LIMIT, "steps"},
    {"joining", "{{ range(10**5) | join('a' * 10**4) }}", ERR_LIMIT, "output"},
    {"batches", "{{ [1] | batch(10**9, 0) | list }}", ERR_LIMIT, "memory"},
    {"slices", "{{ [1] | slice(10**9) | list }}", ERR_LIMIT, ""},
    {"sorting", "{% for i in range(10**4) %}{{ range(10**4) | sort | length }}{% endfor %}", ERR_LIMIT, ""},
    {"a power", "{{ 9 ** 999999999 }}", ERR_INVALID, "OverflowError"},
    {"a negative range", "{{ -9223372036854775807 - 2 }}", ERR_INVALID, "OverflowError"},
    {"the one quotient that does not fit", "{{ (-9223372036854775807 - 1) // -1 }}", ERR_INVALID, "OverflowError"},
    {"the remainder beside it", "{{ 1 // 0 }}", ERR_INVALID, "ZeroDivisionError"},
    {"an unbalanced if", "{% if true %}", ERR_FORMAT, "line 1"},
    {"an unbalanced end", "a\n{% endfor %}", ERR_FORMAT, "line 2"},
    {"crossed blocks", "{% if true %}{% for x in y %}{% endif %}{% endfor %}", ERR_FORMAT, "endif"},
    {"an open print", "{{ 1", ERR_FORMAT, "end of template"},
    {"an open string", "{{ 'a }}", ERR_FORMAT, "unexpected char"},
    {"an open comment", "a {# b", ERR_FORMAT, "comment"},
    {"an open raw", "{% raw %} {% endraw", ERR_FORMAT, "raw"},
    {"crossed brackets", "{{ (1] }}", ERR_FORMAT, "expected ')'"},
    {"a lone bracket", "{{ ) }}", ERR_FORMAT, "unexpected ')'"},
    {"a large literal", "{{ 99999999999999999999 }}", ERR_FORMAT, "64 bits"},
    {"an unknown filter", "{{ 1 | nothing }}", ERR_FORMAT, "No filter named 'nothing'"},
    {"break outside", "{% break %}", ERR_FORMAT, "loop"},
    {"a surrogate", "{{ '\\ud800' }}", ERR_FORMAT, "Unicode"},
};

#define CONTEXT STR_VIEW("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}")

__attribute__((unused)) static void attacks_end_with_an_error(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        const struct attack *attack = &attacks[i];
        struct prompt_text out;
        struct err err = {0};
        int code = render_once(str_view_of(attack->source), CONTEXT, NULL, 0, &out, &err);
        if (code != attack->code || !strstr(err.text, attack->text))
            fail_msg("%s: %d %s", attack->name, code, err.text);
        prompt_text_close(&out);
    }
}

// `head`, `part` n times, `middle`, `tail` n times, `end`.
static struct str repeated(const char *head, const char *part, size_t n, const char *middle, const char *tail,
                           const char *end) {
    struct str text = STR_INIT;
    str_append_text(&text, head);
    for (size_t i = 0; i < n; i++) str_append_text(&text, part);
    str_append_text(&text, middle);
    for (size_t i = 0; i < n; i++) str_append_text(&text, tail);
    str_append_text(&text, end);
    return text;
}

static void large_sources_end(void **state) {
    (void)state;
    static const struct {
        const char *head, *part;
        size_t n;
        const char *middle, *tail, *end;
        bool renders; // it is large, but nothing is wrong with it
    } sources[] = {
        {"{{ ", "(", 100000, "1", ")", " }}", false},
        {"{{ ", "[", 100000, "1", "]", " }}", false},
        {"{{ ", "{1:", 100000, "1", "}", " }}", false},
        {"{{ ", "-", 100000, "1", "", " }}", false},
        {"{{ ", "not ", 100000, "1", "", " }}", false},
        {"{{ ", "1 if 0 else ", 80000, "1", "", " }}", false},
        {"{{ ", "1+", 500000, "1", "", " }}", false},
        {"{{ ", "x.", 500000, "x", "", " }}", false},
        {"{{ x", "[0]", 300000, "", "", " }}", false},
        {"{{ x", "()", 300000, "", "", " }}", false},
        {"{{ x", "|e", 400000, "", "", " }}", false},
        {"{{ 1|a", ".a", 500000, "", "", " }}", false},
        {"{{ 1", " is true", 100000, "", "", " }}", false},
        {"{{ 1", "<2", 400000, "", "", " }}", false},
        {"{{ 1", "~1", 500000, "", "", " }}", false},
        {"{{ '", "a", 2000000, "", "", "' }}", false},
        {"{{ ", "'a'", 340000, "", "", " }}", true},
        {"", "{% if 1 %}", 40000, "x", "{% endif %}", "", false},
        {"", "{% for i in x %}", 40000, "x", "{% endfor %}", "", false},
        {"", "{{1}}", 200000, "", "", "", false},
        {"{% set ", "(", 50000, "a", ")", " = 1 %}", false},
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct str text = repeated(sources[i].head, sources[i].part, sources[i].n, sources[i].middle, sources[i].tail,
                                   sources[i].end);
        struct prompt_text out;
        struct err err = {0};
        int code = render_once((struct str_view){text.data, text.n_bytes}, CONTEXT, NULL, 0, &out, &err);
        if (!code != sources[i].renders) fail_msg("source %zu: %d %s", i, code, err.text);
        prompt_text_close(&out);
        str_close(&text);
    }
}

// Limits hold as given, and what stays below them renders.
static void limits_are_the_callers(void **state) {
    (void)state;
    struct chat_template *template;
    struct err err = {0};
    if (chat_template_open(&template, STR_VIEW("{% for i in range(100) %}{{ (i) }}{% endfor %}"), &err))
        fail_msg("%s", err.text);
    static const struct {
        struct template_limits limits;
        int code;
    } cases[] = {
        {{0}, 0},
        {{.steps = 1000}, 0},
        {{.steps = 100}, ERR_LIMIT},
        {{.output_bytes = 190}, 0},
        {{.output_bytes = 189}, ERR_LIMIT},
        {{.depth = 8}, 0},
        {{.depth = 2}, ERR_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prompt_text out;
        struct chat_template_input input = {.context_json = STR_VIEW("{}"), .limits = cases[i].limits};
        int code = chat_template_render(template, &input, &out, &err);
        if (code != cases[i].code) fail_msg("case %zu: %d %s", i, code, err.text);
        assert_int_equal(out.text.n_bytes, code ? 0 : 190);
        prompt_text_close(&out);
    }
    chat_template_close(template);
}

// The i-th way to replace three bytes of a text.
static void damage(uint64_t i, struct str *text) {
    uint64_t key = rng_key(1, i, text->n_bytes);
    for (uint64_t k = 0; k < 6; k += 2)
        text->data[rng_u32(key, k) % text->n_bytes] = (char)(rng_u32(key, k + 1) % 127 + 1);
}

static void damaged_templates_do_no_harm(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/templates");
    DIR *folder = opendir(TEST_SHARED_DIR "/data/templates");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[400];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "data/templates/%s", entry->d_name);
        struct file_text file = read_file(path);
        for (uint64_t i = 0; i < 10; i++) {
            struct str text = STR_INIT;
            struct prompt_text out;
            struct err err = {0};
            str_append(&text, file.text.data, file.text.n_bytes);
            damage(i, &text);
            int code = render_once((struct str_view){text.data, text.n_bytes}, CONTEXT, NULL, 0, &out, &err);
            assert_true(code == 0 || err.text[0]);
            prompt_text_close(&out);
            str_close(&text);
        }
        file_map_close(&file.map);
    }
    closedir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#if !defined(__SANITIZE_THREAD__) // a million steps each take minutes there, on one thread
        cmocka_unit_test(attacks_end_with_an_error),
#endif
        cmocka_unit_test(large_sources_end),
        cmocka_unit_test(limits_are_the_callers),
        cmocka_unit_test(damaged_templates_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
