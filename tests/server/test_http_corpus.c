// The shared corpus of 303 raw requests, valid and malformed, against the HTTP layer alone: with hosts restricted to
// this machine, as by default on loopback, and with any host, so that more requests reach the later checks.
#include "tests/test.h"

#include "tests/server/http_fixture.h"

#include <stdlib.h>

static void judge(const char *allowed_hosts) {
    SKIP_WITHOUT_SHARED("suites/http/corpus.jsonl");
    struct fixture fixture;
    char command[1024];
    fixture_open(&fixture, &(struct http_options){.allowed_hosts = allowed_hosts});
    snprintf(command, sizeof command, "python3 %s/tests/e2e/http_corpus.py 127.0.0.1 %d", TEST_SOURCE_DIR,
             fixture.port);
    int status = system(command);
    fixture_close(&fixture);
    assert_int_equal(status, 0);
}

static void corpus_is_judged_as_it_asks(void **state) {
    (void)state;
    judge(NULL);
}

static void corpus_is_judged_as_it_asks_with_any_host(void **state) {
    (void)state;
    judge("*");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corpus_is_judged_as_it_asks),
        cmocka_unit_test(corpus_is_judged_as_it_asks_with_any_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
