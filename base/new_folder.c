#include "base/new_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int new_folder_open(struct new_folder *out, const char *path, struct err *err) {
    *out = (struct new_folder){0};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    str_append(&out->path, path, n);
    str_printf(&out->partial_path, "%s.partial-%d", str_text(&out->path), (int)getpid());
    struct stat status;
    int rc = 0;
    if (lstat(str_text(&out->path), &status) == 0)
        rc = err_set(err, ERR_INVALID, "%s exists already", str_text(&out->path));
    else if (mkdir(str_text(&out->partial_path), 0777) != 0)
        rc = err_set(err, ERR_IO, "cannot create %s: %s", str_text(&out->partial_path), strerror(errno));
    if (!rc) return 0;
    str_close(&out->path);
    str_close(&out->partial_path);
    return rc;
}

int new_file_open(struct new_file *out, const struct new_folder *folder, const char *name, struct err *err) {
    *out = (struct new_file){0};
    str_printf(&out->path, "%s/%s", str_text(&folder->partial_path), name);
    out->stream = fopen(str_text(&out->path), "wbxe");
    if (out->stream) return 0;
    int rc = err_set(err, ERR_IO, "cannot create %s: %s", str_text(&out->path), strerror(errno));
    str_close(&out->path);
    return rc;
}

static void keep(struct new_file *file, bool failed) {
    if (failed && !file->first_errno) file->first_errno = errno ? errno : EIO;
}

void new_file_write(struct new_file *file, const void *data, size_t n_bytes) {
    if (n_bytes && !file->first_errno) keep(file, fwrite(data, 1, n_bytes, file->stream) != n_bytes);
}

int new_file_close(struct new_file *file, struct err *err) {
    keep(file, fflush(file->stream) != 0);
    keep(file, fsync(fileno(file->stream)) != 0);
    keep(file, fclose(file->stream) != 0);
    int rc = 0;
    if (file->first_errno)
        rc = err_set(err, ERR_IO, "cannot write %s: %s", str_text(&file->path), strerror(file->first_errno));
    str_close(&file->path);
    return rc;
}

static int move(const char *from, const char *to, struct err *err) {
    int rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (rc != 0 && errno == EINVAL) rc = rename(from, to); // a file system that always replaces
    return rc ? err_set(err, ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno)) : 0;
}

int new_folder_finish_file(struct new_folder *folder, const char *name, struct err *err) {
    struct str from = STR_INIT;
    str_printf(&from, "%s/%s", str_text(&folder->partial_path), name);
    int rc = move(str_text(&from), str_text(&folder->path), err);
    str_close(&from);
    return rc;
}

int new_folder_finish(struct new_folder *folder, struct err *err) {
    int rc = move(str_text(&folder->partial_path), str_text(&folder->path), err);
    if (!rc) str_clear(&folder->partial_path);
    return rc;
}

static void remove_files(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(path);
}

void new_folder_close(struct new_folder *folder) {
    if (folder->partial_path.n_bytes) remove_files(str_text(&folder->partial_path));
    str_close(&folder->path);
    str_close(&folder->partial_path);
}
