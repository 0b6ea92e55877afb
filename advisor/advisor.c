#include "advisor/advisor.h"

#include "advisor/evidence_make.h"
#include "advisor/inbox.h"
#include "advisor/peaks.h"
#include "advisor/rules.h"
#include "advisor/step_model.h"
#include "advisor/tuner.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RECORDS_AT_ONCE = 256, WINDOWS_BEFORE_MEMORY = 3 };
static const uint64_t TICK_NS = 100u * 1000 * 1000, SECOND_NS = 1000u * 1000 * 1000;
static const double THINK_S = 30; // a window of the rules' memory

struct advisor {
    struct advisor_options options;
    struct inbox *inbox;
    uint64_t opened_ns;
    pthread_t thread;

    pthread_mutex_t closing_mutex; // guards `closing`
    pthread_cond_t changed;
    bool closing;

    // The thread's own.
    struct machine *machine; // machine_figures reads what never changes, from any thread
    struct str peaks_key, peaks_path;
    uint64_t second_ns, thought_ns;
    double thermal_s;
    struct step_record records[RECORDS_AT_ONCE];

    pthread_mutex_t mutex; // guards what follows
    struct tally *tally;
    struct tally_limits limits;
    struct time_split split;
    struct step_model model;
    struct tuner *tuner;
    bool has_peaks, measured_peaks; // from the file or measured; measured by this process
    struct backend_peaks peaks;
    struct rule_memory memory;
    int64_t n_windows; // that the memory has seen
    double own_s;      // processor time of the thread
};

// ------------------------------------------------------------------------------------------------------------- peaks

static void use_peaks(struct advisor *advisor, const struct backend_peaks *peaks) {
    struct peak_figures figures;
    const struct setup *setup = &advisor->options.setup;
    peaks_figures(&figures, peaks, setup->device, setup->weights, setup->is_gpu);
    pthread_mutex_lock(&advisor->mutex);
    advisor->peaks = *peaks;
    advisor->has_peaks = true;
    if (figure_known(figures.read) && figure_known(figures.compute)) {
        advisor->split.read_bytes_per_s = figures.read.value;
        advisor->split.flops_per_s = figures.compute.value;
        step_model_open(&advisor->model, figures.read.value, figures.compute.value);
    }
    pthread_mutex_unlock(&advisor->mutex);
}

static void find_peaks_file(struct advisor *advisor) {
    const struct setup *setup = &advisor->options.setup;
    peaks_key(&advisor->peaks_key, setup->device, setup->is_gpu);
    if (advisor->options.peaks_path)
        str_append_text(&advisor->peaks_path, advisor->options.peaks_path);
    else
        peaks_default_path(&advisor->peaks_path, str_text(&advisor->peaks_key));
    struct backend_peaks peaks;
    if (advisor->peaks_path.n_bytes &&
        peaks_load(&peaks, str_text(&advisor->peaks_path), str_text(&advisor->peaks_key), NULL) == 0)
        use_peaks(advisor, &peaks);
}

static void ask_for_peaks(struct advisor *advisor) {
    struct backend_peaks peaks = {.n_read_curve = 0};
    const struct advisor_source *source = &advisor->options.source;
    if (advisor->measured_peaks || !source->measure_peaks || !source->measure_peaks(source->context, &peaks)) return;
    advisor->measured_peaks = true;
    if (advisor->has_peaks) peaks_merge(&peaks, &advisor->peaks);
    use_peaks(advisor, &peaks);
    struct err err = {0};
    if (advisor->peaks_path.n_bytes &&
        peaks_store(&peaks, str_text(&advisor->peaks_path), str_text(&advisor->peaks_key), &err))
        log_debug("measured peaks are not kept: %s", err.text);
}

// ------------------------------------------------------------------------------------------------------------ records

static struct step_work work_of(const struct step_record *r) {
    return (struct step_work){.weight_bytes = r->weight_bytes,
                              .head_bytes = r->head_bytes,
                              .kv_bytes = r->kv_bytes,
                              .linear_flops = r->linear_flops,
                              .attention_flops = r->attention_flops,
                              .head_flops = r->head_flops,
                              .rows = r->n_rows,
                              .prompt_rows = r->n_prompt_rows,
                              .logit_rows = r->n_logit_rows,
                              .sequences = r->n_sequences};
}

// The mutex is held.
static void take_records(struct advisor *advisor) {
    const struct advisor_source *source = &advisor->options.source;
    size_t n;
    do {
        uint64_t n_lost = 0;
        n = source->take_records(source->context, advisor->records, RECORDS_AT_ONCE, &n_lost);
        tuner_note_steps(advisor->tuner, advisor->records, n);
        for (size_t i = 0; i < n; i++) {
            const struct step_record *record = &advisor->records[i];
            const struct step_work work = work_of(record);
            const double step_s = tally_step(advisor->tally, &advisor->split, record, i ? 0 : n_lost, &advisor->limits);
            if (advisor->model.read_bytes_per_s > 0) step_model_learn(&advisor->model, &work, step_s);
        }
    } while (n == RECORDS_AT_ONCE);
}

// The mutex is held.
static void take_notes(struct advisor *advisor) {
    const struct notes *notes = inbox_take(advisor->inbox);
    tally_gaps(advisor->tally, notes->gaps, notes->n_gap_tokens);
    for (int32_t i = 0; i < notes->n_requests; i++)
        tally_request(advisor->tally, &notes->requests[i], &advisor->limits);
    tuner_note_requests(advisor->tuner, notes->requests, (size_t)notes->n_requests);
    tuner_note_gaps(advisor->tuner, notes->gap_s, (size_t)notes->n_gaps);
}

static void read_limits(struct advisor *advisor, struct tally_limits *out) {
    const struct advisor_options *options = &advisor->options;
    struct knobs knobs;
    options->source.knobs.read(options->source.knobs.context, &knobs);
    const double sequences = (double)knobs.knob[KNOB_SEQUENCES].value;
    const struct figure ttft = options->setup.objective_ttft, itl = options->setup.objective_itl;
    *out = (struct tally_limits){.sequences = sequences > 0 ? sequences : options->setup.sequences_max,
                                 .objective_ttft = figure_known(ttft) ? ttft.value : NAN,
                                 .objective_itl = figure_known(itl) ? itl.value : NAN};
}

// --------------------------------------------------------------------------------------------------------- the thread

static bool see(struct advisor *advisor, double window_s, struct evidence *out, struct setup *setup) {
    struct peak_figures peaks;
    peaks_figures(&peaks, advisor->has_peaks ? &advisor->peaks : NULL, setup->device, setup->weights, setup->is_gpu);
    return evidence_make(
        out,
        &(struct evidence_input){.tally = advisor->tally,
                                 .machine = advisor->machine,
                                 .setup = setup,
                                 .peaks = &peaks,
                                 .read_curve = advisor->peaks.read_curve,
                                 .n_read_curve = advisor->peaks.n_read_curve,
                                 .model = advisor->model.n_steps >= STEP_MODEL_STEPS_MIN ? &advisor->model : NULL},
        window_s);
}

static struct setup present_setup(const struct advisor *advisor) {
    struct setup setup = advisor->options.setup;
    advisor->options.source.knobs.read(advisor->options.source.knobs.context, &setup.knobs);
    return setup;
}

// Moves the rules' memory on by one window.
static void think(struct advisor *advisor) {
    struct diagnosis *diagnosis = mem_alloc(sizeof *diagnosis);
    struct evidence *evidence = mem_alloc(sizeof *evidence);
    struct setup setup = present_setup(advisor);
    pthread_mutex_lock(&advisor->mutex);
    if (see(advisor, THINK_S, evidence, &setup)) {
        diagnosis_make(diagnosis, evidence, &advisor->memory);
        tuner_consider(advisor->tuner, diagnosis);
        advisor->n_windows++;
    }
    pthread_mutex_unlock(&advisor->mutex);
    free(evidence);
    free(diagnosis);
}

static double thread_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void tick(struct advisor *advisor) {
    struct advisor_sample sample = {0};
    struct machine_counters counters = {0};
    struct tally_limits limits = {0};
    bool throttled = false;
    const uint64_t now_ns = clock_now_ns();
    const bool ends_second = now_ns - advisor->second_ns >= SECOND_NS - TICK_NS / 2;
    if (ends_second) {
        advisor->options.source.sample(advisor->options.source.context, &sample);
        machine_read(advisor->machine, (double)(now_ns - advisor->opened_ns) * 1e-9, &counters);
        read_limits(advisor, &limits);
        advisor->second_ns = now_ns;
    }
    pthread_mutex_lock(&advisor->mutex);
    take_notes(advisor);
    if (ends_second) {
        tally_close_second(advisor->tally, now_ns, &sample, &counters);
        // A quota holds at all times alike; heat comes and goes.
        throttled = counters.thermal_s > advisor->thermal_s;
        advisor->thermal_s = counters.thermal_s;
        advisor->limits = limits;
    }
    take_records(advisor);
    if (ends_second) {
        tuner_tick(advisor->tuner, (double)(now_ns - advisor->opened_ns) * 1e-9, (double)clock_wall_s(), &sample,
                   throttled);
        advisor->model.widening = decisions_widening(tuner_decisions(advisor->tuner));
    }
    advisor->own_s = thread_s();
    pthread_mutex_unlock(&advisor->mutex);
    ask_for_peaks(advisor);
    if ((double)(now_ns - advisor->thought_ns) * 1e-9 < THINK_S) return;
    advisor->thought_ns = now_ns;
    think(advisor);
}

static void *run(void *argument) {
    struct advisor *advisor = argument;
    uint64_t next_ns = clock_now_ns();
    pthread_mutex_lock(&advisor->closing_mutex);
    while (!advisor->closing) {
        pthread_mutex_unlock(&advisor->closing_mutex);
        tick(advisor);
        const uint64_t now_ns = clock_now_ns();
        next_ns = next_ns + TICK_NS > now_ns ? next_ns + TICK_NS : now_ns + TICK_NS;
        const struct timespec until = {(time_t)(next_ns / SECOND_NS), (long)(next_ns % SECOND_NS)};
        pthread_mutex_lock(&advisor->closing_mutex);
        while (!advisor->closing && clock_now_ns() < next_ns)
            pthread_cond_timedwait(&advisor->changed, &advisor->closing_mutex, &until);
    }
    pthread_mutex_unlock(&advisor->closing_mutex);
    return NULL;
}

// ------------------------------------------------------------------------------------------------------ open and close

static void free_advisor(struct advisor *advisor) {
    tuner_close(advisor->tuner);
    inbox_close(advisor->inbox);
    machine_close(advisor->machine);
    tally_close(advisor->tally);
    str_close(&advisor->peaks_key);
    str_close(&advisor->peaks_path);
    pthread_mutex_destroy(&advisor->mutex);
    pthread_mutex_destroy(&advisor->closing_mutex);
    pthread_cond_destroy(&advisor->changed);
    free(advisor);
}

static int open_tuner(struct advisor *advisor, struct err *err) {
    const struct advisor_options *options = &advisor->options;
    return tuner_open(&advisor->tuner,
                      &(struct tuner_options){.mode = options->self_tune,
                                              .knobs = options->source.knobs,
                                              .record_path = options->record_path,
                                              .objective_ttft = options->setup.objective_ttft.value,
                                              .objective_itl = options->setup.objective_itl.value,
                                              .n_blocks = options->setup.n_blocks},
                      err);
}

int advisor_open(struct advisor **out, const struct advisor_options *options, struct err *err) {
    struct advisor *advisor = mem_alloc_zero(1, sizeof *advisor);
    advisor->options = *options;
    advisor->opened_ns = advisor->second_ns = advisor->thought_ns = clock_now_ns();
    advisor->inbox = inbox_open();
    advisor->machine = machine_open(&(struct machine_options){.is_gpu = options->setup.is_gpu});
    advisor->tally = tally_open(advisor->opened_ns);
    pthread_mutex_init(&advisor->mutex, NULL);
    pthread_mutex_init(&advisor->closing_mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&advisor->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    read_limits(advisor, &advisor->limits);
    find_peaks_file(advisor);
    const int rc = open_tuner(advisor, err);
    if (rc) {
        free_advisor(advisor);
        return rc;
    }
    if (pthread_create(&advisor->thread, NULL, run, advisor) != 0) {
        free_advisor(advisor);
        return err_set(err, ERR_IO, "the advisor's thread could not be started");
    }
    pthread_setname_np(advisor->thread, "advisor");
    *out = advisor;
    return 0;
}

void advisor_close(struct advisor *advisor) {
    if (!advisor) return;
    pthread_mutex_lock(&advisor->closing_mutex);
    advisor->closing = true;
    pthread_cond_signal(&advisor->changed);
    pthread_mutex_unlock(&advisor->closing_mutex);
    pthread_join(advisor->thread, NULL);
    free_advisor(advisor);
}

// --------------------------------------------------------------------------------------------------------- any thread

void advisor_note_request(struct advisor *advisor, const struct request_trace *trace) {
    inbox_note_request(advisor->inbox, trace);
}

void advisor_note_gap(struct advisor *advisor, uint64_t gap_ns, bool with_prompt, int32_t n_tokens) {
    inbox_note_gap(advisor->inbox, gap_ns, with_prompt, n_tokens);
}

bool advisor_report(struct advisor *advisor, double window_s, struct report *out) {
    memset(out, 0, sizeof *out);
    struct setup setup = present_setup(advisor);
    pthread_mutex_lock(&advisor->mutex);
    const bool is_known = see(advisor, window_s, &out->evidence, &setup);
    out->model = advisor->model;
    struct rule_memory memory = advisor->memory; // a report does not move it on
    const bool remembers = advisor->n_windows >= WINDOWS_BEFORE_MEMORY;
    decisions_track(tuner_decisions(advisor->tuner), &out->track);
    out->own_share = advisor->own_s / ((double)(clock_now_ns() - advisor->opened_ns) * 1e-9);
    pthread_mutex_unlock(&advisor->mutex);
    if (!is_known) return false;
    if (out->evidence.model) out->evidence.model = &out->model;
    out->made_wall_s = clock_wall_s();
    economy_make(&out->economy, &out->evidence);
    diagnosis_make(&out->diagnosis, &out->evidence, remembers ? &memory : NULL);
    return true;
}

size_t advisor_history(struct advisor *advisor, struct history_point *out, size_t n) {
    struct peak_figures peaks;
    const struct setup *setup = &advisor->options.setup;
    pthread_mutex_lock(&advisor->mutex);
    peaks_figures(&peaks, advisor->has_peaks ? &advisor->peaks : NULL, setup->device, setup->weights, setup->is_gpu);
    n = evidence_history(advisor->tally, setup, &peaks, out, n);
    pthread_mutex_unlock(&advisor->mutex);
    return n;
}

int advisor_experiment_check(const struct advisor *advisor, struct err *err) {
    return tuner_check_mode(advisor->options.self_tune, err);
}

int advisor_experiment_begin(struct advisor *advisor, struct experiment_plan *plan, struct err *err) {
    pthread_mutex_lock(&advisor->mutex);
    const int rc = tuner_begin(advisor->tuner, plan, err);
    pthread_mutex_unlock(&advisor->mutex);
    return rc;
}

int advisor_experiment_stop(struct advisor *advisor, const char *id, struct err *err) {
    pthread_mutex_lock(&advisor->mutex);
    const int rc = tuner_stop(advisor->tuner, id, err);
    pthread_mutex_unlock(&advisor->mutex);
    return rc;
}

size_t advisor_experiments(struct advisor *advisor, struct experiment_state *out, size_t n) {
    pthread_mutex_lock(&advisor->mutex);
    n = tuner_experiments(advisor->tuner, out, n);
    pthread_mutex_unlock(&advisor->mutex);
    return n;
}
