#include "bench/page.h"

#include <assert.h>
#include <string.h>

extern const char bench_page_template[]; // bench/page.html

void page_html(struct str_view document, struct str *out) {
    static const char mark[] = "{{document}}";
    const char *at = strstr(bench_page_template, mark);
    assert(at);
    str_append(out, bench_page_template, (size_t)(at - bench_page_template));
    // "<" stands in strings alone, where its escape means the same and ends no element of the page.
    for (size_t i = 0; i < document.n_bytes; i++) {
        if (document.data[i] == '<')
            str_append_text(out, "\\u003c");
        else
            str_append_char(out, document.data[i]);
    }
    str_append_text(out, at + sizeof mark - 1);
}
