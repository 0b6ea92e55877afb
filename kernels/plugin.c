#include "kernels/plugin.h"

#include "base/plugin.h"

int plugin_open(const struct backend_driver **out, const char *file, struct err *err) {
    backend_driver_function *driver_of;
    int rc = plugin_symbol(file, BACKEND_DRIVER_SYMBOL, (void *)&driver_of, err);
    if (rc) return rc;
    const struct backend_driver *driver = driver_of();
    if (driver->abi != BACKEND_DRIVER_ABI)
        return err_set(err, ERR_UNSUPPORTED, "%s was built for another version of Optima (door %08x, here %08x)", file,
                       driver->abi, BACKEND_DRIVER_ABI);
    *out = driver;
    return 0;
}
