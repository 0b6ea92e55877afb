// How every subcommand begins: its arguments against its table.
#pragma once

#include "base/option.h"
#include <stdbool.h>

// True: go on with *options and *result. False: the process ends with *status, because help was printed (0) or because
// an argument is wrong (2; one line on standard error says which).
bool command_line_read(const char *command, const struct option_table *table, int argc, char **argv, void *options,
                       struct option_result *result, int *status);

// The same for a command that needs its first positional argument, which --help calls PATH.
bool command_line_read_path(const char *command, const struct option_table *table, int argc, char **argv, void *options,
                            struct option_result *result, int *status);

// The exit status of a command that ended with rc; prints the error's line when rc is one.
int command_line_end(const char *command, int rc, const struct err *err);
