// A summary for a terminal.
#pragma once

#include "bench/server_numbers.h"
#include "bench/summary.h"
#include <stdio.h>

void table_print(FILE *out, const struct summary *summary, const struct run_record *run);
// The server's own numbers beside the client's; nothing when it has none.
void table_print_server(FILE *out, const struct server_numbers *numbers);
