#include "advisor/figure.h"

const char *figure_source_name(enum figure_source source) {
    static const char *const names[] = {
        [FIGURE_UNKNOWN] = "unknown",     [FIGURE_MEASURED] = "measured", [FIGURE_MODELLED] = "modelled",
        [FIGURE_DATASHEET] = "datasheet", [FIGURE_USER] = "user",
    };
    return names[source];
}
