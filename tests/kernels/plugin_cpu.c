// The CPU as a plugin. It fails at the first step that draws with FATAL_SEED, as a device does that breaks.
#include "kernels/driver.h"

#include <stdio.h>

enum { FATAL_SEED = 666 };

static struct backend_driver driver;
static bool has_failed;

static int plugin_open(struct backend **out, const struct backend_options *options, struct err *err) {
    int rc = cpu_driver.open(out, options, err);
    if (!rc) snprintf((*out)->description, sizeof(*out)->description, "plugin %d", options->device_index);
    return rc;
}

static void plugin_submit(struct backend *backend, struct program *program, const struct step_input *input) {
    for (int32_t l = 0; l < input->n_logit_rows; l++) has_failed |= input->sample[l].seed == FATAL_SEED;
    cpu_driver.submit(backend, program, input);
}

static int plugin_collect(struct backend *backend, struct sample_result *results, struct step_times *times,
                          struct err *err) {
    int rc = cpu_driver.collect(backend, results, times, err);
    return has_failed ? err_set(err, ERR_IO, "the device fell off the bus") : rc;
}

__attribute__((visibility("default"))) backend_driver_function optima_backend_driver;

const struct backend_driver *optima_backend_driver(void) {
    driver = cpu_driver;
    driver.name = "plugin";
    driver.open = plugin_open;
    driver.submit = plugin_submit;
    driver.collect = plugin_collect;
    return &driver;
}
