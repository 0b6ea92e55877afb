// What every cmocka test needs, in the order that cmocka wants it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Leaves the test as skipped, with one line, when the shared data folder is absent. `path` is relative to it.
#define SKIP_WITHOUT_SHARED(path)                                                                                      \
    do {                                                                                                               \
        if (access(TEST_SHARED_DIR "/" path, R_OK) != 0) {                                                             \
            printf("skipped: %s is not here\n", path);                                                                 \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)
