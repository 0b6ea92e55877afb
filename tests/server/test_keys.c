// Keys are read strictly, matched exactly, and never shown.
#include "tests/test.h"

#include "server/keys.h"
#include "server/sha256.h"

#include <stdlib.h>

static void digests_are_those_of_the_standard(void **state) {
    (void)state;
    // FIPS 180-4 examples, and lengths around the padding from Python's hashlib.
    static const struct {
        const char *text;
        size_t n_repeat;
        const char *digest;
    } rows[] = {
        {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
        {"a", 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str text = STR_INIT;
        uint8_t digest[32];
        char hex[65];
        for (size_t r = 0; r < rows[i].n_repeat; r++) str_append_text(&text, rows[i].text);
        sha256(text.data, text.n_bytes, digest);
        for (int b = 0; b < 32; b++) snprintf(hex + 2 * b, 3, "%02x", digest[b]);
        assert_string_equal(hex, rows[i].digest);
        str_close(&text);
    }
}

static int open_text(struct keys **keys, const char *text, size_t n_bytes, struct err *err) {
    char path[] = "/tmp/optima-keys-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, n_bytes) == (ssize_t)n_bytes);
    close(fd);
    int rc = keys_open(keys, path, err);
    unlink(path);
    return rc;
}

static void files_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int rc;
    } rows[] = {
        {"sk-1", 0},           {"# comment\n\n  sk-1 \r\nsk-2\n", 0}, {"", ERR_FORMAT}, {"# none\n\n", ERR_FORMAT},
        {"a b\n", ERR_FORMAT}, {"k\xc3\xa4y\n", ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct keys *keys = NULL;
        struct err err = {0};
        assert_int_equal(open_text(&keys, rows[i].text, strlen(rows[i].text), &err), rows[i].rc);
        if (rows[i].rc) assert_null(strstr(err.text, "y\xc3"));
        if (!rows[i].rc) keys_close(keys);
    }
    struct keys *keys;
    struct err err = {0};
    assert_int_not_equal(keys_open(&keys, "/nowhere/keys", &err), 0);
    assert_non_null(strstr(err.text, "/nowhere/keys"));
    assert_int_equal(open_text(&keys, "a\0b\n", 4, &err), ERR_FORMAT);
}

static void only_whole_keys_match(void **state) {
    (void)state;
    static const char text[] = "# two\nsk-first\n\tsk-second \n";
    static const char *const wrong[] = {"",         "sk-",       "sk-firs", "sk-first1",
                                        "SK-FIRST", " sk-first", "# two",   "sk-third"};
    struct keys *keys;
    struct err err = {0};
    assert_int_equal(open_text(&keys, text, sizeof text - 1, &err), 0);
    uint64_t first = 0, again = 0, second = 0, id;
    assert_true(keys_match(keys, STR_VIEW("sk-first"), &first));
    assert_true(keys_match(keys, STR_VIEW("sk-first"), &again));
    assert_true(keys_match(keys, STR_VIEW("sk-second"), &second));
    assert_true(first != 0 && first == again && second != 0 && first != second);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(keys_match(keys, str_view_of(wrong[i]), &id));
    assert_false(keys_match(keys, ((struct str_view){"sk-first\0", 9}), &id));
    keys_close(keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_the_standard),
        cmocka_unit_test(files_are_told_apart),
        cmocka_unit_test(only_whole_keys_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
