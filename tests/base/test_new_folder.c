// A folder appears whole or not at all.
#include "tests/test.h"

#include "base/new_folder.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int count_entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2; // . and ..
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void write_text(const struct new_folder *folder, const char *name, const char *text, size_t n, int expected) {
    struct new_file file;
    struct err err = {0};
    assert_int_equal(new_file_open(&file, folder, name, &err), 0);
    new_file_write(&file, text, n);
    assert_int_equal(new_file_close(&file, &err), expected);
    if (expected) assert_non_null(strstr(err.text, name));
}

static void folders_are_whole_or_absent(void **state) {
    (void)state;
    char root[] = "/tmp/optima-new-folder-XXXXXX", path[64], inside[96];
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/out/", root);
    struct new_folder folder;
    struct err err = {0};
    // Given up: nothing is left.
    assert_int_equal(new_folder_open(&folder, path, &err), 0);
    write_text(&folder, "a", "text", 4, 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(count_entries(root), 1);
    new_folder_close(&folder);
    assert_int_equal(count_entries(root), 0);
    // Finished: it is there under its name.
    assert_int_equal(new_folder_open(&folder, path, &err), 0);
    write_text(&folder, "a", "text", 4, 0);
    assert_int_equal(new_folder_finish(&folder, &err), 0);
    new_folder_close(&folder);
    snprintf(inside, sizeof inside, "%sa", path);
    assert_int_equal(access(inside, R_OK), 0);
    // There already: refused, also when it appears meanwhile.
    assert_int_equal(new_folder_open(&folder, path, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "exists"));
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(new_folder_open(&folder, path, &err), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(new_folder_finish(&folder, &err), ERR_IO);
    new_folder_close(&folder);
    assert_int_equal(count_entries(root), 1);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(new_folder_open(&folder, "/proc/nothing/out", &err), ERR_IO);
    assert_int_equal(rmdir(root), 0);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    char root[] = "/tmp/optima-new-folder-XXXXXX", path[64];
    static char text[1 << 16];
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/out", root);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){4096, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    struct new_folder folder;
    assert_int_equal(new_folder_open(&folder, path, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_text(&folder, "large", text, sizeof text, ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    new_folder_close(&folder);
    assert_int_equal(rmdir(root), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(folders_are_whole_or_absent),
                                       cmocka_unit_test(a_full_disk_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
