// A table of what rules are about. Effects are worked out by hand from example_evidence.h's round numbers.
#include "tests/advisor/rule_cases.h"

#include <math.h>

static struct knob *knob(struct evidence *e, enum knob_id id) {
    return &e->setup.knobs.knob[id];
}

// ---------------------------------------------------------------------------------------------------------- batch

static void capped(struct evidence *e) {
    knob(e, KNOB_SEQUENCES)->value = 8;
    e->load.waiting_mean = 24;
    e->load.queue_share = 0.9;
    e->load.full_share = 0.95;
}
static void capped_with_gaps(struct evidence *e) {
    capped(e);
    e->host.gap_s = 0.02;
}
static void always_waiting(struct evidence *e) {
    capped(e);
    e->load.queue_share = 1.0000001;
}
static void rarely_full(struct evidence *e) {
    capped(e);
    e->load.full_share = 0.49;
}
static void capped_with_objective(struct evidence *e) {
    capped(e);
    e->setup.objective_itl.value = 0.149;
}
static void capped_with_narrow_objective(struct evidence *e) {
    capped(e);
    e->setup.objective_itl.value = 0.13;
}
static void capped_without_model(struct evidence *e) {
    capped(e);
    e->model = NULL;
}
static void long_rows(struct evidence *e) {
    knob(e, KNOB_SEQUENCES)->value = 8;
    e->efficiency.context_mean = 8000;
    e->efficiency.kv_share = 6.4 / 7.4;
    e->efficiency.decode_s_mean = 0.925;
    e->itl.p50.mean = 0.925;
    e->setup.objective_itl.value = 0.5;
}
static void long_rows_without_objective(struct evidence *e) {
    long_rows(e);
    e->setup.objective_itl = figure_unknown();
}
static void weights_shared(struct evidence *e) {
    e->setup.objective_itl.value = 0.1;
}
static void starved(struct evidence *e) {
    e->load.idle_share = 0.55;
    e->load.running_mean = 1.5;
}
static void almost_starved(struct evidence *e) {
    e->load.idle_share = 0.49;
    e->load.running_mean = 1.5;
}
static void careful_admission(struct evidence *e) {
    knob(e, KNOB_ADMISSION)->value = 100;
    e->cache.occupancy = 0.3;
    e->load.queue_share = 0.8;
    e->load.full_share = 0.1;
    e->load.waiting_mean = 30;
}
static void careful_admission_full_cache(struct evidence *e) {
    careful_admission(e);
    e->cache.occupancy = 0.75;
}

// ---------------------------------------------------------------------------------------------------------- cache

static void kv_short(struct evidence *e) {
    e->setup.n_blocks = 80;
    e->cache.occupancy = 0.98;
    e->cache.recomputed_tokens = 24000;
    e->ledger.share[TIME_RECOMPUTE] = 0.09;
    e->load.waiting_mean = 24;
    e->load.queue_share = 0.9;
}
static void kv_short_without_memory(struct evidence *e) {
    kv_short(e);
    e->cache.free_memory_bytes = 1e9;
}
static void kv_short_in_int8(struct evidence *e) {
    kv_short_without_memory(e);
    e->setup.kv_format = "int8";
}
static void kv_hardly_short(struct evidence *e) {
    e->cache.recomputed_tokens = 2300;
}
static void wasteful_blocks(struct evidence *e) {
    e->cache.waste_share = 0.2;
    e->cache.occupancy = 0.8;
}
static void wasteful_blocks_in_empty_cache(struct evidence *e) {
    e->cache.waste_share = 0.2;
}
static void memory_left(struct evidence *e) {
    e->cache.occupancy_max = 0.95;
    e->cache.free_memory_bytes = 3.4e9;
}
static void prefixes_lost(struct evidence *e) {
    e->cache.hits = 24000;
    e->cache.ideal_hits = 144000;
    e->cache.evicted_tokens = 1000;
    e->queue.p50.mean = 0.05;
}
static void prefixes_off(struct evidence *e) {
    e->cache.hits = 0;
    e->cache.ideal_hits = 120000;
    knob(e, KNOB_PREFIX_CACHE)->value = 0;
}
static void prefixes_hardly_lost(struct evidence *e) {
    prefixes_lost(e);
    e->cache.ideal_hits = 24000 + 0.14 * 240000;
}
static void time_first(struct evidence *e) {
    e->cache.hits = e->cache.ideal_hits = 0;
    e->cache.early_divergence_share = 0.9;
}
static void nothing_shared(struct evidence *e) {
    e->cache.hits = 0;
    e->cache.ideal_hits = 240;
    e->host.gap_share = 0.08;
}
static void nothing_shared_cheaply(struct evidence *e) {
    e->cache.hits = 0;
    e->cache.ideal_hits = 240;
}
static void half_kv(struct evidence *e) {
    e->efficiency.kv_share = 0.5;
    e->efficiency.context_mean = 1250;
    e->efficiency.decode_s_mean = 0.25;
}
static void some_kv(struct evidence *e) {
    e->efficiency.kv_share = 0.29;
}

// -------------------------------------------------------------------------------------------------------- prompts

static void gaps_with_prompts(struct evidence *e) {
    e->itl.p99.mean = 0.5;
    e->prompt.gaps_long_with_prompt = 0.9;
    e->prompt.step_s_with = 0.335;
    e->setup.objective_itl.value = 0.25;
}
static void gaps_without_objective(struct evidence *e) {
    gaps_with_prompts(e);
    e->setup.objective_itl = figure_unknown();
}
static void gaps_that_nobody_minds(struct evidence *e) {
    gaps_with_prompts(e);
    e->setup.objective_itl.value = 0.6;
}
static void gaps_without_prompts(struct evidence *e) {
    gaps_with_prompts(e);
    e->prompt.gaps_long_with_prompt = 0.79;
}
static void small_chunks(struct evidence *e) {
    e->prompt.rows_per_step = 8;
    e->load.prompt_tokens_mean = 440;
    e->ledger.share[TIME_PROMPT] = 0.3;
    e->load.input_rate = 16;
    knob(e, KNOB_CHUNK)->value = 8;
}
static void small_chunks_twice(struct evidence *e) {
    small_chunks(e);
    knob(e, KNOB_PROMPT_ROWS)->value = 8;
}
static void small_chunks_by_themselves(struct evidence *e) {
    small_chunks(e);
    knob(e, KNOB_CHUNK)->value = 0;
}
static void balanced_chunks(struct evidence *e) {
    small_chunks(e);
    e->prompt.rows_per_step = 401;
}
static void short_behind_long(struct evidence *e) {
    e->prompt.ttft_short_p99 = 0.6;
    e->prompt.long_ahead_share = 0.5;
}
static void short_behind_few(struct evidence *e) {
    e->prompt.ttft_short_p99 = 0.6;
    e->prompt.long_ahead_share = 0.29;
}
static void long_contexts(struct evidence *e) {
    e->efficiency.kv_share = 0.75;
    e->efficiency.context_mean = 3750;
    e->efficiency.decode_s_mean = 0.5;
}
static void long_prompts(struct evidence *e) {
    e->prompt.attention_share = 0.5;
}
static void rather_long_prompts(struct evidence *e) {
    e->prompt.attention_share = 0.39;
}

// -------------------------------------------------------------------------------------------------------- weights

static void wide(struct evidence *e) {
    e->setup.bits_per_weight = 16;
}
static void wide_with_queue(struct evidence *e) {
    wide(e);
    e->load.queue_share = 0.5;
}
static void eight_bits(struct evidence *e) {
    e->setup.bits_per_weight = 8.5;
}
static void wide_and_slow(struct evidence *e) {
    wide(e);
    e->efficiency.mbu_decode = 0.45;
}
static void wide_and_idle(struct evidence *e) {
    wide(e);
    e->load.idle_share = 0.6;
}
static void wide_beside_kv(struct evidence *e) {
    wide(e);
    e->efficiency.kv_share = 0.6;
}
static void heavy_head(struct evidence *e) {
    e->host.head_share = 0.2;
}
static void hardly_heavy_head(struct evidence *e) {
    e->host.head_share = 0.14;
}
static void heavy_narrow_head(struct evidence *e) {
    heavy_head(e);
    e->setup.head_bytes = 50000 * 1024 * 1.0625;
}
static void slow_drawing(struct evidence *e) {
    e->host.sample_share = 0.1;
    e->host.sample_s = 0.0135;
}
static void drawing_as_fast_as_it_reads(struct evidence *e) {
    e->host.sample_share = 0.1;
    e->host.sample_s = 0.0002;
}
static void hardly_slow_drawing(struct evidence *e) {
    slow_drawing(e);
    e->host.sample_share = 0.049;
}

// ----------------------------------------------------------------------------------------------------------- host

static void gaps(struct evidence *e) {
    e->host.gap_share = 0.2;
}
static void small_gaps(struct evidence *e) {
    e->host.gap_share = 0.099;
}
static void gaps_beside_a_busy_loop(struct evidence *e) {
    gaps(e);
    e->host.loop_busy_share = 0.3;
}
static void gaps_of_a_gpu(struct evidence *e) {
    gaps(e);
    e->setup.is_gpu = true;
}
static void masks(struct evidence *e) {
    e->host.mask_share = 0.1;
}
static void few_masks(struct evidence *e) {
    e->host.mask_share = 0.04;
}
static void slow_text(struct evidence *e) {
    e->host.text_s_per_request = 0.05;
    e->load.residence_mean = 0.4;
}
static void slow_text_of_long_answers(struct evidence *e) {
    slow_text(e);
    e->load.residence_mean = 0.51;
}
static void hardly_slow_text(struct evidence *e) {
    e->host.text_s_per_request = 0.039;
    e->load.residence_mean = 0.3;
}
static void blocked(struct evidence *e) {
    e->host.blocked_stream_share = 0.06;
}
static void hardly_blocked(struct evidence *e) {
    e->host.blocked_stream_share = 0.049;
}
static void bunched(struct evidence *e) {
    e->host.tokens_per_event = 1.3;
}
static void hardly_bunched(struct evidence *e) {
    e->host.tokens_per_event = 1.19;
}

// ----------------------------------------------------------------------------------------------------------- load

static void overloaded(struct evidence *e) {
    e->load.concurrency_slope.low = e->load.ttft_slope.low = 0.1;
    e->load.arrival_rate = 20;
    e->ttft.p95.mean = 30;
}
static void refusing(struct evidence *e) {
    overloaded(e);
    e->load.ttft_slope.low = -0.1;
    e->load.n_rejected = 300;
    e->setup.objective_ttft = figure_unknown();
}
static void refusing_few(struct evidence *e) {
    refusing(e);
    e->load.n_rejected = 140;
}
static void overloaded_by_a_cap(struct evidence *e) {
    overloaded(e);
    capped(e);
}
static void nearly_full(struct evidence *e) {
    e->load.arrival_rate = 23;
    e->load.queue_share = 0.5;
}
static void not_nearly_full(struct evidence *e) {
    e->load.arrival_rate = 19;
    e->load.queue_share = 0.5;
}
static void little(struct evidence *e) {
    e->load.residence_mean = 1;
}
static void nearly_little(struct evidence *e) {
    e->load.residence_mean = 0.9;
}
static void little_behind_text(struct evidence *e) {
    little(e);
    e->host.text_s_per_request = 0.11;
}
static void little_unsteady(struct evidence *e) {
    little(e);
    e->steady = false;
}
static void failing(struct evidence *e) {
    e->load.n_failed = 100;
}
static void hardly_failing(struct evidence *e) {
    e->load.n_failed = 20;
}
static void late(struct evidence *e) {
    e->setup.objective_ttft.value = 0.25;
}
static void without_objectives(struct evidence *e) {
    e->setup.objective_ttft = e->setup.objective_itl = figure_unknown();
}
static void half_idle(struct evidence *e) {
    e->load.idle_share = 0.5;
}
static void half_idle_without_price(struct evidence *e) {
    half_idle(e);
    e->setup.price_per_hour = figure_unknown();
}
static void mostly_idle(struct evidence *e) {
    e->load.idle_share = 0.6;
}
static void mostly_idle_without_price(struct evidence *e) {
    mostly_idle(e);
    e->setup.price_per_hour = figure_unknown();
}

// ---------------------------------------------------------------------------------------------------- speculation

static void bad_drafts(struct evidence *e) {
    e->setup.speculates = true;
    e->efficiency.decode_s_mean = 0.2;
    e->speculation.is_on = true;
    e->speculation.drafts_per_sequence = 4;
    e->speculation.acceptance = 0.05;
    e->speculation.step_share = 1;
    e->speculation.draft_s = 40; // 20 ms a step
    e->speculation.draft_row_share = 0.8;
}
static void good_drafts(struct evidence *e) {
    bad_drafts(e);
    e->speculation.acceptance = 0.9;
}
static void drafts_that_compute(struct evidence *e) {
    bad_drafts(e);
    e->speculation.acceptance = 0.7;
    e->efficiency.decode_s_mean = 0.9;
    e->setup.flops_per_token = 20e9;
}
static void repeating(struct evidence *e) {
    e->speculation.shadow_acceptance = 0.8;
    e->speculation.shadow_coverage = 0.6;
}
static void hardly_repeating(struct evidence *e) {
    e->speculation.shadow_acceptance = 0.8;
    e->speculation.shadow_coverage = 0.05;
}

// -------------------------------------------------------------------------------------------------------- machine

static void few_parts(struct evidence *e) {
    e->setup.n_processors = 64;
    e->ledger.share[TIME_DECODE_KV] = 0.2;
    e->ledger.share[TIME_DECODE_WEIGHTS] = 0.5;
}
static void enough_parts(struct evidence *e) {
    few_parts(e);
    e->setup.n_processors = 32;
}
static void hot(struct evidence *e) {
    e->machine.thermal_share = 0.3;
    e->machine.frequency_share = 0.8;
}
static void warm(struct evidence *e) {
    e->machine.thermal_share = 0.049;
}
static void crowded_threads(struct evidence *e) {
    e->machine.threads = 8;
    e->machine.wait_share = 0.3;
}
static void crowded_machine(struct evidence *e) {
    e->machine.wait_share = 0.2;
    e->machine.other_cpu_share = 0.4;
}
static void quota(struct evidence *e) {
    e->machine.quota_cores = 2;
    e->machine.throttled_share = 0.4;
}
static void waits_a_little(struct evidence *e) {
    e->machine.wait_share = 0.04;
    e->machine.other_cpu_share = 0.4;
}
static void remote(struct evidence *e) {
    e->machine.numa_nodes = 2;
    e->machine.numa_remote_share = 0.3;
}
static void hardly_remote(struct evidence *e) {
    e->machine.numa_nodes = 2;
    e->machine.numa_remote_share = 0.19;
}
static void memory_bound(struct evidence *e) {
    e->efficiency.mbu_decode = 0.85;
}
static void memory_bound_by_all_threads(struct evidence *e) {
    memory_bound(e);
    e->machine.read_curve[2] = 9e9;
}
static void paging(struct evidence *e) {
    e->machine.major_faults = 50;
}
static void hardly_paging(struct evidence *e) {
    e->machine.major_faults = 0.9;
}
static void idle_energy(struct evidence *e) {
    e->load.idle_share = 0.4;
}
static void busy_energy(struct evidence *e) {
    e->load.idle_share = 0.29;
}
static void watts_unknown(struct evidence *e) {
    idle_energy(e);
    e->machine.watts = NAN;
}

// Two deviations of a count of 3000.
#define COUNTED (2 / 54.7722557505166)
// Of 8 sequences, as many as prompts take of busy time.
#define PROMPTS_TOGETHER (8 * 0.16 / 0.9)
// Of a throughput, when decoding, 0.8 of busy time, takes `step` of what it takes now.
#define DECODING(step) (1 / (0.2 + 0.8 * (step)))

const struct rule_case rule_cases[] = {
    // 32 rows: 132 ms at least; 159 ms with 27 ms more, 165 ms with 1.25 times; 16.875 ms a token now; 0.8 of busy.
    {"cap of 8", "R1", capped, RULE_FIRES, "--sequences 32", 1 / (0.2 + 0.8 * 165.0 / 32 / 16.875),
     1 / (0.2 + 0.8 * 159.0 / 32 / 16.875)},
    // 20 ms between steps, which stay or grow four times.
    {"cap of 8, with gaps", "R1", capped_with_gaps, RULE_FIRES, "--sequences 32", DECODING((165 + 80) / 32.0 / 19.375),
     DECODING((159 + 20) / 32.0 / 19.375)},
    {"cap of 8, somebody waits all the time by another clock", "R1", always_waiting, RULE_FIRES, "--sequences 32", 0,
     0},
    {"cap reached in 49 % of steps", "R1", rarely_full, RULE_HEALTHY, NULL, 0, 0},
    // 1.25 (100 + rows) ms stays below 149 ms up to 19 rows; 16 is the round number below.
    {"objective of 149 ms", "R1", capped_with_objective, RULE_FIRES, "--sequences 16",
     1 / (0.2 + 0.8 * 145.0 / 16 / 16.875), 1 / (0.2 + 0.8 * 143.0 / 16 / 16.875)},
    {"objective of 130 ms", "R1", capped_with_narrow_objective, RULE_WONT_HELP, NULL, 0, 0},
    {"no model", "R1", capped_without_model, RULE_UNKNOWN, NULL, 0, 0},
    // A row of 8000 tokens reads 0.8 GB: 100 + 80 rows ms at least, 185 ms more now. 2 rows: 260 ms.
    {"rows of 8000 tokens", "R2", long_rows, RULE_FIRES, "--sequences 2", 1.25 * 260 / 925, (260 + 185.0) / 925},
    {"rows of 8000 tokens, no objective", "R2", long_rows_without_objective, RULE_UNKNOWN, NULL, 0, 0},
    {"rows that share weights", "R2", weights_shared, RULE_WONT_HELP, NULL, 0, 0},
    {"idle 55 % of the time", "R3", starved, RULE_FIRES, "", 2 / 1.45 * (1 - COUNTED), 2 * (1 + COUNTED)},
    {"idle 49 % of the time", "R3", almost_starved, RULE_HEALTHY, NULL, 0, 0},
    // 0.9 / 0.3 = 3 times the rows, 24: 124 ms at least, 151 ms with the same excess.
    {"all of max_tokens set aside", "R5", careful_admission, RULE_FIRES, "--admission 60", 1,
     1 / (0.2 + 0.8 * 151.0 / 24 / 16.875)},
    {"cache 75 % full", "R5", careful_admission_full_cache, RULE_HEALTHY, NULL, 0, 0},
    // A tenth of busy time goes; 10 sequences of 8 blocks fit, 32 are wanted: 1.1 x 3.2 times 128 MB, 28.16 rows.
    {"tiny cache", "R4", kv_short, RULE_FIRES, "--kv-gib 0.421875", 1 / 0.9,
     1 / 0.9 / (0.2 + 0.8 * (128.16 + 27) / 28.16 / 16.875)},
    {"tiny cache, no memory", "R4", kv_short_without_memory, RULE_FIRES, "--kv-format int8", 0, 0},
    {"tiny cache of int8, no memory", "R4", kv_short_in_int8, RULE_FIRES, "--sequences 10", 1, 1 / 0.9},
    {"1 % recomputed", "R4", kv_hardly_short, RULE_HEALTHY, NULL, 0, 0},
    {"a fifth of the slots empty", "R6", wasteful_blocks, RULE_FIRES, "--kv-gib 7.5", 1, 1.25},
    {"a fifth of the slots empty, nobody minds", "R6", wasteful_blocks_in_empty_cache, RULE_WONT_HELP, NULL, 0, 0},
    {"2.3 GB to spare", "R7", memory_left, RULE_FIRES, "--kv-gib 8.125", 0.95 * (9.8e9 - 0x1p30) / 6.4e9,
     (9.8e9 - 0x1p30) / 6.4e9},
    {"half of the prompts lost", "R10", prefixes_lost, RULE_FIRES, "--kv-gib 12", 0.4 / 0.9 / PROMPTS_TOGETHER,
     0.25 + 0.75 * 0.65 / 0.9},
    {"prefix cache off", "R10", prefixes_off, RULE_FIRES, "", 0.5 / PROMPTS_TOGETHER, 0.05 + 0.95 * 0.55},
    {"14 points lost", "R10", prefixes_hardly_lost, RULE_HEALTHY, NULL, 0, 0},
    {"the time comes first", "R10", time_first, RULE_FIRES, "", (1 - 0.9 * 0.8) / PROMPTS_TOGETHER, 1},
    {"nothing shared", "R11", nothing_shared, RULE_FIRES, "--no-prefix-cache", 1, 1 / 0.92},
    {"nothing shared, small gap", "R11", nothing_shared_cheaply, RULE_WONT_HELP, NULL, 0, 0},
    // 1 GB of KV becomes 0.53125 GB (200 ms to 153.125 ms by physics, 50 ms or 1.25 times more); at worst 0.664 GB.
    {"half of the bytes are KV", "R12", half_kv, RULE_FIRES, "--kv-format int8",
     1 / (0.2 + 0.8 * (166.40625 + 50) / 250), 1 / (0.2 + 0.8 * 1.25 * 153.125 / 250)},
    {"29 % of the bytes are KV", "R12", some_kv, RULE_WONT_HELP, NULL, 0, 0},
    // 5 ms a row of a prompt; 115 ms are left: 23 rows, 16 in whole tiles, a step of 215 ms, or of 255 ms.
    {"gaps with prompts", "R8", gaps_with_prompts, RULE_FIRES, "--prompt-rows 16", 215.0 / 500,
     (255.0 + 500 - 335) / 500},
    {"gaps with prompts, no objective", "R8", gaps_without_objective, RULE_FIRES, "", 0, 0},
    {"gaps with prompts, within the objective", "R8", gaps_that_nobody_minds, RULE_WONT_HELP, NULL, 0, 0},
    {"79 % of the gaps with prompts", "R8", gaps_without_prompts, RULE_HEALTHY, NULL, 0, 0},
    // 8 rows now take 150 ms, of which 90 + 0.1818 + 2.2 ms are bytes; with 32 rows 0.7273 ms of head.
    {"8 rows of a prompt", "R9", small_chunks, RULE_FIRES, "--chunk 32",
     (92.2 + 0.32 / 0.44 + 150 - 92.2 - 0.08 / 0.44) / 32 / 18.75 / (8 * 0.3 / 0.9),
     0.05 + 0.95 * (92.2 + 0.32 / 0.44) * 150 / (92.2 + 0.08 / 0.44) / 32 / 18.75},
    {"8 rows by two options", "R9", small_chunks_twice, RULE_FIRES, "--chunk 32 --prompt-rows 32", 0, 0},
    {"8 rows by the server's own choice", "R9", small_chunks_by_themselves, RULE_HEALTHY, NULL, 0, 0},
    {"401 rows of a prompt", "R9", balanced_chunks, RULE_HEALTHY, NULL, 0, 0},
    {"short prompts wait", "R28", short_behind_long, RULE_FIRES, "--chunk 256", 0.25, 0.375 / 0.6},
    {"short prompts wait, not for long ones", "R28", short_behind_few, RULE_HEALTHY, NULL, 0, 0},
    // 3 GB of KV beside 1 GB: 400 ms by bytes, 500 now; half the context 250, 350 with the same excess, or 312.5.
    {"three quarters of the bytes are KV", "R29", long_contexts, RULE_FIRES, "", 1 / 0.76, 1 / 0.7},
    {"half of prompts' FLOPs are attention", "R29", long_prompts, RULE_FIRES, "", 1 / (1 - 0.8 * 0.25 * 0.16 / 0.9),
     1 / (1 - 1.25 * 0.25 * 0.16 / 0.9)},
    {"39 % of prompts' FLOPs are attention", "R29", rather_long_prompts, RULE_HEALTHY, NULL, 0, 0},
    // 0.9 GB become 0.478 GB: 65.8 ms by bytes, 1.25 times; at worst 0.598 GB: 77.8 ms, and 27 ms.
    {"16 bits", "R13", wide, RULE_FIRES, "--weights int8", 1.25 * 65.8125 / 135, (77.765625 + 27) / 135},
    {"16 bits with a queue", "R13", wide_with_queue, RULE_FIRES, "--weights int8",
     1 / (0.2 + 0.8 * (77.765625 + 27) / 135), 1 / (0.2 + 0.8 * 1.25 * 65.8125 / 135)},
    {"8 bits", "R13", eight_bits, RULE_FIRES, "--weights int4", 0, 0},
    {"16 bits, bandwidth unused", "R13", wide_and_slow, RULE_WONT_HELP, NULL, 0, 0},
    {"16 bits, idle", "R13", wide_and_idle, RULE_WONT_HELP, NULL, 0, 0},
    {"16 bits beside much KV", "R13", wide_beside_kv, RULE_WONT_HELP, NULL, 0, 0},
    {"a fifth is the head", "R18", heavy_head, RULE_FIRES, "", 1 / (1 - 0.2 * 0.32), 1 / (1 - 0.2 * 0.456)},
    {"14 % is the head", "R18", hardly_heavy_head, RULE_HEALTHY, NULL, 0, 0},
    {"a fifth is a head of 8 bits", "R18", heavy_narrow_head, RULE_WONT_HELP, NULL, 0, 0},
    // 8 x 50000 x 4 bytes are read in 0.16 ms; all else takes 97.5 %.
    {"a tenth is drawing", "R19", slow_drawing, RULE_FIRES, "", 1 / (1 - 0.05 * (1 - 0.16 / 13.5)),
     1 / (1 - 0.1 * (1 - 0.16 / 13.5)) / 0.975},
    {"a tenth is reading logits", "R19", drawing_as_fast_as_it_reads, RULE_WONT_HELP, NULL, 0, 0},
    {"4.9 % is drawing", "R19", hardly_slow_drawing, RULE_HEALTHY, NULL, 0, 0},
    {"gaps between steps", "R15", gaps, RULE_FIRES, "", 0, 0},
    {"gaps beside a busy HTTP thread", "R15", gaps_beside_a_busy_loop, RULE_FIRES, "--threads 3", 0.99, 0.99 / 0.8},
    {"gaps of a GPU", "R15", gaps_of_a_gpu, RULE_FIRES, "--steps-in-flight 2", 1, 1.25},
    {"gaps of 9.9 %", "R15", small_gaps, RULE_HEALTHY, NULL, 0, 0},
    {"masks", "R20", masks, RULE_FIRES, "", 1, 1 / 0.9},
    {"few masks", "R20", few_masks, RULE_HEALTHY, NULL, 0, 0},
    // At best 10 ms of waiting and half of 150 ms are left.
    {"text is a quarter of TTFT", "R21", slow_text, RULE_FIRES, "", (0.01 + 0.075) / 0.2, 0.875},
    {"text is a quarter of TTFT, and 9.8 % of the request", "R21", slow_text_of_long_answers, RULE_HEALTHY, NULL, 0, 0},
    {"text is 19.5 % of TTFT", "R21", hardly_slow_text, RULE_HEALTHY, NULL, 0, 0},
    {"6 % of the streams blocked", "R22", blocked, RULE_FIRES, "", 0, 0},
    {"4.9 % of the streams blocked", "R22", hardly_blocked, RULE_HEALTHY, NULL, 0, 0},
    {"1.3 tokens an event", "R23", bunched, RULE_FIRES, "", 0, 0},
    {"1.19 tokens an event", "R23", hardly_bunched, RULE_HEALTHY, NULL, 0, 0},
    // 50 requests take 5 s at 10 a second; a prompt 0.19 s; those that run end within 0.79 s.
    {"twice the load", "R24", overloaded, RULE_FIRES, "--queue 50", 2.5 / 30, (5.19 + 0.79) / 30},
    {"a tenth refused, no objective", "R24", refusing, RULE_FIRES, "", 0, 0},
    {"4.7 % refused", "R24", refusing_few, RULE_HEALTHY, NULL, 0, 0},
    {"twice the load, but a cap", "R24", overloaded_by_a_cap, RULE_WONT_HELP, NULL, 0, 0},
    // 10 / 0.9 requests a second at 8 rows, 2.296 times that at 32.
    {"23 of 25.5 requests a second", "R25", nearly_full, RULE_FIRES, "", 0, 0},
    {"19 of 25.5 requests a second", "R25", not_nearly_full, RULE_HEALTHY, NULL, 0, 0},
    {"8 inside, 10 by Little's law", "R26", little, RULE_FIRES, "", 0, 0},
    {"8 inside, 9 by Little's law", "R26", nearly_little, RULE_HEALTHY, NULL, 0, 0},
    {"8 inside, 10 by Little's law, with text before", "R26", little_behind_text, RULE_UNKNOWN, NULL, 0, 0},
    {"8 inside, 10 by Little's law, unsteady", "R26", little_unsteady, RULE_UNKNOWN, NULL, 0, 0},
    {"3 % failed", "R45", failing, RULE_FIRES, "", 0, 0},
    {"0.7 % failed", "R45", hardly_failing, RULE_HEALTHY, NULL, 0, 0},
    {"TTFT above its objective", "R27", late, RULE_FIRES, "", 0, 0},
    {"no objectives", "R27", without_objectives, RULE_UNKNOWN, NULL, 0, 0},
    // 20 requests a second would be borne at 8 rows, 45 at 32: 2/9 are used, 0.2778 of four fifths.
    {"2/9 of its capacity", "R43", half_idle, RULE_FIRES, "", 0.7 / 3.6, 1.3 / 3.6},
    {"2/9 of its capacity, no price", "R43", half_idle_without_price, RULE_UNKNOWN, NULL, 0, 0},
    {"idle 60 %", "R44", mostly_idle, RULE_FIRES, "", 0.4, 0.8 / 1.4},
    {"idle 60 %, no price", "R44", mostly_idle_without_price, RULE_UNKNOWN, NULL, 0, 0},
    {"idle 50 %", "R44", half_idle, RULE_HEALTHY, NULL, 0, 0},
    // 40 rows take 200 ms, 140 by bytes, and 20 ms of drafting for 1.0526 tokens; 8 rows 168 ms or 154.3 ms for one.
    {"drafts of which 5 % hold", "R31", bad_drafts, RULE_FIRES, "--speculate off", DECODING(168 / 209.0000653),
     DECODING(108 / 0.7 / 209.0000653)},
    {"drafts of which 90 % hold", "R31", good_drafts, RULE_HEALTHY, NULL, 0, 0},
    // 40 rows compute 804.4 ms and take 900, and 20 of drafting, for 2.7731 tokens; 8 rows 160.88 ms and 95.6 ms more.
    {"drafts in a batch that computes", "R32", drafts_that_compute, RULE_FIRES, "--speculate off",
     DECODING((160.88 + 95.6) / (920 / 2.7731)), DECODING(160.88 * 900 / 804.4 / (920 / 2.7731))},
    {"drafts of which 5 % hold", "R32", bad_drafts, RULE_HEALTHY, NULL, 0, 0},
    // Up to 5 drafts lie within four times the rows: 32 rows, 165 or 159 ms. (1 - 0.76^6) / 0.24 and (1 - 0.84^6) /
    // 0.16.
    {"answers that repeat", "R33", repeating, RULE_FIRES, "--speculate ngram",
     DECODING(165 / (0.4 + 0.6 * 3.363752) / 135), DECODING(159 / (0.4 + 0.6 * 4.054382) / 135)},
    {"answers that hardly repeat", "R33", hardly_repeating, RULE_WONT_HELP, NULL, 0, 0},
    // Attention takes 0.2 of 0.77 of 135 ms; 80 MB take 8 ms.
    {"32 parts for 64 processors", "R30", few_parts, RULE_FIRES, "", 1,
     1 / (1 - 0.2 / 0.9 * (1 - 8 / (135 * 0.2 / 0.77)))},
    {"32 parts for 32 processors", "R30", enough_parts, RULE_HEALTHY, NULL, 0, 0},
    {"hot", "R37", hot, RULE_FIRES, "", 1, 1.25},
    {"warm", "R37", warm, RULE_HEALTHY, NULL, 0, 0},
    {"energy of an idle machine", "R38", idle_energy, RULE_FIRES, "", 0.6, 0.88},
    {"energy of a busy machine", "R38", busy_energy, RULE_HEALTHY, NULL, 0, 0},
    {"energy unknown", "R38", watts_unknown, RULE_UNKNOWN, NULL, 0, 0},
    {"8 threads on 4 cores", "R39", crowded_threads, RULE_FIRES, "--threads 4", 1, 1 / 0.7},
    {"other processes", "R39", crowded_machine, RULE_FIRES, "", 1, 1.25},
    {"quota of 2 cores", "R39", quota, RULE_FIRES, "--threads 2", 1, 1 / 0.6},
    {"threads wait 4 %", "R39", waits_a_little, RULE_HEALTHY, NULL, 0, 0},
    {"memory of another node", "R40", remote, RULE_FIRES, "", 1, 1 / 0.7},
    {"some memory of another node", "R40", hardly_remote, RULE_HEALTHY, NULL, 0, 0},
    {"3 threads read as fast", "R41", memory_bound, RULE_FIRES, "", 0.99, 1},
    {"4 threads read faster", "R41", memory_bound_by_all_threads, RULE_WONT_HELP, NULL, 0, 0},
    {"50 faults a second", "R42", paging, RULE_FIRES, "", 1, 1.25},
    {"0.9 faults a second", "R42", hardly_paging, RULE_HEALTHY, NULL, 0, 0},
};
const int n_rule_cases = sizeof rule_cases / sizeof *rule_cases;
