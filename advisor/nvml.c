#include "advisor/nvml.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

// The parts of nvml.h that are used; the library keeps them stable.
enum { NVML_OK = 0, NVML_CLOCK_SM = 1 };
// Power cap by software, slowdown by hardware, heat (software, hardware), power brake.
static const unsigned long long THROTTLED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80;

struct nvml {
    void *library, *device;
    int (*shutdown)(void);
    int (*power)(void *device, unsigned *milliwatts);
    int (*energy)(void *device, unsigned long long *millijoules);
    int (*clock)(void *device, int kind, unsigned *mhz);
    int (*clock_max)(void *device, int kind, unsigned *mhz);
    int (*reasons)(void *device, unsigned long long *reasons);
};

// dlsym gives a pointer to data; a function's is as wide.
static void find(struct nvml *nvml, const char *name, void *function) {
    *(void **)function = dlsym(nvml->library, name);
}

struct nvml *nvml_open(const char *path, int device_index) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return NULL;
    struct nvml *nvml = mem_alloc_zero(1, sizeof *nvml);
    nvml->library = library;
    int (*init)(void), (*device)(unsigned, void **);
    find(nvml, "nvmlInit_v2", &init);
    find(nvml, "nvmlDeviceGetHandleByIndex_v2", &device);
    find(nvml, "nvmlDeviceGetPowerUsage", &nvml->power);
    find(nvml, "nvmlDeviceGetTotalEnergyConsumption", &nvml->energy);
    find(nvml, "nvmlDeviceGetClockInfo", &nvml->clock);
    find(nvml, "nvmlDeviceGetMaxClockInfo", &nvml->clock_max);
    find(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", &nvml->reasons);
    if (init && device && init() == NVML_OK) {
        find(nvml, "nvmlShutdown", &nvml->shutdown);
        if (device((unsigned)device_index, &nvml->device) == NVML_OK) return nvml;
    }
    nvml_close(nvml);
    return NULL;
}

void nvml_close(struct nvml *nvml) {
    if (!nvml) return;
    if (nvml->shutdown) nvml->shutdown();
    dlclose(nvml->library);
    free(nvml);
}

static double clock_hz(const struct nvml *nvml, int (*read)(void *, int, unsigned *)) {
    unsigned mhz;
    return read && read(nvml->device, NVML_CLOCK_SM, &mhz) == NVML_OK ? mhz * 1e6 : NAN;
}

void nvml_read(struct nvml *nvml, struct nvml_reading *out) {
    unsigned milliwatts;
    unsigned long long millijoules, reasons;
    *out = (struct nvml_reading){NAN, NAN, clock_hz(nvml, nvml->clock), clock_hz(nvml, nvml->clock_max), false};
    if (nvml->power && nvml->power(nvml->device, &milliwatts) == NVML_OK) out->watts = milliwatts * 1e-3;
    if (nvml->energy && nvml->energy(nvml->device, &millijoules) == NVML_OK) out->joules = (double)millijoules * 1e-3;
    if (nvml->reasons && nvml->reasons(nvml->device, &reasons) == NVML_OK) out->throttled = reasons & THROTTLED;
}
