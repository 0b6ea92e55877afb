// A server in a process of its own: `optima serve` of this program, on a free port of this machine. It ends with its
// parent, however that ends.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/url.h"
#include <stdio.h>
#include <sys/types.h>

typedef VEC_OF(const char *) words_vec;

struct child_server {
    pid_t pid;     // 0: none runs
    int output;    // what it says on standard output; -1: closed
    FILE *errors;  // what it says on standard error
    char text[64]; // "http://127.0.0.1:41234"
    struct url url;
};

// Starts it with these arguments after "serve"; they stay the caller's. ERR_IO: no process.
int child_server_open(struct child_server *out, const words_vec *arguments, struct err *err)
    __attribute__((warn_unused_result));
// Until it answers. ERR_CLOSED: it has ended, with what it said last, or *stop is set.
int child_server_wait(struct child_server *server, const volatile int *stop, struct err *err)
    __attribute__((warn_unused_result));
void child_server_close(struct child_server *server); // ends it and waits for its end; nothing when none was opened
