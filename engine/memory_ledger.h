// Every byte by owner, known before serving starts.
#pragma once

#include "base/str.h"
#include <stdint.h>

enum { MEMORY_LEDGER_ROWS_MAX = 16 };

struct memory_row {
    const char *owner; // "weights", "KV cache", "activations", "workspace", "text", "scheduler", "connections"
    char detail[96];   // one short phrase: "mapped from the file", "4096 blocks of 16 tokens, f32"
    uint64_t reserved_bytes, committed_bytes; // the most it takes; what is in memory now
};

struct memory_ledger {
    struct memory_row rows[MEMORY_LEDGER_ROWS_MAX];
    int n_rows;
};

void memory_ledger_add(struct memory_ledger *ledger, const char *owner, uint64_t reserved_bytes,
                       uint64_t committed_bytes, const char *detail_format, ...) __attribute__((format(printf, 5, 6)));
void memory_ledger_append(struct memory_ledger *ledger, const struct memory_ledger *more);
void memory_ledger_print(const struct memory_ledger *ledger, struct str *out); // a table for people
