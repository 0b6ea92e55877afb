#include "advisor/time_ledger.h"

static const struct {
    const char *name, *title;
} lines[TIME_LINES] = {
    [TIME_IDLE] = {"idle", "idle: no work"},
    [TIME_HOST_GAP] = {"host_gap", "host gap"},
    [TIME_PROMPT] = {"prompt", "prompts"},
    [TIME_RECOMPUTE] = {"recompute", "prompts: recomputed"},
    [TIME_DECODE_WEIGHTS] = {"decode_weights", "decode: weights"},
    [TIME_DECODE_KV] = {"decode_kv", "decode: KV cache"},
    [TIME_HEAD] = {"head", "head and logits"},
    [TIME_SAMPLING] = {"sampling", "sampling"},
    [TIME_REJECTED_DRAFTS] = {"rejected_drafts", "rejected drafts"},
    [TIME_PADDING] = {"padding", "padding"},
    [TIME_COMMUNICATION] = {"communication", "communication"},
    [TIME_THROTTLED] = {"throttled", "throttled"},
};

const char *time_line_name(enum time_line line) {
    return lines[line].name;
}

const char *time_line_title(enum time_line line) {
    return lines[line].title;
}
