// A summary for a terminal.
#pragma once

#include "bench/summary.h"
#include <stdio.h>

void table_print(FILE *out, const struct summary *summary, const struct run_record *run);
