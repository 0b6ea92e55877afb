// Evidence from the tallies of a window.
#pragma once

#include "advisor/evidence.h"
#include "advisor/machine.h"
#include "advisor/tally.h"

struct evidence_input {
    const struct tally *tally;
    const struct machine *machine;
    const struct setup *setup; // its knobs as they are now
    const struct peak_figures *peaks;
    const double *read_curve; // [n_read_curve] bytes/s with 1 .. n threads
    int32_t n_read_curve;
    const struct step_model *model; // NULL: none yet
};

// False: nothing was measured yet. What the window does not tell is NAN.
bool evidence_make(struct evidence *out, const struct evidence_input *in, double window_s);

// The last seconds of which everything is known, a point each, oldest first. Returns how many were written.
size_t evidence_history(const struct tally *tally, const struct setup *setup, const struct peak_figures *peaks,
                        struct history_point *out, size_t n);
