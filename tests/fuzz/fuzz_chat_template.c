// Any bytes as a chat template: it is refused, or it renders within its budget, or its rendering ends with an error;
// what it renders is covered by parts.
#include "tests/fuzz/fuzz.h"

#include "models/chat_template.h"

#include <assert.h>

static const char context[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"<|im_end|> "
    "caf\\u00e9\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1.5,"
    "\"b\":[true,null,-3,18446744073709551615]}}}]},{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]"
    "}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],"
    "\"add_generation_prompt\":true}";

void fuzz_seeds(void) {
    static const char *const seeds[] = {
        "{{ []|select|list }}",
        "{% macro f(a, b=2, *c) %}{{ caller(a) }}{% endmacro %}{% call(x) f(1) %}{{ x }}{% endcall %}",
        "{% set n = namespace(a=[]) %}{% for k, v in messages[1]|dictsort recursive %}{{ loop.cycle(1) }}{% endfor %}",
        "{{ messages|map(attribute='role')|join(', ')|upper|replace('A', 'b')|indent(2)|center(40)|truncate(9) }}",
        "{{ '%-5s|%05.2f' % ('x', 1.5) }}{{ '{:>8}{a!r}'.format(1, a=[2]) }}{{ messages[::-1]|tojson(indent=2) }}",
        "{% raw %}{{ x }}{% endraw %}{#- c -#}{%+ if 1 < 2 <= 3 %}{{ -7 // 2 ** 2 ~ 'a' }}{% endif -%} x",
        "{% filter upper %}{% generation %}{{ 'x'.split('')|first }}{% endgeneration %}{% endfilter %}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        struct str_view seed = str_view_of(seeds[i]);
        fuzz_add_seed(seed.data, seed.n_bytes);
    }
    fuzz_add_seed_folder(TEST_SHARED_DIR "/data/templates", ".jinja");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct chat_template *template;
    struct err err;
    if (chat_template_open(&template, (struct str_view){(const char *)bytes, n_bytes}, &err)) return 0;
    struct prompt_text out;
    struct chat_template_input input = {.context_json = {context, sizeof context - 1},
                                        .limits = {.steps = 20000, .output_bytes = 1 << 20}};
    chat_template_add_token(template, "bos_token", STR_VIEW("<s>"));
    if (!chat_template_render(template, &input, &out, &err)) {
        size_t end = 0;
        for (size_t i = 0; i < out.n_parts; i++) {
            assert(out.parts[i].begin == end && out.parts[i].end > end);
            assert(!i || out.parts[i].trusted != out.parts[i - 1].trusted);
            end = out.parts[i].end;
        }
        assert(end == out.text.n_bytes);
    }
    prompt_text_close(&out);
    chat_template_close(template);
    return 0;
}
