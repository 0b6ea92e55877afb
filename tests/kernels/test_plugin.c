// Devices that are loaded at run time: which are taken, which are refused and in which words.
#include "tests/test.h"

#include "kernels/plugin.h"

#define PLUGIN(name) TEST_BINARY_DIR "/plugin_" name ".so"

static void plugin_serves_as_a_device(void **state) {
    (void)state;
    struct backend *backend;
    struct err err = {0};
    struct backend_options options = {.device = PLUGIN("cpu"), .n_threads = 1, .device_index = 3};
    if (backend_open(&backend, &options, &err)) fail_msg("%s", err.text);
    assert_string_equal(backend_description(backend), "plugin 3");
    assert_true(backend_memory_available(backend) > 0);
    struct kv_shape kv = {1, 1, 16, 16, 4, KV_F32};
    assert_int_equal(backend_kv_open(backend, &kv, &err), 0);
    backend_close(backend);
}

static void refusals_say_why(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int code;
        const char *mention;
    } cases[] = {
        {"./no_such_plugin.so", ERR_NOT_FOUND, "there is no ./no_such_plugin.so"},
        {"no_such_plugin.so", ERR_NOT_FOUND, "there is no no_such_plugin.so"},
        {"libm.so.6", ERR_UNSUPPORTED, "is not a plugin of this kind"},
        {TEST_SOURCE_DIR "/README.md", ERR_UNSUPPORTED, "cannot be loaded"},
        {PLUGIN("other_door"), ERR_UNSUPPORTED, "another version of Optima"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct backend_driver *driver = NULL;
        struct err err = {0};
        assert_int_equal(plugin_open(&driver, cases[i].file, &err), cases[i].code);
        assert_null(driver);
        if (!strstr(err.text, cases[i].mention)) fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].mention);
    }
}

static void names_of_devices_are_read_strictly(void **state) {
    (void)state;
    static const char *const names[] = {"gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:999", "cudax", "CPU"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct backend *backend = NULL;
        struct err err = {0};
        assert_int_equal(backend_open(&backend, &(struct backend_options){.device = names[i]}, &err), ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, "no device"));
    }
}

// On a machine with the plugin and a device, "auto" takes it; without, it says why not.
static void auto_always_finds_a_device(void **state) {
    (void)state;
    struct err err = {0};
    struct backend *cuda = NULL, *backend;
    int rc = backend_open(&cuda, &(struct backend_options){.device = "cuda"}, &err);
    if (!rc) backend_close(cuda);
    assert_int_equal(backend_open(&backend, &(struct backend_options){.device = "auto", .n_threads = 1}, NULL), 0);
    if (rc) {
        const char *because = strstr(backend_description(backend), ", because ");
        assert_non_null(because);
        assert_string_equal(because + strlen(", because "), err.text);
    }
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plugin_serves_as_a_device),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(names_of_devices_are_read_strictly),
        cmocka_unit_test(auto_always_finds_a_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
