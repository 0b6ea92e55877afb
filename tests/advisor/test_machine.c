// What is read of the machine: the kernel's texts, as captured and as garbage, and whole trees of its files.
#include "tests/test.h"

#include "advisor/machine.h"
#include "advisor/machine_text.h"
#include "base/rng.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

static void is(const char *what, double got, double want) {
    const bool same = isnan(want) ? isnan(got) : fabs(got - want) <= 1e-9 * fabs(want);
    if (!same) fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static const char status[] = "Name:\tcompute\nState:\tS (sleeping)\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,6\n"
                             "voluntary_ctxt_switches:\t1200\nnonvoluntary_ctxt_switches:\t34\n";
static const char stat_v1[] = "nr_periods 0\nnr_throttled 0\nthrottled_time 0\nnr_bursts 0\nburst_time 0\n";
static const char stat_v2[] = "usage_usec 5157022\nuser_usec 4108013\nsystem_usec 1049009\nnr_periods 200\n"
                              "nr_throttled 50\nthrottled_usec 2500000\nnr_bursts 0\nburst_usec 0\n";
// (the name holds brackets and blanks) ... majflt 7, utime 250, stime 50
static const char process[] = "6296 (o (p) t) R 6212 6212 27066 0 -1 4194304 99 0 7 0 250 50 0 0 20 0 1 0 3888408\n";
static const char processors[] = "cpu  3564993 1369121 623534 2185421 10771 0 6558 4644 0 0\ncpu0 1 2 3\n";

static void numbers_stand_behind_their_keys(void **state) {
    (void)state;
    static const struct {
        const char *text, *key;
        double want;
    } cases[] = {
        {status, "nonvoluntary_ctxt_switches:", 34},
        {status, "voluntary_ctxt_switches:", 1200}, // not the end of the other key
        {status, "State:", NAN},
        {stat_v2, "nr_throttled", 50},
        {stat_v2, "nr_thrott", NAN},
        {"MemAvailable:   123456 kB", "MemAvailable:", 123456},
        {"", "a", NAN},
        {"a", "a", NAN},
        {"a ", "a", NAN},
        {"a nan", "a", NAN},
        {"a -5", "a", -5},
        {"a 1e999", "a", NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        is(cases[i].key, machine_text_value(cases[i].text, cases[i].key), cases[i].want);
    is("schedstat", machine_text_number("294857 1151804 2\n", 1), 1151804);
    is("cpu.max", machine_text_number("max 100000\n", 1), 100000);
    assert_true(isinf(machine_text_number("max 100000\n", 0)));
    is("too few", machine_text_number("1 2", 2), NAN);
}

static void lists_are_counted(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int count, first;
    } cases[] = {
        {"0-3,8,10-11\n", 7, 0}, {"5\n", 1, 5}, {"", 0, -1},          {"\n", 0, -1},
        {"3-1\n", 0, 3},         {"x", 0, -1},  {"0-99999999", 0, 0}, {"2,", 1, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(machine_text_list_count(cases[i].text), cases[i].count);
        assert_int_equal(machine_text_list_first(cases[i].text), cases[i].first);
    }
}

static void times_are_read(void **state) {
    (void)state;
    const struct process_time own = machine_text_process(process, 100);
    is("cpu", own.cpu_s, 3);
    is("faults", own.major_faults, 7);
    const struct processor_time all = machine_text_processors(processors, 100);
    is("busy", all.busy_s, 35649.93 + 13691.21 + 6235.34 + 65.58 + 46.44);
    is("idle", all.idle_s, 21854.21 + 107.71);
    is("v1", machine_text_throttling(stat_v1).seconds, 0);
    is("v2", machine_text_throttling(stat_v2).seconds, 2.5);
    is("none", machine_text_throttling("").periods, NAN);
    is("none", machine_text_process("12 (x", 100).cpu_s, NAN);
    is("none", machine_text_processors("intr 5", 100).busy_s, NAN);
}

static void groups_are_found(void **state) {
    (void)state;
    static const struct {
        const char *text, *controller, *want;
    } cases[] = {
        {"9:name=systemd:/\n2:cpuacct,cpu:/a/b\n0::/c\n", "cpu", "/a/b"},
        {"2:cpuacct:/a\n1:cpuset:/b\n", "cpu", NULL},
        {"0::/user.slice/x.scope\n", "", "/user.slice/x.scope"},
        {"0::\n", "", NULL},
        {"garbage\n::\n", "cpu", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[64] = "";
        const bool found = machine_text_group(cases[i].text, cases[i].controller, path, sizeof path);
        assert_int_equal(found, cases[i].want != NULL);
        if (cases[i].want) assert_string_equal(path, cases[i].want);
    }
    char path[8];
    assert_false(machine_text_group("0::/longer-than-that\n", "", path, sizeof path));
}

// Bytes changed at random crash nothing (the sanitizers watch) and never become infinite.
static void garbage_is_survived(void **state) {
    (void)state;
    const char *texts[] = {status, stat_v2, process, processors, "0-3,8,10-11\n", "2:cpuacct,cpu:/a/b\n0::/c\n"};
    for (uint32_t round = 0; round < 6000; round++) {
        char text[400];
        snprintf(text, sizeof text, "%s", texts[round % 6]);
        for (uint32_t k = 0; k < 4; k++) {
            const uint32_t draw = rng_u32(rng_key(9, round, 0), k);
            text[draw % strlen(texts[round % 6])] = (char)(draw >> 24);
        }
        char path[32];
        machine_text_group(text, "cpu", path, sizeof path);
        assert_true(machine_text_list_count(text) >= 0);
        assert_true(!isinf(machine_text_process(text, 100).cpu_s));
        assert_true(!isinf(machine_text_processors(text, 100).busy_s));
        assert_true(!isinf(machine_text_throttling(text).seconds));
    }
}

// ------------------------------------------------------------------------------------------------------------- trees

static void put(const char *root, const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(full, 0755);
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_common(const char *root) {
    put(root, "/proc/self/status", status);
    put(root, "/proc/self/stat", process);
    put(root, "/proc/self/statm", "5000 300 100 1 0 2000 0\n");
    put(root, "/proc/stat", processors);
    put(root, "/proc/self/task/11/comm", "step\n");
    put(root, "/proc/self/task/12/comm", "compute\n");
    put(root, "/proc/self/task/13/comm", "optima\n");
    static const char *const ids[] = {"11", "12", "13"};
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/task/%s/status", ids[i]);
        put(root, path, status);
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", ids[i]);
        put(root, path, "1000000000 500000000 7\n");
    }
    put(root, "/sys/devices/system/cpu/online", "0-3\n");
    put(root, "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n");
    put(root, "/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,3\n");
    put(root, "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n");
    put(root, "/sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3\n");
    put(root, "/sys/devices/system/node/online", "0\n");
}

static void make_root(char root[static 256]) {
    snprintf(root, 256, "%s/machine-XXXXXX", TEST_BINARY_DIR);
    assert_non_null(mkdtemp(root));
}

static void remove_root(const char *root) {
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

// A group of version 2 with two processors' quota, on a machine that says its energy and its clock.
static void what_was_between_two_readings(void **state) {
    (void)state;
    char root[256];
    make_root(root);
    put_common(root);
    put(root, "/proc/self/cgroup", "0::/box\n");
    put(root, "/sys/fs/cgroup/box/cpu.stat", stat_v2);
    put(root, "/sys/fs/cgroup/box/cpu.max", "200000 100000\n");
    put(root, "/sys/class/powercap/intel-rapl:0/name", "package-0\n");
    put(root, "/sys/class/powercap/intel-rapl:0/energy_uj", "999000000\n");
    put(root, "/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000000000\n");
    put(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n");
    put(root, "/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "800000\n");
    put(root, "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", "1000\n");
    struct machine *machine = machine_open(&(struct machine_options){.root = root});
    struct machine_counters before, after;
    machine_read(machine, 100, &before);

    put(root, "/proc/self/stat", "1 (x) R 1 1 1 0 -1 0 99 0 27 0 1050 250 0 0 20 0 1 0 3888408\n"); // 10 s more
    put(root, "/proc/stat", "cpu  3566993 1369121 623534 2187421 10771 0 6558 4644 0 0\n");         // 20 s and 20 s
    put(root, "/proc/self/task/11/schedstat", "8000000000 1500000000 7\n");                         // 7 s and 1 s
    put(root, "/proc/self/task/12/schedstat", "4000000000 1500000000 7\n");                         // 3 s and 1 s
    put(root, "/proc/self/task/12/status", "nonvoluntary_ctxt_switches:\t134\n");
    put(root, "/sys/fs/cgroup/box/cpu.stat", "nr_periods 300\nnr_throttled 80\nthrottled_usec 6500000\n"); // 4 s
    put(root, "/sys/class/powercap/intel-rapl:0/energy_uj", "499000000\n"); // around its end
    put(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000\n");
    put(root, "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", "3500\n");
    machine_read(machine, 110, &after);

    struct machine_figures f;
    machine_figures(machine, &before, &after, &f);
    assert_int_equal(f.threads, 2);
    assert_int_equal(f.logical_cores, 4);
    assert_int_equal(f.physical_cores, 2);
    assert_int_equal(f.numa_nodes, 1);
    is("quota", f.quota_cores, 2);
    is("affinity", f.affinity_cores, 4);
    is("switches", f.involuntary_switches, 10);
    is("wait", f.wait_share, 2.0 / 12);
    is("throttled", f.throttled_share, 0.2); // 4 s of two threads in 10 s; 0.3 of the periods
    is("faults", f.major_faults, 2);
    is("frequency", f.frequency_share, 0.8);
    is("thermal", f.thermal_share, 0.25);
    is("watts", f.watts, 50);
    is("others", f.other_cpu_share, 10.0 / 40);
    is("resident", f.resident_bytes, 300.0 * (double)sysconf(_SC_PAGESIZE));
    is("remote", f.numa_remote_share, 0);
    machine_close(machine);
    remove_root(root);
}

// A group of version 1 without quota, in a container that mounts it as the root.
static void no_quota_throttles_nothing(void **state) {
    (void)state;
    char root[256];
    make_root(root);
    put_common(root);
    put(root, "/proc/self/cgroup", "3:cpu:/docker/0123\n0::/\n");
    put(root, "/sys/fs/cgroup/cpu/cpu.stat", stat_v1);
    put(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    struct machine *machine = machine_open(&(struct machine_options){.root = root});
    struct machine_counters before, after;
    machine_read(machine, 0, &before);
    machine_read(machine, 1, &after);
    struct machine_figures f;
    machine_figures(machine, &before, &after, &f);
    is("quota", f.quota_cores, NAN);
    is("throttled", f.throttled_share, 0);
    is("watts", f.watts, NAN);
    is("frequency", f.frequency_share, NAN);
    is("thermal", f.thermal_share, NAN);
    machine_close(machine);
    remove_root(root);
}

static void a_machine_that_says_nothing_is_unknown(void **state) {
    (void)state;
    struct machine *machine = machine_open(&(struct machine_options){.root = "/nowhere"});
    struct machine_counters before, after;
    machine_read(machine, 0, &before);
    machine_read(machine, 1, &after);
    struct machine_figures f;
    machine_figures(machine, &before, &after, &f);
    const double unknown[] = {f.quota_cores,     f.affinity_cores,    f.involuntary_switches, f.wait_share,
                              f.throttled_share, f.major_faults,      f.frequency_share,      f.thermal_share,
                              f.watts,           f.numa_remote_share, f.other_cpu_share,      f.resident_bytes};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) is("unknown", unknown[i], NAN);
    assert_int_equal(f.threads, 0);
    machine_close(machine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_stand_behind_their_keys),
        cmocka_unit_test(lists_are_counted),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(groups_are_found),
        cmocka_unit_test(garbage_is_survived),
        cmocka_unit_test(what_was_between_two_readings),
        cmocka_unit_test(no_quota_throttles_nothing),
        cmocka_unit_test(a_machine_that_says_nothing_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
