#include "advisor/advisor.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICK_NS = 100 * 1000 * 1000 };

struct advisor {
    struct advisor_options options;
    pthread_t thread;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    bool closing;
};

static struct timespec moment(uint64_t at_ns) {
    return (struct timespec){(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};
}

static void *run(void *argument) {
    struct advisor *advisor = argument;
    pthread_mutex_lock(&advisor->mutex);
    while (!advisor->closing) {
        const struct timespec until = moment(clock_now_ns() + TICK_NS);
        pthread_cond_timedwait(&advisor->changed, &advisor->mutex, &until);
    }
    pthread_mutex_unlock(&advisor->mutex);
    return NULL;
}

static void free_advisor(struct advisor *advisor) {
    pthread_mutex_destroy(&advisor->mutex);
    pthread_cond_destroy(&advisor->changed);
    free(advisor);
}

int advisor_open(struct advisor **out, const struct advisor_options *options, struct err *err) {
    struct advisor *advisor = mem_alloc_zero(1, sizeof *advisor);
    advisor->options = *options;
    pthread_mutex_init(&advisor->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&advisor->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
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
    pthread_mutex_lock(&advisor->mutex);
    advisor->closing = true;
    pthread_cond_signal(&advisor->changed);
    pthread_mutex_unlock(&advisor->mutex);
    pthread_join(advisor->thread, NULL);
    free_advisor(advisor);
}

void advisor_note_request(struct advisor *advisor, const struct request_trace *trace) {
    (void)advisor, (void)trace;
}

void advisor_note_gap(struct advisor *advisor, uint64_t gap_ns, bool with_prompt, int32_t n_tokens) {
    (void)advisor, (void)gap_ns, (void)with_prompt, (void)n_tokens;
}

bool advisor_report(struct advisor *advisor, double window_s, struct report *out) {
    (void)advisor, (void)window_s, (void)out;
    return false;
}

size_t advisor_history(struct advisor *advisor, struct history_point *out, size_t n) {
    (void)advisor, (void)out, (void)n;
    return 0;
}

int advisor_experiment_begin(struct advisor *advisor, struct experiment_plan *plan, struct err *err) {
    (void)advisor, (void)plan;
    return err_set(err, ERR_UNSUPPORTED, "this server makes no experiments");
}

int advisor_experiment_stop(struct advisor *advisor, const char *id, struct err *err) {
    (void)advisor;
    return err_set(err, ERR_NOT_FOUND, "there is no experiment %s", id);
}

size_t advisor_experiments(struct advisor *advisor, struct experiment_state *out, size_t n) {
    (void)advisor, (void)out, (void)n;
    return 0;
}
