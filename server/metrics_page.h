// The text of /metrics, a family at a time. For the files that fill it.
#pragma once

#include "base/str.h"

// The labels that every sample of one page shares, and where it goes.
struct metrics_page {
    struct str *out;
    struct str labels; // model_name="...",engine="0"
};

void metrics_page_head(struct metrics_page *page, const char *name, const char *kind, const char *help);
// more_labels: id="R1"; or empty.
void metrics_page_sample(struct metrics_page *page, const char *name, const char *more_labels, double value);
void metrics_page_value(struct metrics_page *page, const char *name, const char *kind, const char *help, double value);

struct report;
// Of the advisor; what is not known has no sample. metrics_advisor.c.
void metrics_page_advisor(struct metrics_page *page, const struct report *report);
