// What the rules see: one window of time in numbers. Made by the measuring half of the advisor from step records,
// requests and the machine; plain data, so that rules are tested without a server.
//
// Units are seconds, bytes, tokens, FLOP, joules, and shares from 0 to 1. NAN (or a negative count where said): not
// known, and no rule may rest on it. What a rule shows of it says where it comes from (advisor/figure.h).
#pragma once

#include "advisor/figure.h"
#include "advisor/knob.h"
#include "advisor/time_ledger.h"
#include "base/statistics.h"
#include <stdbool.h>
#include <stdint.h>

struct step_model;

// Percentiles of a latency over the requests (or gaps) that ended in the window.
struct latency_figures {
    int64_t n;
    struct interval p50, p95, p99; // `mean` is the percentile; NAN where the sample does not support it
};

// What the operator has said or the server was started with.
struct setup {
    const char *model, *device, *weights, *kv_format, *build; // as shown; owned by others
    const char *url, *path; // of this server and of its model, for commands that people copy; NULL: not known
    bool is_gpu;
    double parameters, weight_bytes; // weight_bytes: read by a step of one row, head included
    double layer_bytes, head_bytes;  // of weight_bytes
    double bits_per_weight;
    double kv_bytes_per_token;
    double flops_per_token;         // of the layers, for one row, without attention
    double attention_flops_per_key; // for one row and one token of its context
    double head_flops_per_row;
    int32_t n_layers, vocab, hidden;
    int32_t n_kv_heads, n_processors;  // n_processors: cores or multiprocessors that share the work of a step
    int32_t n_experts, n_experts_used; // of a layer, and by one row; 0: no experts
    double expert_bytes;               // one expert in all layers; weight_bytes and layer_bytes hold n_experts_used
    int32_t context, rows_max, sequences_max, block_tokens, n_blocks, steps_in_flight;
    bool has_prefix_cache, weights_are_quantised, speculates, has_draft_model;
    struct knobs knobs;
    struct figure price_per_hour;                // of the machine, in the operator's currency
    struct figure objective_ttft, objective_itl; // seconds: what users shall see
    struct figure watts_price_per_kwh;           // unknown: energy is not priced
};

struct load_figures {
    int64_t n_arrived, n_finished, n_rejected, n_failed;
    double arrival_rate, finish_rate;              // requests a second; arrivals include refused ones
    double running_mean, waiting_mean;             // sequences, over time
    double concurrency_mean;                       // requests in the server, over time (Little's L)
    double residence_mean;                         // of finished requests, arrival to end (Little's W)
    double queue_share;                            // of time in which at least one sequence waits
    double full_share;                             // of steps in which as many sequences run as may
    double idle_share;                             // of wall time without a step
    struct interval concurrency_slope, ttft_slope; // a second; both above 0: the load is more than the server bears
    double prompt_tokens_mean, cached_tokens_mean, output_tokens_mean, output_tokens_deviation, max_tokens_mean;
    // Tokens a second: of prompts, computed; of prompts, found in the cache; generated.
    double input_rate, cached_rate, output_rate;
    double good_rate; // of all three, of requests that met the objectives; NAN: there are none
    double prompt_tokens_p99;
};

struct prompt_figures {
    double rows_per_step;               // prompt rows of the steps that have any
    double step_share;                  // of steps, with prompt rows
    double step_s_with, step_s_without; // mean time of steps in which sequences decode, with and without prompt rows
    double gaps_long_share;             // of gaps between tokens: longer than twice the median
    double gaps_long_with_prompt;       // of these, in steps with prompt rows
    double attention_share;             // of the FLOPs of prompts
    double ttft_short_p99, ttft_short_alone; // of prompts up to the median: as it was, and computed for an empty server
    double long_ahead_share;                 // of these: waited while one more than twice as long was computed
};

struct cache_figures {
    double blocks_used_mean, occupancy; // of n_blocks; what only the prefix cache holds does not count
    double occupancy_max;
    double waste_share; // of the slots of blocks in use: without a token
    int64_t n_preemptions;
    double recomputed_tokens, useful_tokens; // rows that computed a token for the second time, and all others
    double queries, hits;                    // tokens looked up and found
    double ideal_hits;                       // that a cache without bounds would have found
    double evicted_tokens;
    double early_divergence_share; // of the looked-up prompts: differs from an earlier one within its first 256 tokens
                                   // after sharing at least one block
    double divergence_token;       // where that is, median
    double free_memory_bytes;      // of the machine, now
};

struct speculation_figures {
    bool is_on;
    double drafts_per_sequence;                 // in a decoding step that had drafts
    double acceptance;                          // of drafts
    double draft_row_share;                     // of decode rows
    double step_share;                          // decoding steps with drafts
    double draft_s;                             // time spent on drafting, of the window
    double gain, gain_best;                     // measured speed over that without drafts; NAN: nothing known
    double shadow_acceptance, shadow_deviation; // of an n-gram proposer that only watches, when speculation is off
    double shadow_coverage;                     // of decoded tokens: it had a guess
};

struct host_figures {
    double gap_share;                // of busy time: the device waits for the host between steps
    double gap_s;                    // mean, a step
    double loop_busy_share;          // of one core: the thread that reads and writes HTTP
    double text_busy_share;          // of the threads that tokenise and render, together
    double text_s_per_request;       // template and tokenizer
    double sample_share, head_share; // of busy time
    double sample_s;                 // a step
    double mask_share;           // of busy time, building masks of grammars that the device waits for; NAN: none are
    double blocked_stream_share; // of streams: at some time the client did not take what was there for 0.1 s
    double tokens_per_event;     // of streams
};

struct machine_figures {
    int32_t threads, physical_cores, logical_cores, numa_nodes;
    double quota_cores;          // of the control group; NAN: no quota
    double affinity_cores;       // cores that the process may use
    double involuntary_switches; // a second, of the compute threads
    double wait_share;           // of compute threads' time: runnable and not running (schedstat)
    double throttled_share;      // of wall time, by the control group's quota
    double major_faults;         // a second
    double frequency_share;      // of the highest that was seen; NAN: not readable
    double thermal_share;        // of time, throttled by heat or power
    double numa_remote_share;
    double resident_bytes, available_bytes;
    double watts;           // of package or board; NAN: not readable
    double other_cpu_share; // of the machine's processors, used by other processes
    int32_t n_read_curve;   // measured read bandwidth with 1 .. n threads
    double read_curve[64];
};

// Rates that the hardware reached in micro-benchmarks here, and what its maker says.
struct peak_figures {
    struct figure read, read_datasheet;       // bytes/s
    struct figure compute, compute_datasheet; // FLOP/s (or integer operations) in the weights' format
    const char *compute_unit;                 // "int8 (VNNI)", "bf16 (AMX)"
    bool scaled_to_clock;
};

struct efficiency_figures {
    // Of measured peaks, over busy time. decode: steps without prompt rows; prompt: steps with.
    double mfu, mbu, mfu_decode, mbu_decode, mfu_prompt, mbu_prompt;
    double mfu_palm;                       // with the whole context for every token, as papers count it
    double kv_share;                       // of the bytes that decoding reads
    double decode_rows_mean, context_mean; // rows (tokens before drafts) of decoding steps; tokens of their sequences
    double decode_s_mean;                  // time of a decoding step without prompt rows
    double decode_time_share;              // of busy time
};

struct evidence {
    double window_s, busy_s;
    int64_t n_steps;
    bool steady; // no trend in load or step time over the window
    struct setup setup;
    struct load_figures load;
    struct prompt_figures prompt;
    struct cache_figures cache;
    struct speculation_figures speculation;
    struct host_figures host;
    struct machine_figures machine;
    struct peak_figures peaks;
    struct efficiency_figures efficiency;
    struct latency_figures ttft, itl, e2e, queue;
    struct time_ledger ledger;
    const struct step_model *model; // calibrated on this server's steps; NULL: too few steps yet
};
