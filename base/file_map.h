// A read-only view of a regular file in memory. The pages stay those of the page cache.
#pragma once

#include "base/err.h"
#include "base/str.h"
#include <stddef.h>

struct file_map {
    const char *data; // valid until file_map_close; NULL for an empty file
    size_t n_bytes;
};

// Opens a regular file (not a device, pipe or folder). err names the path and the reason.
int file_map_open(struct file_map *map, const char *path, struct err *err) __attribute__((warn_unused_result));
// The same for an open descriptor, which is closed in any case. `path` is for the error text.
int file_map_open_fd(struct file_map *map, int fd, const char *path, struct err *err)
    __attribute__((warn_unused_result));
void file_map_close(struct file_map *map);
// Pages that lie wholly within a part of a mapping go back to the system; reading them again brings them back.
void file_map_release(const char *first, size_t n_bytes);
struct str_view file_map_text(const struct file_map *map); // data is never NULL

// Reads everything from a descriptor that is not seekable (standard input), at most limit bytes.
int file_read_all(int fd, size_t limit, struct str *out, struct err *err) __attribute__((warn_unused_result));
