// What the kernel says of processors, processes and groups, read from the text of its files. Pure functions; text is
// NUL-terminated and may be anything. What is not there is NAN.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// A number behind a key at the start of a line: "nr_throttled 12", "MemAvailable:   123 kB". Key with its colon.
double machine_text_value(const char *text, const char *key);

double machine_text_number(const char *text, int i); // number i (from 0) of a text of numbers; "max" is infinite

int machine_text_list_count(const char *text); // of "0-3,8,10-11": 7; 0: no such list
int machine_text_list_first(const char *text); // -1: none

// The first line of /proc/stat, in seconds over all processors since start; idle holds waiting for disks, busy what the
// host of a virtual machine took.
struct processor_time {
    double busy_s, idle_s;
};
struct processor_time machine_text_processors(const char *stat, double ticks_per_s);

struct process_time {
    double cpu_s, major_faults;
};
struct process_time machine_text_process(const char *stat, double ticks_per_s); // /proc/self/stat

// Bandwidth control of a group: cpu.stat of version 2 (microseconds) or 1 (nanoseconds).
struct throttling {
    double seconds, periods, periods_throttled;
};
struct throttling machine_text_throttling(const char *cpu_stat);

// The group's path in /proc/self/cgroup: of version 1's controller, or of version 2 with controller "". False: none.
bool machine_text_group(const char *cgroup, const char *controller, char *path, int n_path);
