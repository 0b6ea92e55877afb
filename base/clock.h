// Time. Durations use the monotonic clock; wall time is for what people read.
#pragma once

#include <stdint.h>

uint64_t clock_now_ns(void); // monotonic, arbitrary origin
int64_t clock_wall_s(void);  // seconds since 1970
