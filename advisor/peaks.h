// What the hardware can do: measured here, measured at every start and kept in a file, the best of all, and by the
// maker's data sheet where the device is a known GPU. Every number says which it is.
#pragma once

#include "advisor/evidence.h"
#include "base/err.h"
#include "base/str.h"
#include "kernels/backend.h"
#include <stdbool.h>

// What the peaks depend on: the backend's description and, where the processors compute, which these are.
void peaks_key(struct str *out, const char *device, bool is_gpu);

// The larger of both, rate by rate: what else runs on a machine can only make a measurement too low.
void peaks_merge(struct backend_peaks *peaks, const struct backend_peaks *also);

// path: of a file that peaks_store wrote; device: its key.
// ERR_NOT_FOUND: there is no such file, or it is of another device; ERR_FORMAT: it is not such a file.
int peaks_load(struct backend_peaks *out, const char *path, const char *device, struct err *err)
    __attribute__((warn_unused_result));
// Makes the file's folder where it is not there. The file appears whole or not at all.
int peaks_store(const struct backend_peaks *peaks, const char *path, const char *device, struct err *err)
    __attribute__((warn_unused_result));
// ~/.cache/optima/peaks-NUMBER.json, a number for each device. False: there is no home.
bool peaks_default_path(struct str *out, const char *device);

// peaks: NULL: not measured yet. weights: the format that the layers' matrices have ("bf16", "int8", ...).
void peaks_figures(struct peak_figures *out, const struct backend_peaks *peaks, const char *device, const char *weights,
                   bool is_gpu);
