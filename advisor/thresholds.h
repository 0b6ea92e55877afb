// Every threshold of every rule, named in one place. Shares are of 1; what they are shares of is said where rules use
// them. bench/advisor_faults shows how well they tell causes apart.
#pragma once

// ------------------------------------------------------------------------------------------- evidence and verdict
static const double threshold_window_s = 10;      // shorter windows say nothing
static const double threshold_window_sure_s = 30; // shorter ones are not sure
static const long threshold_steps = 50;           // fewer steps say nothing
static const long threshold_steps_sure = 200;
static const double threshold_ledger_error = 0.02;   // the ledger's lines must sum to one
static const double threshold_idle_share = 0.5;      // of wall time: too little work
static const double threshold_gap_share = 0.10;      // of busy time: the device waits for the host
static const double threshold_throttle_share = 0.05; // of wall time: heat, power or quota
static const double threshold_bandwidth_share = 0.7; // of measured peak: bound by memory
static const double threshold_compute_share = 0.6;   // of measured peak: bound by arithmetic
static const double threshold_latency_share = 0.5;   // of both peaks: bound by neither
static const double threshold_benefit_least = 0.01;  // changes that bring less are not proposed
static const double threshold_dead_band = 0.9;       // of a threshold: where a rule that speaks falls silent
static const int threshold_windows_to_speak = 3, threshold_windows_to_fall_silent = 5;

// --------------------------------------------------------------------------------------------------------- batch
static const double threshold_queue_share = 0.2;   // of time in which somebody waits
static const double threshold_full_share = 0.5;    // of steps: as many sequences run as may
static const double threshold_gain_least = 1.05;   // smaller gains are not worth a change
static const double threshold_extrapolation = 4;   // times what was seen; beyond it, a sweep
static const double threshold_knee_gain = 0.10;    // throughput that the last doubling of the batch brought
static const double threshold_knee_kv_share = 0.8; // of the bytes of decoding: rows no longer share anything
static const double threshold_starved_share = 0.5; // of the sequences that the server would like to have
static const double threshold_admission_occupancy = 0.7;

// --------------------------------------------------------------------------------------------------------- cache
static const double threshold_recompute_share = 0.01;
static const double threshold_recompute_severe = 0.05;
static const double threshold_kv_occupancy = 0.95;
static const double threshold_waste_share = 0.10;
static const double threshold_free_bytes = 1073741824.0; // that the machine keeps for everything else
static const double threshold_free_share = 0.08;         // of the cache: less is not worth a restart
static const double threshold_hit_gap = 0.15;            // ideal minus found, of looked-up tokens
static const double threshold_divergence_share = 0.3;    // of prompts that part from an earlier one at its start
static const double threshold_useless_hits = 0.02;       // of looked-up tokens, even without bounds
static const long threshold_useless_requests = 1000;
static const double threshold_kv_share = 0.3; // of the bytes of decoding
static const double threshold_kv_share_small = 0.1;
static const double threshold_kernel_worst = 0.8; // of the speed that fewer bytes would give: kernels that decode them

// ------------------------------------------------------------------------------------------------------- prompts
static const double threshold_gap_ratio = 2;          // 99th percentile of gaps over the median
static const double threshold_long_with_prompt = 0.8; // of long gaps: a prompt was in the step
static const double threshold_prompt_mfu = 0.5;
static const double threshold_chunks_least = 2; // steps that a prompt takes
static const double threshold_ridges = 4;       // times the rows at which reading and arithmetic balance
static const double threshold_short_wait = 3;   // times what a short prompt takes alone
static const double threshold_long_ahead = 0.3; // of short prompts: a longer one was before them
static const double threshold_attention_share = 0.4;
static const double threshold_kv_share_long = 0.7;

// ------------------------------------------------------------------------------------------------------- weights
static const double threshold_decode_time_share = 0.6; // of busy time
static const double threshold_decode_mbu = 0.6;
static const double threshold_decode_mbu_small = 0.5;
static const double threshold_weights_share = 0.5; // of the bytes of decoding
static const double threshold_head_share = 0.15;
static const double threshold_sample_share = 0.05;

// ---------------------------------------------------------------------------------------------------------- host
static const double threshold_mask_share = 0.05;
static const double threshold_thread_busy = 0.8;  // of one core
static const double threshold_text_of_ttft = 0.2; // template and tokenizer, of the time to the first token
static const double threshold_text_of_request = 0.1;
static const double threshold_blocked_streams = 0.05;
static const double threshold_tokens_per_event = 1.2;

// ---------------------------------------------------------------------------------------------------------- load
static const double threshold_gain_first = 1.5; // of a setting: change it before calling the load too large
static const double threshold_rejected_share = 0.05;
static const double threshold_saturation = 0.8;
static const double threshold_target_utilisation = 0.8;
static const double threshold_little_error = 0.15;
static const long threshold_little_requests = 100;
static const double threshold_failed_share = 0.01;
static const double threshold_over_provisioned = 0.3;
static const double threshold_utilisation = 0.5;
static const double threshold_other_hardware = 0.3; // how wrong an estimate for other hardware may be

// --------------------------------------------------------------------------------------------------- speculation
static const double threshold_tokens_low = 1.5;   // a step and sequence: below it, drafts are the cause
static const double threshold_candidate_rows = 8; // more rows leave no room for drafts
static const double threshold_candidate_gain = 1.15;

// ------------------------------------------------------------------------------------------------------- machine
static const double threshold_frequency_share = 0.95;
static const double threshold_wait_share = 0.05; // of compute threads' time: ready to run, and no core
static const double threshold_other_cpu = 0.25;  // of the machine, taken by other processes
static const double threshold_numa_remote = 0.2;
static const double threshold_cpu_bandwidth = 0.8;
static const double threshold_knee_bandwidth = 0.97; // of the best: more threads than that bring nothing
static const double threshold_major_faults = 1;      // a second
static const double threshold_idle_energy = 0.3;
static const double threshold_split_excess = 1.5; // attention's time over that of its bytes
