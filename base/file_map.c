#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int file_map_open_fd(struct file_map *map, int fd, const char *path, struct err *err) {
    *map = (struct file_map){0};
    struct stat info;
    int rc = 0;
    if (fstat(fd, &info) != 0) {
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        rc = err_set(err, ERR_INVALID, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
        else
            *map = (struct file_map){.data = data, .n_bytes = (size_t)info.st_size};
    }
    close(fd);
    return rc;
}

int file_map_open(struct file_map *map, const char *path, struct err *err) {
    *map = (struct file_map){0};
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
    return file_map_open_fd(map, fd, path, err);
}

void file_map_close(struct file_map *map) {
    // munmap takes a pointer to non-const; the pages themselves are read-only.
    if (map->data) munmap((void *)(uintptr_t)map->data, map->n_bytes);
    *map = (struct file_map){0};
}

void file_map_release(const char *first, size_t n_bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)first + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)first + n_bytes) / page * page;
    if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

struct str_view file_map_text(const struct file_map *map) {
    return (struct str_view){map->data ? map->data : "", map->n_bytes};
}

int file_read_all(int fd, size_t limit, struct str *out, struct err *err) {
    char buffer[65536];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0) return 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_set(err, ERR_IO, "cannot read: %s", strerror(errno));
        if (out->n_bytes + (size_t)n > limit) return err_set(err, ERR_LIMIT, "input is larger than %zu bytes", limit);
        str_append(out, buffer, (size_t)n);
    }
}
