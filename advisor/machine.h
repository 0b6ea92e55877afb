// The machine under the server: processors, control group, memory, energy. Read once a second from the files of the
// kernel and, for an NVIDIA GPU, from its management library. What cannot be read is NAN.
#pragma once

#include "advisor/evidence.h"

struct machine;

// Totals since some moment; only their differences mean something.
struct machine_counters {
    double at_s;
    int32_t n_threads;                          // that compute, now
    double involuntary_switches, run_s, wait_s; // of the compute threads: preempted, running, runnable but not running
    double major_faults, own_cpu_s;             // of the process
    double busy_cpu_s, idle_cpu_s;              // of all processors
    double throttled_s, periods, periods_throttled; // of the control group
    double joules;
    double thermal_s;                       // throttled by heat or power
    double frequency_sum, n_frequency;      // Hz, while the process computes
    double frequency_max;                   // that was ever seen
    double resident_bytes, available_bytes; // now
};

struct machine_options {
    const char *root; // before /proc and /sys; NULL: ""
    bool is_gpu;      // energy, clocks and throttling are those of the GPU
    int gpu_index;
};

struct machine *machine_open(const struct machine_options *options); // never NULL
void machine_close(struct machine *machine);
void machine_read(struct machine *machine, double at_s, struct machine_counters *out);

// What was between two readings; any thread. Bandwidths are not known here: n_read_curve is 0.
void machine_figures(const struct machine *machine, const struct machine_counters *before,
                     const struct machine_counters *after, struct machine_figures *out);
