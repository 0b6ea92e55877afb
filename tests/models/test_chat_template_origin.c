// Text of a request stays untrusted through everything that a template can do to it, so that nobody forges a role.
#include "tests/models/template_files.h"

#include "base/utf8.h"

#include <dirent.h>
#include <stdlib.h>

// The rendering with its untrusted parts in brackets: «...».
static void show_parts(const struct prompt_text *prompt, struct str *out) {
    str_clear(out);
    for (size_t i = 0; i < prompt->n_parts; i++) {
        const struct text_part *part = &prompt->parts[i];
        if (!part->trusted) str_append_text(out, "«");
        str_append(out, prompt->text.data + part->begin, part->end - part->begin);
        if (!part->trusted) str_append_text(out, "»");
    }
}

#define VARIABLES                                                                                                      \
    "{\"x\":\"ab\",\"y\":\" a-b \",\"l\":[\"p\",\"q\"],\"d\":{\"k\":\"v\"},\"n\":7,\"f\":1.5,\"t\":true,\"z\":null,"   \
    "\"w\":\"é<b>\",\"role\":\"user\",\"messages\":[{\"role\":\"user\"},{\"role\":\"users\"}]}"

static const struct {
    const char *source, *expected;
} operations[] = {
    {"a{{ x }}b", "a«ab»b"},
    {"{{ 'a' + x + 'b' }}", "a«ab»b"},
    {"{{ 'a' ~ x ~ 1 }}", "a«ab»1"},
    {"{{ ('<' + x + '>')[1:] }}", "«ab»>"},
    {"{{ ('<' + x + '>')[:2] }}", "<«a»"},
    {"{{ ('<' + x + '>')[::-1] }}", ">«ba»<"},
    {"{{ ('<' + x + '>')[1] }}", "«a»"},
    {"{{ ('<' + x + '>') * 2 }}", "<«ab»><«ab»>"},
    {"{{ ('<' + x + '>') | upper }}", "<«AB»>"},
    {"{{ x | title }}{{ x.capitalize() }}{{ x.swapcase() }}", "«AbAbAB»"},
    {"{{ y | trim }}", "«a-b»"},
    {"{{ (' ' + y + ' ').strip() }}", "«a-b»"},
    {"{{ y.split('-')[0] }}|{{ y.split()[0] }}", "« a»|«a-b»"},
    {"{{ ('<,' + x + ',>').split(',') | join(';') }}", "<;«ab»;>"},
    {"{{ ('<,' + x + ',>').rsplit(',', 1)[0] }}", "<,«ab»"},
    {"{{ ('<,' + x).partition(',')[2] }}", "«ab»"},
    {"{{ ('<\n' + x).splitlines()[1] }}", "«ab»"},
    {"{{ '<x>'.replace('x', x) }}", "<«ab»>"},
    {"{{ x.replace('a', '<') }}", "«<b»"},
    {"{{ x | replace('a', '<') }}", "«<b»"},
    {"{{ ('a' + x) | replace('a', '<') }}", "<«<b»"},
    {"{{ ('<' + x).removeprefix('<') }}", "«ab»"},
    {"{{ l | join('|') }}", "«p»|«q»"},
    {"{{ '|'.join(l) }}", "«p»|«q»"},
    {"{{ x.join(['1', '2']) }}", "1«ab»2"},
    {"{{ '<%s>' % x }}", "<«ab»>"},
    {"{{ '<%5s>' % x }}", "<   «ab»>"},
    {"{{ '<{}>'.format(x) }}", "<«ab»>"},
    {"{{ x.format() }}", "«ab»"},
    {"{{ '<%s>' | format(x) }}", "<«ab»>"},
    {"{{ x.center(4) }}", " «ab» "},
    {"{{ x | indent(2, true) }}", "  «ab»"},
    {"{{ x | truncate(1, true, '', 0) }}", "«a»"},
    {"{{ x | tojson }}", "«\"ab\"»"},
    {"{{ '<a>' | tojson }}", "\"<a>\""},
    {"{{ d | tojson }}", "«{\"k\": \"v\"}»"},
    {"{{ {'<a>': x} | tojson }}", "«{»\"<a>\"«: \"ab\"}»"},
    {"{{ w | tojson(ensure_ascii=true) }}", "«\"\\u00e9<b>\"»"},
    {"{{ d }}", "«{'k': 'v'}»"},
    {"{{ l }}", "«['p', 'q']»"},
    {"{{ w | escape }}", "«é&lt;b&gt;»"},
    {"{{ '<a>' | safe + w }}", "<a>«é&lt;b&gt;»"},
    {"{{ n }}{{ f }}{{ t }}{{ z }}", "«71.5TrueNone»"},
    {"{{ n + 1 }}{{ -n }}{{ n // 2 }}{{ 2 * f }}{{ n | float }}{{ '7' | int }}", "«8-733.07.0»7"},
    {"{{ '%d' % n }}{{ '{:03d}'.format(n) }}{{ x | length }}", "«7»00«7»2"},
    {"{% set s %}<{{ x }}>{% endset %}{{ s }}", "<«ab»>"},
    {"{% macro m(v) %}<{{ v }}>{% endmacro %}{{ m(x) | upper }}", "<«AB»>"},
    {"{% filter upper %}a{{ x }}{% endfilter %}", "A«AB»"},
    {"{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}{{ x }}{% endcall %}", "[«ab»]"},
    {"{% set ns = namespace(s='') %}{% for c in x %}{% set ns.s = ns.s + '.' + c %}{% endfor %}{{ ns.s }}", ".«a».«b»"},
    {"{% for k, v in d | items %}{{ k }}={{ v }}{% endfor %}", "«k»=«v»"},
    {"{% for k in d %}{{ k }}{% endfor %}{{ d.keys() | list | first }}", "«kk»"},
    {"{{ l | sort | first }}{{ l | max }}{{ l | map('upper') | join }}", "«pqPQ»"},
    {"{{ [x] | unique | list | first }}{{ x | default('d') }}{{ u | default('d') }}", "«abab»d"},
    // Roles are words of the protocol only where they are a message's role and known.
    {"{% for m in messages %}<|{{ m.role }}|>{% endfor %}", "<|user|><|«users»|>"},
    {"{{ role }}", "«user»"},
};

static void every_operation_keeps_the_origin(void **state) {
    (void)state;
    struct str shown = STR_INIT;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        struct prompt_text out;
        struct err err = {0};
        if (render_once(str_view_of(operations[i].source), STR_VIEW(VARIABLES), NULL, 0, &out, &err))
            fail_msg("%s: %s", operations[i].source, err.text);
        show_parts(&out, &shown);
        if (strcmp(str_text(&shown), operations[i].expected) != 0)
            fail_msg("%s\n  expected: %s\n  got:      %s", operations[i].source, operations[i].expected,
                     str_text(&shown));
        prompt_text_close(&out);
    }
    str_close(&shown);
}

// The request in an alphabet of its own: Canadian syllabics, one for each byte, which no template contains.
enum { ALPHABET = 0x1400 };

static char *transliterate(const char *text) {
    struct str out = STR_INIT;
    for (; *text; text++) {
        char bytes[4];
        str_append(&out, bytes, utf8_encode(ALPHABET + (unsigned char)*text, bytes));
    }
    char *copy = mem_copy_string(str_text(&out), out.n_bytes);
    str_close(&out);
    return copy;
}

// Every string but roles and types, on which templates branch; the keys of arguments and properties, too.
static void transliterate_tree(cJSON *item, bool is_data) {
    bool keeps = item->string && (strcmp(item->string, "role") == 0 || strcmp(item->string, "type") == 0);
    if (cJSON_IsString(item) && !keeps) {
        char *text = transliterate(item->valuestring);
        assert_non_null(cJSON_SetValuestring(item, text));
        free(text);
    }
    bool holds_data =
        item->string && (strcmp(item->string, "arguments") == 0 || strcmp(item->string, "properties") == 0);
    if (is_data && item->string) {
        char *key = transliterate(item->string);
        free(item->string);
        item->string = key;
    }
    cJSON *child;
    cJSON_ArrayForEach(child, item) transliterate_tree(child, holds_data);
}

// Counts the request's code points in the output; each must lie in an untrusted part.
static size_t count_untrusted(const char *name, const struct prompt_text *prompt) {
    size_t count = 0;
    for (size_t i = 0; i < prompt->n_parts; i++) {
        const struct text_part *part = &prompt->parts[i];
        for (size_t at = part->begin; at < part->end;) {
            uint32_t code_point = 0;
            size_t n = utf8_decode(prompt->text.data + at, part->end - at, &code_point);
            assert_int_not_equal(n, 0);
            bool foreign = code_point >= ALPHABET && code_point < ALPHABET + 256;
            if (foreign && part->trusted) fail_msg("%s: trusted text of the request at byte %zu", name, at);
            count += foreign;
            at += n;
        }
    }
    return count;
}

static void no_template_trusts_a_byte_of_the_request(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/expected/template_renderings_jinja2.json");
    struct file_text file = read_file("data/expected/template_renderings_jinja2.json");
    cJSON *contexts = parse_json(member(file.text, "contexts")), *results = parse_json(member(file.text, "results"));
    cJSON *context, *result;
    size_t n_rendered = 0, n_seen = 0;
    cJSON_ArrayForEach(context, contexts) {
        cJSON *child;
        cJSON_ArrayForEach(child, context) transliterate_tree(child, false);
        cJSON_AddBoolToObject(context, "add_generation_prompt", true);
    }
    cJSON_ArrayForEach(result, results) {
        char path[300], name[400];
        const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "case"));
        snprintf(path, sizeof path, "data/%s",
                 cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "template")));
        snprintf(name, sizeof name, "%s, %s", path, kind);
        char *json = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(contexts, kind));
        struct file_text template = read_file(path);
        struct prompt_text out;
        struct err err;
        if (!render_once(template.text, str_view_of(json), standard_tokens, 2, &out, &err)) {
            n_rendered++;
            n_seen += count_untrusted(name, &out);
        }
        prompt_text_close(&out);
        file_map_close(&template.map);
        free(json);
    }
    printf("%zu renderings, %zu characters of requests\n", n_rendered, n_seen);
    assert_true(n_rendered > 1000 && n_seen > 50000);
    cJSON_Delete(contexts);
    cJSON_Delete(results);
    file_map_close(&file.map);
}

// The end of what looks like a marker at `at`: <|im_end|>, [INST], <s> ...; 0 when there is none.
static size_t marker_end(struct str_view source, size_t at) {
    char close = source.data[at] == '<' ? '>' : source.data[at] == '[' ? ']' : 0;
    for (size_t i = at + 1; close && i < source.n_bytes && i < at + 48; i++) {
        if (source.data[i] == close) return i + 1;
        if (strchr(" \n\t'\"{}%()", source.data[i])) return 0;
    }
    return 0;
}

// A user message of all markers of the template, each between ᐁ and ᐃ: wherever a marker appears that way in the
// output, it is untrusted.
static void markers_in_a_message_stay_text(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED("data/templates");
    DIR *folder = opendir(TEST_SHARED_DIR "/data/templates");
    assert_non_null(folder);
    size_t n_markers = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[400];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "data/templates/%s", entry->d_name);
        struct file_text file = read_file(path);
        struct str content = STR_INIT, json = STR_INIT;
        for (size_t at = 0; at < file.text.n_bytes; at++) {
            size_t end = marker_end(file.text, at);
            if (!end) continue;
            str_append_text(&content, "ᐁ");
            str_append(&content, file.text.data + at, end - at);
            str_append_text(&content, "ᐃ");
        }
        str_append_text(&json, "{\"add_generation_prompt\":true,\"messages\":[{\"role\":\"user\",\"content\":");
        json_append_string(&json, str_text(&content), content.n_bytes);
        str_append_text(&json, "}]}");
        struct prompt_text out;
        struct err err;
        if (!render_once(file.text, (struct str_view){json.data, json.n_bytes}, standard_tokens, 2, &out, &err)) {
            const char *begin = str_text(&out.text), *text = begin, *end;
            size_t part = 0;
            for (; (text = strstr(text, "ᐁ")) && (end = strstr(text, "ᐃ")); text = end) {
                prompt_text_seek(&out, (size_t)(text - begin), &part);
                if (out.parts[part].trusted || out.parts[part].end < (size_t)(end - begin))
                    fail_msg("%s: %.40s is trusted", path, text);
                n_markers++;
            }
        }
        prompt_text_close(&out);
        str_close(&content);
        str_close(&json);
        file_map_close(&file.map);
    }
    closedir(folder);
    printf("%zu markers\n", n_markers);
    assert_true(n_markers > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_keeps_the_origin),
        cmocka_unit_test(no_template_trusts_a_byte_of_the_request),
        cmocka_unit_test(markers_in_a_message_stay_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
