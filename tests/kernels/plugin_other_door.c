// A plugin of another version of the door: nothing but its number may be read.
#include "kernels/driver.h"

__attribute__((visibility("default"))) backend_driver_function optima_backend_driver;

const struct backend_driver *optima_backend_driver(void) {
    static const struct backend_driver driver = {.abi = BACKEND_DRIVER_ABI + 1};
    return &driver;
}
