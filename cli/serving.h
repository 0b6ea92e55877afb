// Everything between a model's path and a running server: used by `optima serve` and `optima chat MODEL`.
#pragma once

#include "base/err.h"
#include "cli/advising.h"
#include "cli/speculate.h"
#include "engine/engine.h"
#include "kernels/backend.h"
#include "kernels/comm.h"
#include "models/model.h"
#include "scheduler/step_loop.h"
#include "server/server.h"
#include <pthread.h>

enum { SERVING_URL_BYTES = 300 };

struct serving_options {
    struct model_options model;
    struct backend_options backend;
    struct engine_options engine;
    struct step_loop_options step_loop; // wake is filled in here
    struct server_options server;
    struct speculate_choice speculate;
    struct advising_options advising;
    bool no_advisor;
    bool quiet; // no progress, ledger or hints on standard output
};

struct serving {
    struct serving_options options;
    struct comm *comm; // NULL: one rank. Ranks other than 0 have no server and no step loop
    struct server *server;
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct proposer *proposer; // NULL: no speculation
    struct memory_ledger proposer_memory;
    struct step_loop *step_loop;
    struct advisor *advisor;     // NULL: none
    char url[SERVING_URL_BYTES]; // of the server, for the advisor's commands
    pthread_t loader;
    int load_rc; // 0, or why loading failed, with load_err; read after the server has stopped
    struct err load_err;
    bool has_failed; // serving_run did
};

// Listens at once and loads the model in a thread of its own, so that /health can say that it is loading.
// On failure nothing is left open.
int serving_open(struct serving *serving, const struct serving_options *options, struct err *err)
    __attribute__((warn_unused_result));
// Blocks until the server was told to stop. A model that failed to load ends it with the loader's error.
int serving_run(struct serving *serving, struct err *err) __attribute__((warn_unused_result));
void serving_close(struct serving *serving);
