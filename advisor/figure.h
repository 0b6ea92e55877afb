// A number that the advisor shows, with its source. No source, no number.
#pragma once

#include <math.h>

enum figure_source {
    FIGURE_UNKNOWN,   // value is NAN, and nothing may be built on it
    FIGURE_MEASURED,  // counted or timed by this server
    FIGURE_MODELLED,  // computed from measured numbers by a formula that the report names
    FIGURE_DATASHEET, // what the maker of the hardware says
    FIGURE_USER,      // an option of the operator: a price, an objective
};
const char *figure_source_name(enum figure_source source); // "measured", ...; "unknown"

struct figure {
    double value; // in the unit that its place says
    enum figure_source source;
};

static inline struct figure figure_of(double value, enum figure_source source) {
    return (struct figure){value, isnan(value) ? FIGURE_UNKNOWN : source};
}
static inline struct figure figure_unknown(void) {
    return (struct figure){NAN, FIGURE_UNKNOWN};
}
static inline int figure_known(struct figure figure) {
    return figure.source != FIGURE_UNKNOWN;
}

// Low and high: what the value lies between, with 95 % where it was measured, or for the worst and best case of a
// model. NAN: not known.
struct range {
    double low, high;
};
