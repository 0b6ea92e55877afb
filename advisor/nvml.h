// Power, clocks and throttling of an NVIDIA GPU, through the driver's management library.
#pragma once

#include <stdbool.h>

struct nvml;

// library: NVML_LIBRARY, where the driver has put it. NULL: no such library or no such device.
#define NVML_LIBRARY "libnvidia-ml.so.1"
struct nvml *nvml_open(const char *library, int device_index);
void nvml_close(struct nvml *nvml); // NULL: nothing happens

struct nvml_reading {
    double watts, joules; // joules: since the driver was loaded; NAN: the device does not count them
    double frequency_hz, frequency_max_hz;
    bool throttled; // by heat or power, now
};
void nvml_read(struct nvml *nvml, struct nvml_reading *out);
