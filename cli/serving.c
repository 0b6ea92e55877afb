#include "cli/serving.h"

#include "base/memory_resident.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_progress(void *context, uint64_t done, uint64_t total) {
    (void)context;
    enum { WIDTH = 40 };
    int filled = total ? (int)(done * WIDTH / total) : WIDTH;
    char bar[WIDTH + 1];
    memset(bar, '#', (size_t)filled);
    memset(bar + filled, '.', (size_t)(WIDTH - filled));
    bar[WIDTH] = 0;
    fprintf(stderr, "\rloading [%s] %5.1f of %.1f GiB%s", bar, (double)done / 0x1p30, (double)total / 0x1p30,
            done == total ? "\n" : "");
}

static void list_memory(void *context, struct memory_ledger *ledger) {
    const struct serving *serving = context;
    struct backend_memory memory;
    backend_memory(serving->backend, &memory);
    engine_list_memory(serving->engine, ledger);
    memory_ledger_append(ledger, &serving->proposer_memory);
    step_loop_list_memory(serving->step_loop, ledger);
    memory_ledger_append(ledger, server_memory(serving->server));
    // Weights that are used where files are mapped have a row of their own.
    const uint64_t mapped = memory_of_process().mapped;
    if (mapped > memory.mapped_bytes)
        memory_ledger_add(ledger, "program", mapped - memory.mapped_bytes, mapped - memory.mapped_bytes,
                          "code and libraries");
}

static void print_ready(const struct serving *serving, const struct memory_ledger *memory, uint64_t started_ns) {
    const struct engine_limits *limits = engine_limits(serving->engine);
    struct str text = STR_INIT;
    memory_ledger_print(memory, &text);
    printf("\n%s\n", str_text(&text));
    str_close(&text);
    printf("model    %s (%s, %.1f M parameters), context %d tokens\n", serving->model->name,
           serving->model->spec.family, (double)serving->model->spec.n_parameters / 1e6, limits->context);
    printf("device   %s\n", backend_description(serving->backend));
    struct knobs knobs;
    step_loop_read_knobs(serving->step_loop, &knobs);
    printf("steps    up to %d rows of %d sequences, %d in flight\n", limits->rows_max,
           (int)knobs.knob[KNOB_SEQUENCES].value, limits->steps_in_flight);
    if (serving->proposer) printf("drafts   %s\n", serving->proposer->name);
    printf("ready    after %.0f ms\n", (double)(clock_now_ns() - started_ns) / 1e6);
    fflush(stdout);
}

static int open_proposer(struct serving *serving, struct err *err) {
    const struct serving_options *options = &serving->options;
    const char *path = options->model.random_weights_path ? options->model.random_weights_path : options->model.path;
    struct draft_model_options draft = {.target = serving->model,
                                        .engine = serving->engine,
                                        .backend = serving->backend,
                                        .backend_options = options->backend,
                                        .kv_format = options->engine.kv_format,
                                        .weights = options->engine.weights};
    return speculate_open(&serving->proposer, &options->speculate, path, &draft, &serving->proposer_memory, err);
}

static int load_engine(struct serving *serving, struct err *err) {
    struct serving_options *options = &serving->options;
    options->engine.comm = serving->comm;
    options->engine.speculates = options->speculate.kind != SPECULATE_OFF;
    options->backend.device_index = comm_local_rank(serving->comm);
    int rc = model_open(&serving->model, &options->model, err);
    if (!rc && !serving->model->tokenizer)
        rc = err_set(err, ERR_NOT_FOUND, "%s: no tokenizer.json; text cannot be served without a tokenizer",
                     serving->model->path);
    if (!rc) rc = backend_open(&serving->backend, &options->backend, err);
    if (!rc) rc = engine_open(&serving->engine, serving->model, serving->backend, &options->engine, err);
    if (!rc && comm_rank(serving->comm) == 0) rc = open_proposer(serving, err);
    return rc;
}

static int load(struct serving *serving, struct err *err) {
    struct serving_options *options = &serving->options;
    if (!options->quiet && isatty(STDERR_FILENO)) options->engine.progress = print_progress;
    int rc = load_engine(serving, err);
    if (rc) return rc;
    if (backend_holds_weights(serving->backend)) model_release_weights(serving->model);
    options->step_loop.proposer = serving->proposer;
    options->step_loop.wake = server_wake;
    options->step_loop.wake_context = serving->server;
    rc = step_loop_open(&serving->step_loop, serving->engine, &options->step_loop, err);
    return rc || options->no_advisor ? rc : advising_open(&serving->advisor, serving, err);
}

static void *loader_main(void *argument) {
    struct serving *serving = argument;
    uint64_t started_ns = clock_now_ns();
    serving->load_rc = load(serving, &serving->load_err);
    if (serving->load_rc) {
        server_stop(serving->server);
        return NULL;
    }
    struct memory_ledger memory = {0};
    list_memory(serving, &memory);
    if (!serving->options.quiet) print_ready(serving, &memory, started_ns);
    server_attach(serving->server, &(struct server_engine){.model = serving->model,
                                                           .step_loop = serving->step_loop,
                                                           .context = engine_limits(serving->engine)->context,
                                                           .advisor = serving->advisor,
                                                           .list_memory = list_memory,
                                                           .memory_context = serving});
    return NULL;
}

int serving_open(struct serving *serving, const struct serving_options *options, struct err *err) {
    *serving = (struct serving){.options = *options};
    int rc = comm_open(&serving->comm, err);
    if (rc || comm_rank(serving->comm) > 0) return rc;
    rc = server_open(&serving->server, &options->server, err);
    if (!rc && pthread_create(&serving->loader, NULL, loader_main, serving) != 0) {
        server_close(serving->server);
        rc = err_set(err, ERR_IO, "cannot start a thread to load the model");
    }
    if (rc) comm_close(serving->comm, false);
    return rc;
}

// Rank 0 decides when to end: it drains what runs and tells the others.
static int follow(struct serving *serving, struct err *err) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    int rc = load_engine(serving, err);
    if (!rc) rc = engine_follow(serving->engine, err);
    if (rc) err_prefix(err, "rank %d", comm_rank(serving->comm));
    serving->has_failed = rc != 0;
    return rc;
}

int serving_run(struct serving *serving, struct err *err) {
    if (!serving->server) return follow(serving, err);
    int rc = server_run(serving->server, err);
    pthread_join(serving->loader, NULL);
    serving->has_failed = rc || serving->load_rc;
    if (!serving->load_rc) return rc;
    *err = serving->load_err;
    return serving->load_rc;
}

void serving_close(struct serving *serving) {
    if (serving->advisor) advisor_close(serving->advisor);
    if (serving->step_loop) step_loop_close(serving->step_loop);
    if (serving->server) server_close(serving->server);
    proposer_close(serving->proposer);
    engine_close(serving->engine);
    if (serving->backend) backend_close(serving->backend);
    model_close(serving->model);
    comm_close(serving->comm, !serving->has_failed);
}
