// Requests of a recorded day: when they came, how long they were, what their prompts shared.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct trace_item {
    double at_s;                    // from the first
    int64_t n_prompt, n_output;     // tokens; 0: not in the trace
    uint32_t block_first, n_blocks; // of trace.blocks: prompts that begin with the same blocks begin alike
    uint32_t text_first, n_texts;   // of trace.texts: what a person wrote, turn by turn
};

enum { TRACE_BLOCK_TOKENS = 512 };

struct trace {
    VEC_OF(struct trace_item) items; // in order of time
    VEC_OF(uint64_t) blocks;
    VEC_OF(char *) texts;
    bool is_timed; // else at_s is 0 everywhere: the items are prompts alone
};

// Knows by content: Azure's CSV (TIMESTAMP,ContextTokens,GeneratedTokens), Mooncake's JSON lines (timestamp in ms,
// input_length, output_length, hash_ids), ShareGPT's JSON (conversations of human and gpt), JSON lines with "prompt",
// "text" or "turns", and plain text, a prompt a line. ERR_FORMAT names the line.
int trace_open(struct trace *out, const char *path, struct err *err) __attribute__((warn_unused_result));
void trace_close(struct trace *trace);
