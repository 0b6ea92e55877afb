// What a GPU's management library says becomes figures; without it nothing is known.
#include "tests/test.h"

#include "advisor/nvml.h"

#include <math.h>

static const char library[] = TEST_BINARY_DIR "/plugin_nvml.so";

static void a_gpu_is_read(void **state) {
    (void)state;
    struct nvml_reading first, second;
    struct nvml *nvml = nvml_open(library, 0);
    assert_non_null(nvml);
    nvml_read(nvml, &first);
    nvml_read(nvml, &second);
    assert_true(first.watts == 300 && fabs(second.joules - first.joules - 600) < 1e-6);
    assert_true(first.frequency_hz == 1.2e9 && first.frequency_max_hz == 2e9);
    assert_true(first.throttled);
    nvml_close(nvml);
}

static void what_a_gpu_does_not_count_is_unknown(void **state) {
    (void)state;
    struct nvml_reading now;
    struct nvml *nvml = nvml_open(library, 1); // after the other was closed
    assert_non_null(nvml);
    nvml_read(nvml, &now);
    assert_true(now.watts == 25 && isnan(now.joules));
    assert_false(now.throttled);
    nvml_close(nvml);
}

static void without_library_or_device_there_is_none(void **state) {
    (void)state;
    assert_null(nvml_open("/nowhere/libnvidia-ml.so.1", 0));
    assert_null(nvml_open(library, 2));
    assert_null(nvml_open("libm.so.6", 0)); // a library of something else
    nvml_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_is_read),
        cmocka_unit_test(what_a_gpu_does_not_count_is_unknown),
        cmocka_unit_test(without_library_or_device_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
