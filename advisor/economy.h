// What tokens cost, in money and energy, from the ledger of time and what the operator says a machine costs.
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
    struct figure joules_per_output, joules_per_input, watts;
};

void economy_make(struct economy *out, const struct evidence *evidence);
