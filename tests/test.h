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

// Sanitizers make tests slow and see in a part of many cases of one kind what they see in all: every TEST_STRIDE-th
// case is enough for them. ThreadSanitizer sees nothing where one thread runs alone.
#if defined(__SANITIZE_THREAD__)
enum { TEST_STRIDE = 3, TEST_SEES_THREADS = 1 };
#elif defined(__SANITIZE_ADDRESS__)
enum { TEST_STRIDE = 2, TEST_SEES_THREADS = 0 };
#else
enum { TEST_STRIDE = 1, TEST_SEES_THREADS = 0 };
#endif

// Leaves the test as skipped, with one line, when the shared data folder is absent. `path` is relative to it.
#define SKIP_WITHOUT_SHARED(path)                                                                                      \
    do {                                                                                                               \
        if (access(TEST_SHARED_DIR "/" path, R_OK) != 0) {                                                             \
            printf("skipped: %s is not here\n", path);                                                                 \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)
