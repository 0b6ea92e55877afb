// A table of all rules, in the order in which equal benefits are shown. Ids are stable: R14, R16, R17 and R34 to R36
// are left for what this server does not have yet (FP8 products on a CPU, buckets, experts spread over ranks).
#include "advisor/rules.h"

#include "advisor/rule_functions.h"

// Nothing is advised on numbers that contradict each other, nor tuned for a load that no tuning would bear.
#define ALWAYS "R26 R45"
#define TUNING ALWAYS " R24"

const struct rule rules[] = {
    {"R3", "too few requests", rule_input_starved, ALWAYS, "SGLang hyperparameter tuning: #queue-req 0; Little's law",
     20},
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
    {"R10", "prefix cache misses what it could find", rule_prefix_misses, TUNING,
     "SGLang: longest prefix match; arXiv:2312.07104", 50},
    {"R11", "prefix cache without use", rule_prefix_useless, TUNING, "count of shared prefixes without bounds", 200},
    {"R12", "narrower KV cache", rule_kv_format, TUNING " R15", "vLLM and SGLang: quantised KV cache", 50},
};
const int n_rules = sizeof rules / sizeof *rules;

_Static_assert(sizeof rules / sizeof *rules <= FINDINGS_MAX, "a diagnosis has room for every rule");
