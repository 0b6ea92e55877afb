// One declared table of options gives parsing, validation and --help.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
    OPTION_FLAG,   // bool
    OPTION_INT,    // int64_t within min..max
    OPTION_DOUBLE, // double within min..max
    OPTION_TEXT,   // const char *, valid as long as argv
    OPTION_CHOICE, // const char *, one of `choices`, separated by '|'
};

struct option_row {
    const char *name; // without dashes: "port"; of one letter: written with one dash or two
    enum option_kind kind;
    size_t offset;     // of the field in the options struct
    const char *value; // how --help names the value: "N", "PATH"; NULL for flags
    const char *choices;
    double min, max;   // for numbers
    bool auto_allowed; // a number may be given as "auto", which leaves the default in place
    const char *help;  // one sentence, with the default where it matters
};

struct option_table {
    const char *usage;   // "optima serve [MODEL] [options]"
    const char *summary; // one or two sentences
    const struct option_row *rows;
    size_t n_rows;
    int n_positional_max;
};

struct option_result {
    const char *positional[8];
    int n_positional;
    bool help; // --help or -h was given; nothing else was checked after it
};

// Accepts --name value, --name=value, --flag, -n value, and -- before positionals. Fills *options, whose defaults the
// caller has set. On error: ERR_INVALID and one line that names the option.
int option_parse(const struct option_table *table, int argc, char **argv, void *options, struct option_result *result,
                 struct err *err) __attribute__((warn_unused_result));
void option_print_help(const struct option_table *table, FILE *out);
