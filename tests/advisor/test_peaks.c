// Peaks: kept in a file that is believed only when it is whole and of this device; data sheets by exact name.
#include "tests/test.h"

#include "advisor/peaks.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

static const char device[] = "cpu, avx512 (vnni, bf16), 2 threads, on Some Processor";
static const struct backend_peaks some = {20e9, 300e9, 1.2e12, 4.5e12, 2, {12e9, 20e9}};

static void make_path(char path[static 256], const char *name) {
    snprintf(path, 256, "%s/peaks-XXXXXX", TEST_BINARY_DIR);
    assert_non_null(mkdtemp(path));
    const size_t n = strlen(path);
    snprintf(path + n, 256 - n, "/%s", name);
}

static void remove_of(char *path) {
    char command[300];
    snprintf(command, sizeof command, "rm -r '%.*s'", (int)(strstr(path, "/peaks-") + 13 - path), path);
    assert_int_equal(system(command), 0);
}

static void what_was_stored_is_loaded(void **state) {
    (void)state;
    char path[256];
    struct err err;
    make_path(path, "deep/er/file.json");
    assert_int_equal(peaks_store(&some, path, device, &err), 0);
    assert_int_equal(peaks_store(&some, path, device, &err), 0); // over the one that is there
    struct backend_peaks got;
    assert_int_equal(peaks_load(&got, path, device, &err), 0);
    assert_memory_equal(&got, &some, sizeof got);
    assert_int_equal(peaks_load(&got, path, "cpu, avx2, 2 threads", &err), ERR_NOT_FOUND);
    remove_of(path);
    assert_int_equal(peaks_load(&got, path, device, &err), ERR_NOT_FOUND);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

// A busy machine measures too little: the best of all measurements counts.
static void the_larger_of_two_measurements_counts(void **state) {
    (void)state;
    struct backend_peaks peaks = {10, 200, 0, 7, 1, {5}};
    const struct backend_peaks also = {30, 100, 50, 7, 2, {4, 9}};
    peaks_merge(&peaks, &also);
    assert_true(peaks.read_bytes_per_s == 30 && peaks.f32_flops_per_s == 200);
    assert_true(peaks.bf16_flops_per_s == 50 && peaks.int8_ops_per_s == 7);
    assert_int_equal(peaks.n_read_curve, 2);
    assert_true(peaks.read_curve[0] == 5 && peaks.read_curve[1] == 9);
}

static void foreign_files_are_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "7",
        "{}",
        "{\"schema\":2,\"device\":\"d\"}",
        "{\"schema\":1,\"device\":7}",
        "{\"schema\":1,\"device\":\"d\",\"read_bytes_per_s\":1,\"f32_flops_per_s\":1,\"bf16_flops_per_s\":1,"
        "\"int8_ops_per_s\":1}",
        "{\"schema\":1,\"device\":\"d\",\"read_bytes_per_s\":-1,\"f32_flops_per_s\":1,\"bf16_flops_per_s\":1,"
        "\"int8_ops_per_s\":1,\"read_curve\":[]}",
        "{\"schema\":1,\"device\":\"d\",\"read_bytes_per_s\":1e30,\"f32_flops_per_s\":1,\"bf16_flops_per_s\":1,"
        "\"int8_ops_per_s\":1,\"read_curve\":[]}",
        "{\"schema\":1,\"device\":\"d\",\"read_bytes_per_s\":1,\"f32_flops_per_s\":1,\"bf16_flops_per_s\":1,"
        "\"int8_ops_per_s\":1,\"read_curve\":[\"x\"]}",
    };
    char path[256];
    make_path(path, "file.json");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct backend_peaks got;
        struct err err;
        write_text(path, texts[i]);
        if (peaks_load(&got, path, "d", &err) != ERR_FORMAT) fail_msg("text %zu was believed", i);
        assert_non_null(strstr(err.text, path));
    }
    remove_of(path);
}

static void a_file_that_cannot_be_written_is_an_error(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(peaks_store(&some, "/proc/nowhere/file.json", device, &err), ERR_IO);
}

static void default_files_differ_by_device(void **state) {
    (void)state;
    struct str a = STR_INIT, b = STR_INIT, key = STR_INIT;
    if (peaks_default_path(&a, "one") && peaks_default_path(&b, "two"))
        assert_string_not_equal(str_text(&a), str_text(&b));
    peaks_key(&key, "cpu, 2 threads", false);
    assert_int_equal(strncmp(str_text(&key), "cpu, 2 threads", 14), 0);
    str_close(&a), str_close(&b), str_close(&key);
}

static void is(struct figure got, double want, enum figure_source source) {
    if (got.source != source || (isnan(want) ? !isnan(got.value) : got.value != want))
        fail_msg("%g (%s), not %g", got.value, figure_source_name(got.source), want);
}

// Integers multiply integers on a processor that can; on a GPU, weights become BF16 first.
static void weights_choose_the_peak(void **state) {
    (void)state;
    static const struct {
        const char *weights;
        bool is_gpu;
        const char *unit;
        double compute;
    } cases[] = {
        {"f32", false, "f32", 300e9},    {"bf16", false, "bf16", 1.2e12}, {"int8", false, "int8", 4.5e12},
        {"int4", false, "int8", 4.5e12}, {"fp8", false, "bf16", 1.2e12},  {"int4", true, "bf16", 1.2e12},
    };
    struct peak_figures f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        peaks_figures(&f, &some, "a device", cases[i].weights, cases[i].is_gpu);
        assert_string_equal(f.compute_unit, cases[i].unit);
        is(f.compute, cases[i].compute, FIGURE_MEASURED);
        is(f.read, 20e9, FIGURE_MEASURED);
        is(f.read_datasheet, NAN, FIGURE_UNKNOWN);
    }
    struct backend_peaks old = some; // a processor without such instructions
    old.bf16_flops_per_s = old.int8_ops_per_s = 0;
    peaks_figures(&f, &old, "a device", "int8", false);
    is(f.compute, 300e9, FIGURE_MEASURED);
    peaks_figures(&f, NULL, "a device", "bf16", false);
    is(f.compute, NAN, FIGURE_UNKNOWN);
    is(f.read, NAN, FIGURE_UNKNOWN);
}

static void data_sheets_are_found_by_exact_name(void **state) {
    (void)state;
    static const struct {
        const char *device;
        double compute, read;
    } cases[] = {
        {"NVIDIA H100 80GB HBM3, compute capability 9.0, driver 12.4, 79.6 GiB", 989e12, 3.35e12},
        {"NVIDIA H100 PCIe, compute capability 9.0", 756.5e12, 2.0e12},
        {"NVIDIA H200, compute capability 9.0", 989e12, 4.8e12},
        {"NVIDIA H200 NVL, compute capability 9.0", NAN, NAN}, // numbers that are in dispute are left out
        {"NVIDIA L4, x", 121e12, 0.3e12},
        {"NVIDIA L40S, x", 362e12, 0.864e12},
        {"NVIDIA L40, x", NAN, NAN},
        {"cpu, avx2", NAN, NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peak_figures f;
        peaks_figures(&f, NULL, cases[i].device, "bf16", true);
        const enum figure_source source = isnan(cases[i].read) ? FIGURE_UNKNOWN : FIGURE_DATASHEET;
        is(f.compute_datasheet, cases[i].compute, source);
        is(f.read_datasheet, cases[i].read, source);
        is(f.read, NAN, FIGURE_UNKNOWN);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stored_is_loaded),
        cmocka_unit_test(the_larger_of_two_measurements_counts),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(a_file_that_cannot_be_written_is_an_error),
        cmocka_unit_test(default_files_differ_by_device),
        cmocka_unit_test(weights_choose_the_peak),
        cmocka_unit_test(data_sheets_are_found_by_exact_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
