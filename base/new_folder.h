// A folder that appears with all its files or not at all: it is filled under another name beside its place and renamed
// at the end. Whatever stops the process leaves nothing under the final name.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stddef.h>
#include <stdio.h>

struct new_folder {
    struct str path, partial_path; // PATH.partial-PID
};

// ERR_INVALID: there is something at that path already.
int new_folder_open(struct new_folder *out, const char *path, struct err *err) __attribute__((warn_unused_result));

// A file that is being written; errors of the disk are kept until it is closed.
struct new_file {
    struct str path;
    FILE *stream;
    int first_errno;
};
int new_file_open(struct new_file *out, const struct new_folder *folder, const char *name, struct err *err)
    __attribute__((warn_unused_result));
void new_file_write(struct new_file *file, const void *data, size_t n_bytes);
int new_file_close(struct new_file *file, struct err *err)
    __attribute__((warn_unused_result)); // on the disk afterwards

// Moves its file of this name to where the folder should have been: a file that appears as a whole or not at all.
int new_folder_finish_file(struct new_folder *folder, const char *name, struct err *err)
    __attribute__((warn_unused_result));
// Renames it. On failure, or without it: new_folder_close removes what was written.
int new_folder_finish(struct new_folder *folder, struct err *err) __attribute__((warn_unused_result));
void new_folder_close(struct new_folder *folder);
