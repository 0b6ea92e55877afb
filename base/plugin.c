#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// The path of `file` in the folder of the running executable. False: it is not there.
static bool find_beside_executable(const char *file, char path[PATH_MAX]) {
    char executable[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", executable, sizeof executable);
    const char *slash = n > 0 ? memrchr(executable, '/', (size_t)n) : NULL;
    if (!slash) return false;
    int written = snprintf(path, PATH_MAX, "%.*s%s", (int)(slash + 1 - executable), executable, file);
    return written < PATH_MAX && access(path, R_OK) == 0;
}

// Whether the loader can only have meant `file` itself, not a library that it needs.
static bool is_absent(const char *file, const char *why) {
    size_t n = strlen(file);
    return strncmp(why, file, n) == 0 && strstr(why + n, "No such file");
}

int plugin_symbol(const char *file, const char *symbol, void *function, struct err *err) {
    char beside[PATH_MAX];
    const char *path = !strchr(file, '/') && find_beside_executable(file, beside) ? beside : file;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        if (is_absent(path, why)) return err_set(err, ERR_NOT_FOUND, "there is no %s", file);
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be loaded: %s", file, why);
    }
    void *found = dlsym(handle, symbol);
    if (!found) return err_set(err, ERR_UNSUPPORTED, "%s is not a plugin of this kind: it has no %s", file, symbol);
    memcpy(function, &found, sizeof found);
    return 0;
}

bool plugin_library_exists(const char *name) {
    void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (handle) dlclose(handle);
    return handle != NULL;
}
