#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *open_beside_program(const char *file) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return NULL;
    path[n] = 0;
    char *name = strrchr(path, '/') + 1;
    size_t room = sizeof path - (size_t)(name - path);
    if ((size_t)snprintf(name, room, "%s", file) >= room || access(path, R_OK) != 0) return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

int plugin_symbol(const char *file, const char *symbol, void *function, struct err *err) {
    void *plugin = strchr(file, '/') ? NULL : open_beside_program(file);
    if (!plugin) plugin = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) return err_set(err, ERR_NOT_FOUND, "%s", dlerror());
    void *found = dlsym(plugin, symbol);
    if (!found) {
        dlclose(plugin);
        return err_set(err, ERR_INVALID, "%s: no symbol %s", file, symbol);
    }
    memcpy(function, &found, sizeof found);
    return 0;
}
