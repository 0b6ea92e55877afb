// What the parts of `optima advise` share.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "base/url.h"
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct advise_options {
    const char *api_key, *api_key_path;
    int64_t window_s;
    double watch_s; // 0: once
    const char *experiment, *metric, *guard, *rollback, *offline;
    int64_t pairs;
    double block_s, min_effect; // min_effect: percent
    bool json;
};

struct advise {
    struct advise_options options;
    struct url url;
    char *api_key;     // or NULL
    bool ignores_stop; // requests go on after SIGINT
};

// One request to the server's advisor; body: JSON, or NULL for a GET. An answer that is not 200 is an error with the
// server's reason. *answer grows by what came.
int advise_ask(const struct advise *advise, const char *path, const char *body, struct str *answer, struct err *err)
    __attribute__((warn_unused_result));

// Markdown on standard output: wrapped and styled on a terminal, else as it is.
void advise_print(const char *markdown);

// Begins the experiment of the options and follows it to its end; Ctrl-C ends it, and the setting goes back. *status:
// 0 kept, 3 worse, 4 no difference or not certain, 130 stopped. url: as people would type it again.
int advise_experiment(const struct advise *advise, const char *url, int *status, struct err *err)
    __attribute__((warn_unused_result));
// Ends an experiment, or takes back what it has kept, and says so.
int advise_rollback(const struct advise *advise, const char *id, struct err *err) __attribute__((warn_unused_result));

// `optima advise --offline`: has options of its own.
int advise_offline_main(int argc, char **argv);

extern const volatile int *const advise_stop; // set by SIGINT
