// What the server counted during a run, beside what the client saw: from /metrics (of Optima, vLLM, SGLang and
// llama-server) before and after, and the headline of /advisor.
//
// Of the whole run, not of its steady part, and from when requests were sent: a server cannot see what waited before.
#pragma once

#include "bench/probe.h"
#include "bench/record.h"

// Counters and the sums and counts of histograms, over all labels.
struct server_sample {
    VEC_OF(struct server_value {
        char name[96];
        double value;
    })
    values;
};
// No values when the server has no /metrics in Prometheus's text format.
void server_sample_read(struct server_sample *out, const struct probe_target *target);
void server_sample_parse(struct server_sample *out, struct str_view text);
void server_sample_close(struct server_sample *sample);

enum { SERVER_NUMBERS_MAX = 12 };
struct server_number {
    const char *title, *unit; // static; unit: "" for counts, "ms", "%"
    double server, client;    // client: NAN where it cannot know
};
struct server_numbers {
    int n;
    struct server_number numbers[SERVER_NUMBERS_MAX];
    struct str headline; // of its advisor; empty: it has none
};
// No numbers when `before` has none.
void server_numbers_make(struct server_numbers *out, const struct server_sample *before,
                         const struct server_sample *after, const struct run_record *run);
// One line from GET /advisor: verdict.headline, diagnosis.headline or headline.
void server_headline_read(struct str *out, const struct probe_target *target);
double server_number_disagreement(const struct server_number *number); // server / client - 1; NAN: not known
void server_numbers_close(struct server_numbers *numbers);
