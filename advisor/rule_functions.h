// The rules, one function each; advisor/rules.c gives them their ids.
#pragma once

#include "advisor/rules.h"

#define RULE(name) enum verdict_of_rule name(const struct evidence *evidence, struct rule_result *result)

// rules_batch.c
RULE(rule_batch_too_small);
RULE(rule_batch_too_large);
RULE(rule_input_starved);
RULE(rule_admission_conservative);
// rules_cache.c
RULE(rule_kv_exhausted);
RULE(rule_kv_fragmented);
RULE(rule_memory_unused);
RULE(rule_prefix_misses);
RULE(rule_prefix_useless);
RULE(rule_kv_format);
// rules_prompt.c
RULE(rule_prompts_interfere);
RULE(rule_chunk_too_small);
RULE(rule_short_prompts_wait);
RULE(rule_long_context);
// rules_weights.c
RULE(rule_weight_format);
RULE(rule_head_heavy);
RULE(rule_sampling_heavy);
// rules_host.c
RULE(rule_host_gap);
RULE(rule_masks_heavy);
RULE(rule_text_bound);
RULE(rule_slow_readers);
RULE(rule_tokens_share_events);
// rules_load.c
RULE(rule_overload);
RULE(rule_near_saturation);
RULE(rule_little_disagrees);
RULE(rule_objective_missed);
RULE(rule_over_provisioned);
RULE(rule_idle_costs);
RULE(rule_measurement_disturbed);
// rules_speculation.c
RULE(rule_drafts_rejected);
RULE(rule_drafts_at_large_batch);
RULE(rule_drafts_would_pay);
// rules_machine.c
RULE(rule_attention_splits);
RULE(rule_throttled);
RULE(rule_energy);
RULE(rule_threads);
RULE(rule_numa_remote);
RULE(rule_bandwidth_bound);
RULE(rule_page_faults);

#undef RULE
