#include "bench/explain.h"
#include "base/json_write.h"

#include <string.h>

static const struct definition {
    const char *name, *here, *vllm, *guidellm, *aiperf; // NULL: it has none
} definitions[] = {
    {"TTFT, time to first token",
     "first event that brings something generated, minus the time at which the request was due",
     "first content minus the start of the request's function: waiting in the client is left out",
     "first token minus the actual start; the time that was planned is kept but not used",
     "first response minus the request's start"},
    {"TPOT, time per output token", "(last event - first event) / (tokens - 1), one value a request",
     "(E2E - TTFT) / (tokens - 1); 0 for answers of one token in goodput",
     "(last token - start) / tokens: the first token is in it", "called inter-token latency"},
    {"ITL, inter-token latency",
     "gaps between events, each divided over the tokens that the event brings, pooled over all tokens",
     "gaps between events, pooled; an event with several tokens counts as one",
     "(last token - first token) / (tokens - 1) a request, as TPOT here",
     "(E2E - TTFT) / (tokens - 1) a request; gaps between events are its inter-chunk latency"},
    {"E2E, whole answer", "end of the answer minus the time at which the request was due",
     "end minus the start of the request's function", "end minus the actual start", "last response minus start"},
    {"dispatch, the client's lag", "start of a request minus the time at which it was due; over 10 ms at p99: INVALID",
     "part of no figure", "kept a request, in no headline", "part of no figure"},
    {"tokens", "the server's usage; events where it tells none, which is noted",
     "usage, else the text is tokenised again, which may count more", "usage is preferred",
     "the client's own tokeniser"},
    {"cached tokens", "the part of usage's prompt tokens that came from the server's prefix cache", NULL, NULL, NULL},
    {"rates", "what completed requests brought in the steady part, each spread over the time that it took",
     "sums over first start to last end: ramps at both ends are in it", "over the active phase",
     "first request sent to last response: ramps are in it"},
    {"goodput", "share of the requests due that met all objectives; failures count as misses. itl= is held to TPOT",
     "requests a second that met all objectives", NULL, "requests a second that met all objectives"},
    {"steady part", "after the warm-up, which MSER-5 finds on the latencies, until the last request was due", NULL,
     "a percentage or a time that the user gives", "found on several series, when asked for"},
    {"percentiles",
     "between neighbours by proportion. p50 from 10 values, p90 from 50, p95 from 100, p99 from 500, p99.9 from "
     "10,000; "
     "not printed from fewer",
     "printed from any number of values", "printed from any number of values", "printed from any number of values"},
    {"intervals",
     "95 %: order statistics of as many independent values as the sample is worth, or a block bootstrap, whichever is "
     "wider; means and rates from means of blocks by Student's distribution",
     NULL, NULL, "over several runs"},
    {"band of a distribution", "Dvoretzky, Kiefer and Wolfowitz: 95 % for the whole curve at once", NULL, NULL, NULL},
    {"requests that wait in the client", "none is dropped: what is due late keeps its time, and its wait counts",
     "--max-concurrency delays them; since 2026 shown in lines of its own", "delayed at 512 in flight by default",
     "delayed by --concurrency"},
    {"failed requests", "left out of latencies, counted by kind, in goodput as misses", "left out",
     "left out of most figures", "left out"},
};
enum { N_DEFINITIONS = sizeof definitions / sizeof *definitions };

// The text from column INDENT on, lines of at most WIDTH columns.
static void print_wrapped(FILE *out, const char *title, const char *text) {
    enum { INDENT = 12, WIDTH = 100 };
    int column = fprintf(out, "  %-*s", INDENT - 3, title);
    while (*text) {
        const int n = (int)strcspn(text, " ");
        if (column + 1 + n > WIDTH) column = fprintf(out, "\n%*s", INDENT - 1, "") - 1;
        column += fprintf(out, " %.*s", n, text);
        text += n;
        text += *text == ' ';
    }
    fputc('\n', out);
}

void explain_print(FILE *out) {
    fputs("What the figures of optima bench mean, and what other clients mean by the same names.\n", out);
    for (int i = 0; i < N_DEFINITIONS; i++) {
        const struct definition *d = &definitions[i];
        fprintf(out, "\n%s\n", d->name);
        print_wrapped(out, "here", d->here);
        if (d->vllm) print_wrapped(out, "vLLM", d->vllm);
        if (d->guidellm) print_wrapped(out, "guidellm", d->guidellm);
        if (d->aiperf) print_wrapped(out, "AIPerf", d->aiperf);
    }
}

void explain_json(struct str *out) {
    json_write_begin(out, "definitions", '[');
    for (int i = 0; i < N_DEFINITIONS; i++) {
        const struct definition *d = &definitions[i];
        json_write_begin(out, NULL, '{');
        json_write_text(out, "name", d->name);
        json_write_text(out, "here", d->here);
        if (d->vllm) json_write_text(out, "vllm", d->vllm);
        if (d->guidellm) json_write_text(out, "guidellm", d->guidellm);
        if (d->aiperf) json_write_text(out, "aiperf", d->aiperf);
        json_write_end(out, '}');
    }
    json_write_end(out, ']');
}
