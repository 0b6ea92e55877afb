#include "cli/command_line.h"

#include <stdio.h>

enum { STATUS_USAGE = 2 };

bool command_line_read(const char *command, const struct option_table *table, int argc, char **argv, void *options,
                       struct option_result *result, int *status) {
    struct err err = {0};
    *status = 0;
    if (option_parse(table, argc, argv, options, result, &err)) {
        command_line_end(command, err.code, &err);
        *status = STATUS_USAGE;
        return false;
    }
    if (result->help) option_print_help(table, stdout);
    return !result->help;
}

bool command_line_read_path(const char *command, const struct option_table *table, int argc, char **argv, void *options,
                            struct option_result *result, int *status) {
    if (!command_line_read(command, table, argc, argv, options, result, status)) return false;
    if (result->n_positional) return true;
    fprintf(stderr, "optima %s: a PATH is missing; see --help\n", command);
    *status = STATUS_USAGE;
    return false;
}

int command_line_end(const char *command, int rc, const struct err *err) {
    if (rc) fprintf(stderr, "optima %s: %s\n", command, err->text);
    return rc ? 1 : 0;
}
