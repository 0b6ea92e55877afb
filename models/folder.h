// Where a model's files are: a folder on disk, or a table of files inside the program.
//
// Names come from model files too (shard indexes), so they never leave the folder: no separators, and a symbolic link
// is followed only to a neighbour or into the blob store of a Hugging Face cache (../../blobs/NAME).
#pragma once

#include "base/err.h"
#include "base/file_map.h"
#include "base/json.h"
#include "base/str.h"
#include "models/demo/embedded.h"
#include <stdbool.h>
#include <stddef.h>

struct folder {
    const char *path;                  // for error texts; owned by the caller
    int fd;                            // of the folder on disk; -1 when embedded
    const struct embedded_file *files; // [n_files] when embedded
    size_t n_files;
};

struct folder_file {
    const char *data; // NULL for an empty file
    size_t n_bytes;
    struct file_map map; // empty when embedded
};

int folder_open(struct folder *out, const char *path, struct err *err) __attribute__((warn_unused_result));
struct folder folder_of_embedded(const char *path, const struct embedded_file *files, size_t n_files);
struct folder folder_of_demo(void); // the embedded model's
void folder_close(struct folder *folder); // files stay open

// ERR_NOT_FOUND when there is no such file. The error names folder and file.
int folder_file_open(const struct folder *folder, const char *name, struct folder_file *out, struct err *err)
    __attribute__((warn_unused_result));
// The same, but a file that is not there is no error and has no bytes.
int folder_file_open_optional(const struct folder *folder, const char *name, struct folder_file *out, struct err *err)
    __attribute__((warn_unused_result));
// The tree of a JSON file that need not be there: *root is then NULL. Freed by the caller with cJSON_Delete. The error
// names folder and file.
int folder_read_json_optional(const struct folder *folder, const char *name, cJSON **root, struct err *err)
    __attribute__((warn_unused_result));
void folder_file_close(struct folder_file *file);
struct str_view folder_file_text(const struct folder_file *file); // data is never NULL

// The only file whose name ends in `suffix` and does not begin with `except`: its name into out. ERR_NOT_FOUND when
// there is none, ERR_INVALID when there are several.
int folder_find_suffix(const struct folder *folder, const char *suffix, const char *except, char out[256],
                       struct err *err) __attribute__((warn_unused_result));
