// Loads a device that lives in a shared object of its own.
#pragma once

#include "kernels/driver.h"

// file: as plugin_symbol (base/plugin.h) takes it. ERR_NOT_FOUND: no such file; ERR_UNSUPPORTED: it, or a library that
// it needs, cannot be loaded, or it was built for another door.
int plugin_open(const struct backend_driver **out, const char *file, struct err *err)
    __attribute__((warn_unused_result));
