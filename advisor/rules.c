// A table of all rules, in the order in which equal benefits are shown. Ids are stable: R14, R16, R17 and R34 to R36
// are left for what this server does not have yet (FP8 products on a CPU, buckets, experts spread over ranks).
#include "advisor/rules.h"

#include "advisor/rule_functions.h"

// Nothing is advised on numbers that contradict each other, nor tuned for a load that no tuning would bear.
#define ALWAYS "R26 R45"
#define TUNING ALWAYS " R24"

const struct rule rules[] = {
    {"R26", "Little's law does not hold", rule_little_disagrees, "", "Little 1961; AIPerf: bands of 5 and 15 %", 50},
    {"R45", "failures disturb the measurement", rule_measurement_disturbed, "", "AIPerf, guidellm: invalid runs", 20},
    {"R24", "overload", rule_overload, ALWAYS, "guidellm: over-saturation; Kingman 1961", 50},
    {"R3", "too few requests", rule_input_starved, ALWAYS " R21",
     "SGLang hyperparameter tuning: #queue-req 0; Little's law", 20},
    {"R4", "KV cache exhausted", rule_kv_exhausted, TUNING, "vLLM optimisation guide: preemption; SGLang: retraction",
     50},
    {"R1", "decode batch too small", rule_batch_too_small, TUNING " R3 R4",
     "arXiv:2503.08311; TensorRT-LLM: batch 64 to 512, +27 %", 50},
    {"R2", "decode batch too large", rule_batch_too_large, TUNING " R3", "arXiv:2503.08311: batching advisor", 50},
    {"R5", "admission too careful", rule_admission_conservative, TUNING " R4 R1",
     "SGLang hyperparameter tuning: schedule conservativeness", 50},
    {"R6", "KV blocks partly empty", rule_kv_fragmented, TUNING " R4", "mini-sglang: page size", 50},
    {"R7", "memory left unused", rule_memory_unused, TUNING " R4 R10", "SGLang hyperparameter tuning: memory fraction",
     50},
    {"R8", "prompts hold up answers", rule_prompts_interfere, TUNING " R10", "arXiv:2403.02310 (Sarathi-Serve)", 100},
    {"R9", "prompts in pieces too small", rule_chunk_too_small, TUNING, "arXiv:2403.02310; roofline", 50},
    {"R10", "prefix cache misses what it could find", rule_prefix_misses, TUNING,
     "SGLang: longest prefix match; arXiv:2312.07104", 50},
    {"R11", "prefix cache without use", rule_prefix_useless, TUNING, "count of shared prefixes without bounds", 200},
    {"R12", "narrower KV cache", rule_kv_format, TUNING " R15", "vLLM and SGLang: quantised KV cache", 50},
    {"R13", "narrower weights", rule_weight_format, TUNING " R3 R15", "arXiv:2411.02355; arXiv:2605.30571", 50},
    {"R15", "gaps between steps", rule_host_gap, TUNING " R3 R39", "arXiv:2605.30571; vLLM blog 2024-09-05", 50},
    {"R18", "head heavy", rule_head_heavy, TUNING, "count of bytes", 50},
    {"R19", "drawing tokens heavy", rule_sampling_heavy, TUNING, "count of bytes", 50},
    {"R20", "masks of grammars heavy", rule_masks_heavy, TUNING, "ledger of time", 50},
    {"R21", "text and HTTP", rule_text_bound, TUNING, "vLLM blog 2024-09-05: HTTP 33 %, scheduling 29 %", 20},
    {"R22", "slow readers", rule_slow_readers, ALWAYS, "counts of this server's sockets", 20},
    {"R23", "several tokens in an event", rule_tokens_share_events, ALWAYS, "llmperf issue 99", 50},
    {"R25", "near saturation", rule_near_saturation, ALWAYS " R24 R1 R3 R4 R5", "Kingman 1961", 50},
    {"R27", "objectives missed", rule_objective_missed, ALWAYS, "arXiv:2410.14257", 50},
    {"R28", "short prompts behind long ones", rule_short_prompts_wait, TUNING, "closed form of a shared step", 100},
    {"R29", "long contexts", rule_long_context, TUNING, "FLOPs and bytes of attention; arXiv:2503.08311", 50},
    {"R30", "attention in too few parts", rule_attention_splits, TUNING, "flash-decoding", 50},
    {"R31", "drafts rejected", rule_drafts_rejected, TUNING " R3", "arXiv:2406.14066 (SmartSpec)", 100},
    {"R32", "drafts in a full batch", rule_drafts_at_large_batch, TUNING " R3", "arXiv:2406.14066 (SmartSpec)", 100},
    {"R33", "drafts would pay", rule_drafts_would_pay, TUNING " R3 R1 R4 R5 R22",
     "arXiv:2406.14066; watching n-gram proposer", 100},
    {"R37", "slowed by heat or power", rule_throttled, ALWAYS, "counters of the processor", 20},
    {"R38", "energy of idle time", rule_energy, ALWAYS, "counters of the processor", 20},
    {"R39", "threads without cores", rule_threads, ALWAYS, "scheduler statistics; llama.cpp: token generation tips",
     20},
    {"R40", "memory on another node", rule_numa_remote, TUNING, "llama.cpp: NUMA strategies", 50},
    {"R41", "more threads than memory feeds", rule_bandwidth_bound, TUNING " R15 R39", "measured bandwidth by threads",
     50},
    {"R42", "pages from disk", rule_page_faults, ALWAYS, "counters of the system", 20},
    {"R43", "machine too large", rule_over_provisioned, TUNING, "capacity by the step model", 50},
    {"R44", "idle time costs", rule_idle_costs, TUNING, "price over tokens", 20},
};
const int n_rules = sizeof rules / sizeof *rules;

_Static_assert(sizeof rules / sizeof *rules <= FINDINGS_MAX, "a diagnosis has room for every rule");
