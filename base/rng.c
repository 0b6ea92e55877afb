#include "base/rng.h"

double rng_normal_quantile(double p) {
    double low = -8, high = 8;
    for (int i = 0; i < 50; i++) {
        double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < p)
            low = middle;
        else
            high = middle;
    }
    return low;
}
