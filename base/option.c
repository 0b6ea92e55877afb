#include "base/option.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_choice(const char *choices, const char *value) {
    size_t n = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strcspn(p, "|") == n && memcmp(p, value, n) == 0) return true;
    return false;
}

// What stands before the name on a command line.
static const char *dashes(const struct option_row *row) {
    return row->name[1] ? "--" : "-";
}

static int set_number(const struct option_row *row, const char *value, void *field, struct err *err) {
    if (row->auto_allowed && strcmp(value, "auto") == 0) return 0;
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    bool whole = row->kind == OPTION_DOUBLE || number == floor(number);
    if (end == value || *end || errno || !isfinite(number) || !whole)
        return err_set(err, ERR_INVALID, "%s%s: \"%s\" is not %s", dashes(row), row->name, value,
                       row->kind == OPTION_INT ? "an integer" : "a number");
    if (number < row->min || number > row->max)
        return err_set(err, ERR_INVALID, "%s%s: %s is not within %.15g and %.15g", dashes(row), row->name, value,
                       row->min, row->max);
    if (row->kind == OPTION_INT)
        *(int64_t *)field = (int64_t)number;
    else
        *(double *)field = number;
    return 0;
}

static int set_value(const struct option_row *row, const char *value, void *options, struct err *err) {
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return 0;
    case OPTION_INT:
    case OPTION_DOUBLE:
        return set_number(row, value, field, err);
    case OPTION_CHOICE:
        if (!is_choice(row->choices, value))
            return err_set(err, ERR_INVALID, "%s%s: \"%s\" is none of %s", dashes(row), row->name, value, row->choices);
        *(const char **)field = value;
        return 0;
    case OPTION_TEXT:
        *(const char **)field = value;
        return 0;
    }
    return 0;
}

// The row of an argument's first n bytes, "--name" or "-n", which may be written "--n" as well.
static const struct option_row *find_row(const struct option_table *table, const char *argument, size_t n) {
    size_t n_dashes = argument[1] == '-' ? 2 : 1;
    const char *name = argument + n_dashes;
    n -= n_dashes;
    if (n_dashes == 1 && n != 1) return NULL;
    for (size_t i = 0; i < table->n_rows; i++)
        if (strlen(table->rows[i].name) == n && memcmp(table->rows[i].name, name, n) == 0) return &table->rows[i];
    return NULL;
}

int option_parse(const struct option_table *table, int argc, char **argv, void *options, struct option_result *result,
                 struct err *err) {
    *result = (struct option_result){0};
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        if (!only_positional && strcmp(argument, "--") == 0) {
            only_positional = true;
            continue;
        }
        if (only_positional || argument[0] != '-' || !argument[1]) {
            if (result->n_positional >= table->n_positional_max)
                return err_set(err, ERR_INVALID, "unexpected argument \"%s\"; usage: %s", argument, table->usage);
            result->positional[result->n_positional++] = argument;
            continue;
        }
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            result->help = true;
            return 0;
        }
        size_t n = strcspn(argument, "=");
        const struct option_row *row = find_row(table, argument, n);
        if (!row) return err_set(err, ERR_INVALID, "unknown option \"%s\"; see --help", argument);
        const char *value = argument[n] ? argument + n + 1 : NULL;
        if (row->kind == OPTION_FLAG) {
            if (value) return err_set(err, ERR_INVALID, "%s%s takes no value", dashes(row), row->name);
        } else if (!value) {
            if (i + 1 >= argc) return err_set(err, ERR_INVALID, "%s%s needs a value", dashes(row), row->name);
            value = argv[++i];
        }
        int rc = set_value(row, value, options, err);
        if (rc) return rc;
    }
    return 0;
}

void option_print_help(const struct option_table *table, FILE *out) {
    fprintf(out, "usage: %s\n\n%s\n", table->usage, table->summary);
    if (table->n_rows) fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct option_row *row = &table->rows[i];
        char left[128];
        const char *value = row->kind == OPTION_CHOICE ? row->choices : row->value;
        snprintf(left, sizeof left, "%s%s%s%s", dashes(row), row->name, value ? " " : "", value ? value : "");
        if (strlen(left) > 28)
            fprintf(out, "  %s\n  %-28s  %s\n", left, "", row->help);
        else
            fprintf(out, "  %-28s  %s\n", left, row->help);
    }
}
