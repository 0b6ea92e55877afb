// The driver's management library, as far as the advisor uses it, for a GPU of 300 W that is throttled by its power
// cap.
enum { OK, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(void *device, int kind, unsigned *mhz);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);

static int devices[2]; // the second is old: it counts no energy and is idle
static int n_open;

int nvmlInit_v2(void) {
    n_open++;
    return OK;
}
int nvmlShutdown(void) {
    n_open--;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index > 1 || n_open != 1) return INVALID_ARGUMENT;
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = device == &devices[0] ? 300000 : 25000;
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    static unsigned long long used = 5000;
    *millijoules = used += 600000;
    return device == &devices[0] ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *mhz) {
    *mhz = device == &devices[0] ? 1200 : 300;
    return kind == 1 ? OK : INVALID_ARGUMENT;
}

int nvmlDeviceGetMaxClockInfo(void *device, int kind, unsigned *mhz) {
    (void)device;
    *mhz = 2000;
    return kind == 1 ? OK : INVALID_ARGUMENT;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    *reasons = device == &devices[0] ? 0x4 : 0x1; // power cap; idle, which throttles nothing
    return OK;
}
