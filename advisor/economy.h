// What tokens cost, in money and energy, from the ledger of time and what the operator says a machine costs.
//
// Prompts pay for their lines of the ledger; output pays for decoding, head, sampling, rejected drafts and what was
// computed again; both share the gap, padding, communication and throttling as they share these. So what all tokens
// cost, loaded, is what the machine costs. A cached token costs the memory that it holds while its request lives.
#pragma once

#include "advisor/evidence.h"

// Device seconds a token; money a million tokens: marginal (time that a token takes) and loaded (idle time shared out).
struct token_cost {
    struct figure seconds, marginal, loaded;
};

struct economy {
    struct token_cost input, cached_input, output;
    struct figure blended;      // money a million tokens of any kind, idle time included
    struct figure goodput_cost; // the same, over tokens of requests that met the objectives
    struct figure utilisation;  // busy share of wall time
    // All energy of the window, idle time included, divided as busy time is.
    struct figure joules_per_output, joules_per_input, watts;
};

void economy_make(struct economy *out, const struct evidence *evidence);
