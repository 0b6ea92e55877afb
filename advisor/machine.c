#include "advisor/machine.h"

#include "advisor/machine_text.h"
#include "advisor/nvml.h"
#include "base/mem.h"
#include "base/memory_available.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 8192, THREADS_MAX = 512, PACKAGES_MAX = 8, PATH_BYTES = 512, CPUS_MAX = 1024 };
static const double THREADS_S = 30;   // how long the list of compute threads is believed
static const double BUSY_CORES = 0.5; // from which on the clock says something

struct package {
    char path[PATH_BYTES]; // of its energy counter
    double last_uj, wraps_uj;
};

struct machine {
    struct machine_options options;
    char group[PATH_BYTES]; // folder of the control group's files of processor time; empty: there is none
    bool group_is_v1;
    double ticks_per_s, page_bytes;
    int32_t logical_cores, physical_cores, numa_nodes;
    double affinity_cores, quota_cores;
    int threads[THREADS_MAX]; // that compute
    int n_threads;
    double threads_found_s;
    struct package packages[PACKAGES_MAX];
    int n_packages;
    struct nvml *nvml;
    struct machine_counters total; // of the last reading
    char text[TEXT_BYTES];
};

// The text of a file under the root; empty when it cannot be read.
static const char *read_text(struct machine *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *read_text(struct machine *m, const char *format, ...) {
    char path[PATH_BYTES * 2];
    int at = snprintf(path, sizeof path, "%s", m->options.root);
    va_list args;
    va_start(args, format);
    vsnprintf(path + at, sizeof path - (size_t)at, format, args);
    va_end(args);
    m->text[0] = 0;
    FILE *file = fopen(path, "re");
    if (!file) return m->text;
    m->text[fread(m->text, 1, TEXT_BYTES - 1, file)] = 0;
    fclose(file);
    return m->text;
}

// ---------------------------------------------------------------------------------------------- what does not change

// A container may see its own group as the root, or a path that is not mounted there.
static void find_group(struct machine *m) {
    char path[PATH_BYTES / 2] = "", cgroup[TEXT_BYTES];
    memcpy(cgroup, read_text(m, "/proc/self/cgroup"), sizeof cgroup);
    if (machine_text_group(cgroup, "cpu", path, sizeof path)) {
        m->group_is_v1 = true;
        snprintf(m->group, sizeof m->group, "/sys/fs/cgroup/cpu%s", path);
        if (!*read_text(m, "%s/cpu.stat", m->group)) snprintf(m->group, sizeof m->group, "/sys/fs/cgroup/cpu");
    } else if (machine_text_group(cgroup, "", path, sizeof path)) {
        snprintf(m->group, sizeof m->group, "/sys/fs/cgroup%s", path);
        if (!*read_text(m, "%s/cpu.stat", m->group)) snprintf(m->group, sizeof m->group, "/sys/fs/cgroup");
    }
    double quota, period;
    if (m->group_is_v1) {
        quota = machine_text_number(read_text(m, "%s/cpu.cfs_quota_us", m->group), 0);
        period = machine_text_number(read_text(m, "%s/cpu.cfs_period_us", m->group), 0);
    } else {
        quota = machine_text_number(read_text(m, "%s/cpu.max", m->group), 0);
        period = machine_text_number(read_text(m, "%s/cpu.max", m->group), 1);
    }
    m->quota_cores = quota > 0 && isfinite(quota) && period > 0 ? quota / period : NAN;
}

static void count_cores(struct machine *m) {
    m->logical_cores = machine_text_list_count(read_text(m, "/sys/devices/system/cpu/online"));
    for (int cpu = 0, seen = 0; cpu < CPUS_MAX && seen < m->logical_cores; cpu++) {
        const char *text = read_text(m, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        if (!*text) continue;
        seen++;
        m->physical_cores += machine_text_list_first(text) == cpu;
    }
    if (!m->physical_cores) m->physical_cores = m->logical_cores;
    m->numa_nodes = machine_text_list_count(read_text(m, "/sys/devices/system/node/online"));
    const char *allowed = strstr(read_text(m, "/proc/self/status"), "\nCpus_allowed_list:\t");
    const int n = allowed ? machine_text_list_count(strchr(allowed, '\t') + 1) : 0;
    m->affinity_cores = n > 0 ? (double)n : NAN;
}

// Domains "intel-rapl:0" that are packages; their parts ("intel-rapl:0:0") are within them.
static void find_packages(struct machine *m) {
    for (int i = 0; i < PACKAGES_MAX; i++) {
        if (strncmp(read_text(m, "/sys/class/powercap/intel-rapl:%d/name", i), "package", 7) != 0) continue;
        const double most =
            machine_text_number(read_text(m, "/sys/class/powercap/intel-rapl:%d/max_energy_range_uj", i), 0);
        const double now = machine_text_number(read_text(m, "/sys/class/powercap/intel-rapl:%d/energy_uj", i), 0);
        if (isnan(now)) continue;
        struct package *p = &m->packages[m->n_packages++];
        snprintf(p->path, sizeof p->path, "/sys/class/powercap/intel-rapl:%d/energy_uj", i);
        p->last_uj = now;
        p->wraps_uj = most;
    }
}

struct machine *machine_open(const struct machine_options *options) {
    struct machine *m = mem_alloc_zero(1, sizeof *m);
    m->options = *options;
    if (!m->options.root) m->options.root = "";
    m->ticks_per_s = (double)sysconf(_SC_CLK_TCK);
    m->page_bytes = (double)sysconf(_SC_PAGESIZE);
    m->threads_found_s = -INFINITY;
    find_group(m);
    count_cores(m);
    if (options->is_gpu)
        m->nvml = nvml_open(NVML_LIBRARY, options->gpu_index);
    else
        find_packages(m);
    m->total = (struct machine_counters){.at_s = NAN, .frequency_max = NAN};
    m->total.joules = m->n_packages || m->nvml ? 0 : NAN;
    return m;
}

void machine_close(struct machine *m) {
    nvml_close(m->nvml);
    free(m);
}

// ------------------------------------------------------------------------------------------------------ once a second

// The threads that compute have names of their own: the step thread is worker 0.
static void find_threads(struct machine *m, double at_s) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/task", m->options.root);
    DIR *folder = opendir(path);
    if (!folder) return;
    m->n_threads = 0;
    for (struct dirent *entry; (entry = readdir(folder)) && m->n_threads < THREADS_MAX;) {
        const int id = (int)strtol(entry->d_name, NULL, 10);
        const char *name = id > 0 ? read_text(m, "/proc/self/task/%d/comm", id) : "";
        if (strcmp(name, "step\n") == 0 || strcmp(name, "compute\n") == 0) m->threads[m->n_threads++] = id;
    }
    closedir(folder);
    m->threads_found_s = at_s;
}

static void read_threads(struct machine *m, struct machine_counters *c) {
    if (!(c->at_s - m->threads_found_s < THREADS_S) || m->n_threads == 0) find_threads(m, c->at_s);
    c->n_threads = m->n_threads;
    if (m->n_threads == 0) c->involuntary_switches = c->run_s = c->wait_s = NAN;
    for (int i = 0; i < m->n_threads; i++) {
        const int id = m->threads[i];
        c->involuntary_switches +=
            machine_text_value(read_text(m, "/proc/self/task/%d/status", id), "nonvoluntary_ctxt_switches:");
        const char *schedstat = read_text(m, "/proc/self/task/%d/schedstat", id);
        c->run_s += machine_text_number(schedstat, 0) * 1e-9;
        c->wait_s += machine_text_number(schedstat, 1) * 1e-9;
    }
}

static void read_processor_frequency(struct machine *m, struct machine_counters *c, bool computes) {
    double highest = NAN;
    for (int cpu = 0; cpu < m->logical_cores && cpu < CPUS_MAX; cpu++) {
        const char *text = read_text(m, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        if (!*text) break;
        highest = fmax(highest, machine_text_number(text, 0) * 1e3);
    }
    if (isnan(highest)) return;
    c->frequency_max = fmax(c->frequency_max, highest);
    if (computes) c->frequency_sum += highest, c->n_frequency++;
}

static void read_thermal(struct machine *m, struct machine_counters *c) {
    const char *text = read_text(m, "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms");
    c->thermal_s = machine_text_number(text, 0) * 1e-3;
}

static void read_energy(struct machine *m, struct machine_counters *c) {
    for (int i = 0; i < m->n_packages; i++) {
        struct package *p = &m->packages[i];
        const double now = machine_text_number(read_text(m, "%s", p->path), 0);
        const double more = now - p->last_uj;
        c->joules += (more < 0 ? more + p->wraps_uj : more) * 1e-6;
        p->last_uj = now;
    }
}

// Watts become joules where the board does not count them.
static void read_gpu(struct machine *m, struct machine_counters *c, double seconds) {
    struct nvml_reading now = {NAN, NAN, NAN, NAN, false};
    if (m->nvml) nvml_read(m->nvml, &now);
    if (isnan(now.joules))
        c->joules += now.watts * seconds;
    else
        c->joules = now.joules;
    c->thermal_s += !m->nvml ? NAN : now.throttled ? seconds : 0;
    if (!isnan(now.frequency_hz)) c->frequency_sum += now.frequency_hz, c->n_frequency++;
    c->frequency_max = now.frequency_max_hz;
}

void machine_read(struct machine *m, double at_s, struct machine_counters *out) {
    struct machine_counters c = m->total;
    const double seconds = isnan(c.at_s) ? 0 : at_s - c.at_s;
    c.at_s = at_s;
    c.involuntary_switches = c.run_s = c.wait_s = 0;
    read_threads(m, &c);
    const struct processor_time all = machine_text_processors(read_text(m, "/proc/stat"), m->ticks_per_s);
    const struct process_time own = machine_text_process(read_text(m, "/proc/self/stat"), m->ticks_per_s);
    const bool computes = own.cpu_s - m->total.own_cpu_s >= BUSY_CORES * seconds;
    c.busy_cpu_s = all.busy_s;
    c.idle_cpu_s = all.idle_s;
    c.own_cpu_s = own.cpu_s;
    c.major_faults = own.major_faults;
    const struct throttling throttling = machine_text_throttling(read_text(m, "%s/cpu.stat", m->group));
    c.throttled_s = throttling.seconds;
    c.periods = throttling.periods;
    c.periods_throttled = throttling.periods_throttled;
    if (m->options.is_gpu) {
        read_gpu(m, &c, seconds);
    } else {
        read_thermal(m, &c);
        read_energy(m, &c);
        read_processor_frequency(m, &c, computes);
    }
    c.resident_bytes = machine_text_number(read_text(m, "/proc/self/statm"), 1) * m->page_bytes;
    const double available = (double)memory_available_bytes();
    c.available_bytes = available > 0 ? available : NAN;
    m->total = *out = c;
}

// A total that went back began anew: nothing is known of the time between.
static double more(double before, double after) {
    return after >= before ? after - before : NAN;
}

// Time in which the group was held back. The kernel adds up what each processor lost; a share of the periods is a
// bound.
static double throttled_share(const struct machine *m, const struct machine_counters *before,
                              const struct machine_counters *after, double seconds) {
    const double periods = more(before->periods, after->periods);
    const double throttled = more(before->periods_throttled, after->periods_throttled);
    if (isnan(m->quota_cores)) return isnan(throttled) ? NAN : 0;
    const double lost = more(before->throttled_s, after->throttled_s) / fmax(after->n_threads, 1);
    if (!(periods > 0)) return isnan(periods) ? NAN : 0;
    return fmin(lost / seconds, throttled / periods);
}

void machine_figures(const struct machine *m, const struct machine_counters *before,
                     const struct machine_counters *after, struct machine_figures *out) {
    const double seconds = after->at_s - before->at_s;
    const double run = more(before->run_s, after->run_s), wait = more(before->wait_s, after->wait_s);
    const double busy = more(before->busy_cpu_s, after->busy_cpu_s);
    const double all = busy + more(before->idle_cpu_s, after->idle_cpu_s);
    const double own = more(before->own_cpu_s, after->own_cpu_s);
    const double n_frequency = after->n_frequency - before->n_frequency;
    const double frequency = (after->frequency_sum - before->frequency_sum) / n_frequency;
    const double thermal = more(before->thermal_s, after->thermal_s) / seconds;
    *out = (struct machine_figures){
        .threads = after->n_threads,
        .physical_cores = m->physical_cores,
        .logical_cores = m->logical_cores,
        .numa_nodes = m->numa_nodes,
        .quota_cores = m->quota_cores,
        .affinity_cores = m->affinity_cores,
        .involuntary_switches = more(before->involuntary_switches, after->involuntary_switches) / seconds,
        .wait_share = run + wait > 0 ? wait / (run + wait) : NAN,
        .throttled_share = throttled_share(m, before, after, seconds),
        .major_faults = more(before->major_faults, after->major_faults) / seconds,
        .frequency_share = n_frequency > 0 ? frequency / after->frequency_max : NAN,
        .thermal_share = thermal > 1 ? 1 : thermal,
        .numa_remote_share = m->numa_nodes == 1 ? 0 : NAN,
        .resident_bytes = after->resident_bytes,
        .available_bytes = after->available_bytes,
        .watts = more(before->joules, after->joules) / seconds,
        .other_cpu_share = all > 0 ? fmax(busy - own, 0) / all : NAN,
    };
}
