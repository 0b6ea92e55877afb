#include "models/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_NAME_BYTES_MAX = 255 };

int folder_open(struct folder *out, const char *path, struct err *err) {
    *out = (struct folder){.path = path, .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (out->fd >= 0) return 0;
    return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
}

struct folder folder_of_embedded(const char *path, const struct embedded_file *files, size_t n_files) {
    return (struct folder){.path = path, .fd = -1, .files = files, .n_files = n_files};
}

// Without the demo's files in the build it is empty.
struct folder folder_of_demo(void) {
    size_t n_files = 0;
    const struct embedded_file *files = NULL;
#ifdef OPTIMA_EMBEDS_DEMO
    files = demo_files(&n_files);
#endif
    return folder_of_embedded("embedded", files, n_files);
}

void folder_close(struct folder *folder) {
    if (folder->fd >= 0) close(folder->fd);
    folder->fd = -1;
}

static bool is_plain_name(const char *name) {
    size_t n = strlen(name);
    return n && n <= FILE_NAME_BYTES_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

// Opens a file of the folder without leaving it; -1 and errno otherwise.
static int open_inside(int folder_fd, const char *name) {
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
    int fd = openat(folder_fd, name, flags);
    if (fd >= 0 || errno != ELOOP) return fd;
    static const char blobs[] = "../../blobs/";
    char target[512] = {0};
    ssize_t n = readlinkat(folder_fd, name, target, sizeof target - 1);
    bool blob = n > 0 && strncmp(target, blobs, sizeof blobs - 1) == 0;
    if (n > 0 && is_plain_name(target + (blob ? sizeof blobs - 1 : 0))) return openat(folder_fd, target, flags);
    errno = ELOOP;
    return -1;
}

static int open_embedded(const struct folder *folder, const char *name, struct folder_file *out, struct err *err) {
    for (size_t i = 0; i < folder->n_files; i++) {
        if (strcmp(folder->files[i].name, name) != 0) continue;
        *out = (struct folder_file){.data = folder->files[i].data, .n_bytes = folder->files[i].n_bytes};
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "%s: no file %s", folder->path, name);
}

int folder_file_open(const struct folder *folder, const char *name, struct folder_file *out, struct err *err) {
    *out = (struct folder_file){0};
    if (!is_plain_name(name))
        return err_set(err, ERR_INVALID, "%s: refers to a file outside of the folder", folder->path);
    if (folder->fd < 0) return open_embedded(folder, name, out, err);
    int fd = open_inside(folder->fd, name);
    if (fd < 0 && errno == ELOOP)
        return err_set(err, ERR_INVALID, "%s/%s: a symbolic link that leaves the folder", folder->path, name);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s/%s: %s", folder->path, name, strerror(errno));
    int rc = file_map_open_fd(&out->map, fd, name, err);
    if (rc) return err_prefix(err, "%s", folder->path);
    out->data = out->map.data;
    out->n_bytes = out->map.n_bytes;
    return 0;
}

int folder_file_open_optional(const struct folder *folder, const char *name, struct folder_file *out, struct err *err) {
    int rc = folder_file_open(folder, name, out, err);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

struct str_view folder_file_text(const struct folder_file *file) {
    return (struct str_view){file->data ? file->data : "", file->n_bytes};
}

int folder_read_json_optional(const struct folder *folder, const char *name, cJSON **root, struct err *err) {
    *root = NULL;
    struct folder_file file;
    int rc = folder_file_open_optional(folder, name, &file, err);
    if (rc || !file.data) return rc;
    struct json_limits limits = JSON_LIMITS_FILE;
    rc = json_parse(root, file.data, file.n_bytes, &limits, err);
    folder_file_close(&file);
    return rc ? err_prefix(err, "%s/%s", folder->path, name) : 0;
}

void folder_file_close(struct folder_file *file) {
    file_map_close(&file->map);
    *file = (struct folder_file){0};
}

static bool fits(const char *name, const char *suffix, const char *except) {
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && n <= FILE_NAME_BYTES_MAX && strcmp(name + n - m, suffix) == 0 &&
           strncmp(name, except, strlen(except)) != 0;
}

int folder_find_suffix(const struct folder *folder, const char *suffix, const char *except, char out[256],
                       struct err *err) {
    int n_found = 0;
    DIR *dir = folder->fd >= 0 ? fdopendir(dup(folder->fd)) : NULL;
    if (dir) rewinddir(dir);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!fits(entry->d_name, suffix, except)) continue;
        snprintf(out, 256, "%s", entry->d_name);
        n_found++;
    }
    if (dir) closedir(dir);
    for (size_t i = 0; i < folder->n_files; i++) {
        if (!fits(folder->files[i].name, suffix, except)) continue;
        snprintf(out, 256, "%s", folder->files[i].name);
        n_found++;
    }
    if (n_found == 1) return 0;
    if (!n_found) return err_set(err, ERR_NOT_FOUND, "%s: no %s file", folder->path, suffix);
    return err_set(err, ERR_INVALID, "%s: %d %s files and no index that says which belong together", folder->path,
                   n_found, suffix);
}
