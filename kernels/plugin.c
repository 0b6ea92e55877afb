#include "kernels/plugin.h"

#include <dlfcn.h>
#include <limits.h>
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

int plugin_open(const struct backend_driver **out, const char *file, struct err *err) {
    char beside[PATH_MAX];
    const char *path = !strchr(file, '/') && find_beside_executable(file, beside) ? beside : file;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        if (is_absent(path, why)) return err_set(err, ERR_NOT_FOUND, "there is no %s", file);
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be loaded: %s", file, why);
    }
    backend_driver_function *driver_of;
    void *symbol = dlsym(handle, BACKEND_DRIVER_SYMBOL);
    if (!symbol) return err_set(err, ERR_UNSUPPORTED, "%s is not a device of Optima", file);
    memcpy(&driver_of, &symbol, sizeof driver_of);
    const struct backend_driver *driver = driver_of();
    if (driver->abi != BACKEND_DRIVER_ABI)
        return err_set(err, ERR_UNSUPPORTED, "%s was built for another version of Optima (door %08x, here %08x)", file,
                       driver->abi, BACKEND_DRIVER_ABI);
    *out = driver;
    return 0;
}
