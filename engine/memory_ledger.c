#include "engine/memory_ledger.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void memory_ledger_add(struct memory_ledger *ledger, const char *owner, uint64_t reserved_bytes,
                       uint64_t committed_bytes, const char *detail_format, ...) {
    assert(ledger->n_rows < MEMORY_LEDGER_ROWS_MAX);
    struct memory_row *row = &ledger->rows[ledger->n_rows++];
    *row = (struct memory_row){.owner = owner, .reserved_bytes = reserved_bytes, .committed_bytes = committed_bytes};
    va_list args;
    va_start(args, detail_format);
    vsnprintf(row->detail, sizeof row->detail, detail_format, args);
    va_end(args);
}

void memory_ledger_append(struct memory_ledger *ledger, const struct memory_ledger *more) {
    assert(ledger->n_rows + more->n_rows <= MEMORY_LEDGER_ROWS_MAX);
    for (int i = 0; i < more->n_rows; i++) ledger->rows[ledger->n_rows++] = more->rows[i];
}

void memory_ledger_print(const struct memory_ledger *ledger, struct str *out) {
    uint64_t reserved = 0, committed = 0;
    str_printf(out, "%-14s %12s %12s\n", "memory", "at most MiB", "in use MiB");
    for (int i = 0; i < ledger->n_rows; i++) {
        const struct memory_row *row = &ledger->rows[i];
        str_printf(out, "%-14s %12.1f %12.1f   %s\n", row->owner, (double)row->reserved_bytes / 0x1p20,
                   (double)row->committed_bytes / 0x1p20, row->detail);
        reserved += row->reserved_bytes;
        committed += row->committed_bytes;
    }
    str_printf(out, "%-14s %12.1f %12.1f\n", "total", (double)reserved / 0x1p20, (double)committed / 0x1p20);
}
