// Numbers as people read them, each in a small text of its own: words_seconds(0.0123).text is "12.3 ms". What is not
// finite is "unknown".
#pragma once

#include "advisor/figure.h"

struct words {
    char text[44];
};

struct words words_number(double value);         // "0.123", "12.3", "1230", "1.23 M"
struct words words_percent(double share);        // "7.1 %", "83 %"
struct words words_seconds(double seconds);      // "12.3 ms"
struct words words_bytes(double bytes);          // "1.50 GiB"
struct words words_bytes_per_s(double rate);     // "12.3 GB/s"
struct words words_flops(double rate);           // "1.25 TFLOP/s"
struct words words_factor(double factor);        // "1.04x"
struct words words_factors(struct range factor); // "1.04x to 1.20x"
struct words words_times(struct range seconds);  // "12.3 ms to 14.1 ms"
