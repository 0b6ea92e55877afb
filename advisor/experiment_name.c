#include "advisor/experiment.h"

#include <string.h>

// The metrics of findings' effects have the same names.
static const char *const metrics[METRICS] = {
    [METRIC_OUTPUT_RATE] = "output_tokens_per_s",
    [METRIC_ITL_P50] = "itl_p50_s",
    [METRIC_ITL_P99] = "itl_p99_s",
    [METRIC_TTFT_P50] = "ttft_p50_s",
    [METRIC_TTFT_P95] = "ttft_p95_s",
};

const char *experiment_metric_name(enum experiment_metric metric) {
    return metrics[metric];
}

int experiment_metric_find(const char *name) {
    for (int i = 0; i < METRICS; i++)
        if (strcmp(metrics[i], name) == 0) return i;
    return -1;
}

const char *experiment_phase_name(enum experiment_phase phase) {
    static const char *const names[] = {
        [EXPERIMENT_RUNNING] = "running",     [EXPERIMENT_KEPT] = "kept",
        [EXPERIMENT_WORSE] = "worse",         [EXPERIMENT_NO_DIFFERENCE] = "no_difference",
        [EXPERIMENT_UNDECIDED] = "undecided", [EXPERIMENT_GUARDED] = "guarded",
        [EXPERIMENT_STOPPED] = "stopped",
    };
    return names[phase];
}
