#include "server/metrics_page.h"

void metrics_page_head(struct metrics_page *page, const char *name, const char *kind, const char *help) {
    str_printf(page->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

void metrics_page_sample(struct metrics_page *page, const char *name, const char *more_labels, double value) {
    str_printf(page->out, "%s{%s%s%s} %.17g\n", name, str_text(&page->labels), *more_labels ? "," : "", more_labels,
               value);
}

void metrics_page_value(struct metrics_page *page, const char *name, const char *kind, const char *help, double value) {
    metrics_page_head(page, name, kind, help);
    metrics_page_sample(page, name, "", value);
}
