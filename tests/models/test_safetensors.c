// safetensors files: accepted exactly when the header is sound and the tensors fill the file; folders are not left.
#include "tests/test.h"

#include "base/mem.h"
#include "models/checkpoint.h"
#include "models/safetensors.h"

#include <stdlib.h>
#include <sys/stat.h>

// A file with this header and n_data bytes behind it, exactly as long as it must be.
static char *make_file(const char *header, size_t n_data, size_t *n_bytes) {
    uint64_t n_header = strlen(header);
    *n_bytes = 8 + n_header + n_data;
    char *file = mem_alloc(*n_bytes);
    memcpy(file, &n_header, 8);
    memcpy(file + 8, header, n_header);
    memset(file + 8 + n_header, 7, n_data);
    return file;
}

static int read_header(const char *header, size_t n_data, size_t *n_tensors, struct err *err) {
    size_t n_bytes;
    char *file = make_file(header, n_data, &n_bytes);
    stored_tensor_vec tensors = {0};
    struct arena arena = ARENA_INIT;
    int rc = safetensors_read(&tensors, &arena, file, n_bytes, err);
    *n_tensors = tensors.count;
    vec_free(&tensors);
    arena_close(&arena);
    free(file);
    return rc;
}

static void sound_headers_are_accepted(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data, n_tensors;
    } rows[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}   ", 24, 1},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2, 1},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[0,0]}}", 0, 1},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_"
         "offsets\":[0,4]}}",
         7, 2},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        size_t n_tensors;
        if (read_header(rows[i].header, rows[i].n_data, &n_tensors, &err)) fail_msg("row %zu: %s", i, err.text);
        assert_int_equal(n_tensors, rows[i].n_tensors);
    }
}

static void unsound_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        const char *expected;
    } rows[] = {
        {" {}", 0, "not a safetensors file"},
        {"", 0, "not a safetensors file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 8, "header"},
        {"{\"a\":1}", 0, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"F128\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,6]}}", 6, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "impossible shape"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2147483648,4294967296],\"data_offsets\":[0,0]}}", 0, "ask for"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", 9, "ask for"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "ask for"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "within the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,16]}}", 8, "within the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "within the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "the file has 9"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
         "\"data_offsets\":[4,12]}}",
         12, "overlaps"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
         "offsets\":[1,2]}}",
         2, "header"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        size_t n_tensors;
        int rc = read_header(rows[i].header, rows[i].n_data, &n_tensors, &err);
        if (!rc || !strstr(err.text, rows[i].expected)) fail_msg("row %zu: \"%s\"", i, err.text);
        assert_int_equal(n_tensors, 0);
    }
}

static void header_lengths_are_checked(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0, 3, 100000001, 0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        stored_tensor_vec tensors = {0};
        struct arena arena = ARENA_INIT;
        struct err err;
        char file[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        memcpy(file, &lengths[i], 8);
        assert_int_equal(safetensors_read(&tensors, &arena, file, sizeof file, &err), ERR_FORMAT);
        for (size_t n = 0; n < 8; n++) assert_int_equal(safetensors_read(&tensors, &arena, file, n, &err), ERR_FORMAT);
        arena_close(&arena);
    }
}

// ------------------------------------------------------------------------------------------------------ folders

static char root[] = "/tmp/optima_test_XXXXXX";

static void write_bytes(const char *name, const char *bytes, size_t n_bytes) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    fclose(file);
}

// A file with one F32 tensor of two elements.
static void write_tensor(const char *name, const char *tensor) {
    char header[256];
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", tensor);
    size_t n_bytes;
    char *file = make_file(header, 8, &n_bytes);
    write_bytes(name, file, n_bytes);
    free(file);
}

static void link_file(const char *target, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(symlink(target, path), 0);
}

static int make_root(void **state) {
    (void)state;
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    if (!mkdtemp(root)) return -1;
    char path[256];
    static const char *const folders[] = {"blobs", "snapshots", "snapshots/1"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        if (mkdir(path, 0700)) return -1;
    }
    return 0;
}

static int remove_root(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

// Opens root/snapshots/1; gives the number of tensors or the (negative) error.
static int open_snapshot(struct err *err) {
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/1", root);
    struct folder folder;
    struct checkpoint *checkpoint;
    assert_int_equal(folder_open(&folder, path, err), 0);
    int rc = checkpoint_open_folder(&checkpoint, &folder, err);
    folder_close(&folder);
    if (rc) return rc;
    size_t n = 0;
    checkpoint_tensors(checkpoint, &n);
    checkpoint_close(checkpoint);
    return (int)n;
}

static void write_index(const char *weight_map) {
    char index[512];
    snprintf(index, sizeof index, "{\"metadata\":{\"total_size\":16},\"weight_map\":%s}", weight_map);
    write_bytes("snapshots/1/model.safetensors.index.json", index, strlen(index));
}

static void shards_come_from_the_index(void **state) {
    (void)state;
    static const struct {
        const char *weight_map;
        int n_tensors;        // or the error
        const char *expected; // part of its text
    } rows[] = {
        {"{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}", 2, NULL},
        {"{\"a\":\"one.safetensors\"}", 1, NULL},
        {"{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}", ERR_FORMAT, "no tensor \"c\""},
        {"{\"a\":\"one.safetensors\",\"b\":\"copy.safetensors\"}", ERR_FORMAT, "in another file too"},
        {"{\"a\":\"three.safetensors\"}", ERR_NOT_FOUND, "three.safetensors"},
        {"{\"a\":\"../../out.safetensors\"}", ERR_INVALID, "outside of the folder"},
        {"{\"a\":\"/etc/passwd\"}", ERR_INVALID, "outside of the folder"},
        {"{\"a\":\"..\"}", ERR_INVALID, "outside of the folder"},
        {"{\"a\":\"\"}", ERR_INVALID, "outside of the folder"},
        {"{\"a\":7}", ERR_FORMAT, "weight_map"},
        {"{}", ERR_FORMAT, "weight_map"},
        {"[]", ERR_FORMAT, "weight_map"},
    };
    write_tensor("out.safetensors", "a");
    write_tensor("snapshots/1/one.safetensors", "a");
    write_tensor("snapshots/1/two.safetensors", "b");
    write_tensor("snapshots/1/copy.safetensors", "a");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        write_index(rows[i].weight_map);
        int rc = open_snapshot(&err);
        if (rc != rows[i].n_tensors || (rows[i].expected && !strstr(err.text, rows[i].expected)))
            fail_msg("row %zu: %d \"%s\"", i, rc, err.text);
    }
}

static void a_single_file_needs_no_index(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(open_snapshot(&err), ERR_NOT_FOUND);
    write_tensor("snapshots/1/consolidated.safetensors", "a");
    write_tensor("snapshots/1/weights.safetensors", "a");
    assert_int_equal(open_snapshot(&err), 1);
    write_tensor("snapshots/1/more.safetensors", "b");
    assert_int_equal(open_snapshot(&err), ERR_INVALID);
    write_tensor("snapshots/1/model.safetensors", "b");
    assert_int_equal(open_snapshot(&err), 1);
}

static void links_stay_inside_the_cache(void **state) {
    (void)state;
    static const struct {
        const char *target;
        int expected;
    } rows[] = {{"../../blobs/0123", 1},
                {"neighbour", 1},
                {"../../out.safetensors", ERR_INVALID},
                {"/etc/hostname", ERR_INVALID},
                {"../../blobs/../out", ERR_INVALID},
                {"../../blobs/..", ERR_INVALID},
                {"chain", ERR_INVALID}};
    write_tensor("blobs/0123", "a");
    write_tensor("out.safetensors", "a");
    write_tensor("snapshots/1/neighbour", "a");
    link_file("neighbour", "snapshots/1/chain");
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/1/model.safetensors", root);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        link_file(rows[i].target, "snapshots/1/model.safetensors");
        int rc = open_snapshot(&err);
        if (rc != rows[i].expected) fail_msg("%s: %d \"%s\"", rows[i].target, rc, err.text);
        assert_int_equal(unlink(path), 0);
    }
}

static void special_files_are_refused(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/1/model.safetensors", root);
    assert_int_equal(mkfifo(path, 0600), 0); // opening it must not wait
    struct err err = {0};
    assert_int_equal(open_snapshot(&err), ERR_INVALID);
    assert_non_null(strstr(err.text, "not a regular file"));
}

static void formats_are_converted_or_refused_by_name(void **state) {
    (void)state;
    const char *header = "{\"matrix\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
                         "\"half\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]},"
                         "\"brain\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[12,16]}}";
    size_t n_bytes;
    char *file = make_file(header, 16, &n_bytes);
    static const uint16_t half[2] = {0x3c00, 0xc100}, brain[2] = {0x3f80, 0xc020}; // 1 and -2.5 in both
    memcpy(file + n_bytes - 8, half, 4);
    memcpy(file + n_bytes - 4, brain, 4);
    write_bytes("snapshots/1/model.safetensors", file, n_bytes);
    free(file);
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/1", root);
    struct folder folder;
    struct checkpoint *checkpoint;
    struct err err = {0};
    assert_int_equal(folder_open(&folder, path, &err), 0);
    assert_int_equal(checkpoint_open_folder(&checkpoint, &folder, &err), 0);
    folder_close(&folder);
    struct tensor matrix;
    assert_int_equal(checkpoint_matrix(checkpoint, "matrix", 2, 4, &matrix, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "the format F8_E4M3 is not supported"));
    static const char *const vectors[] = {"half", "brain"};
    for (int i = 0; i < 2; i++) {
        const float *values;
        assert_int_equal(checkpoint_vector(checkpoint, vectors[i], 2, &values, &err), 0);
        assert_true(values[0] == 1 && values[1] == -2.5f);
    }
    checkpoint_close(checkpoint);
}

static void unused_tensors_are_refused_unless_known(void **state) {
    (void)state;
    static const char *const patterns[] = {NULL, "weight", "model.*", "*.weight", "model.x.weight", "*x", "x*", "*"};
    static const bool known[] = {false, false, true, true, true, false, false, true};
    write_tensor("snapshots/1/model.safetensors", "model.x.weight");
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/1", root);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct folder folder;
        struct checkpoint *checkpoint;
        struct err err = {0};
        assert_int_equal(folder_open(&folder, path, &err), 0);
        assert_int_equal(checkpoint_open_folder(&checkpoint, &folder, &err), 0);
        folder_close(&folder);
        const char *const list[] = {patterns[i], NULL};
        assert_int_equal(checkpoint_refuse_unused(checkpoint, list, &err), known[i] ? 0 : ERR_UNSUPPORTED);
        if (!known[i]) assert_non_null(strstr(err.text, "\"model.x.weight\" [2]"));
        checkpoint_close(checkpoint);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_headers_are_accepted),
        cmocka_unit_test(unsound_headers_are_refused),
        cmocka_unit_test(header_lengths_are_checked),
        cmocka_unit_test_setup_teardown(shards_come_from_the_index, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_single_file_needs_no_index, make_root, remove_root),
        cmocka_unit_test_setup_teardown(links_stay_inside_the_cache, make_root, remove_root),
        cmocka_unit_test_setup_teardown(formats_are_converted_or_refused_by_name, make_root, remove_root),
        cmocka_unit_test_setup_teardown(unused_tensors_are_refused_unless_known, make_root, remove_root),
        cmocka_unit_test_setup_teardown(special_files_are_refused, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
