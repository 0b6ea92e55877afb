// For those who implement a device: the table behind kernels/backend.h. kernels/backend.c checks what every device
// needs checked and calls the table; the meaning of each function is written there.
//
// A device's own structs begin with these:
//     struct cuda_backend { struct backend common; ... };
//     struct cuda_program { struct program common; ... };
//
// A plugin is a shared object that exports `optima_backend_driver`; it links its own copies of base/ and kernels/.
#pragma once

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct backend_driver {
    uint32_t abi;     // BACKEND_DRIVER_ABI of its build
    const char *name; // "cpu", "cuda"
    bool keeps_int8;  // WEIGHT_INT8 can be loaded

    // Fills description, steps_in_flight and holds_weights of the backend; `driver` is set by the caller.
    int (*open)(struct backend **out, const struct backend_options *options, struct err *err);
    void (*close)(struct backend *backend);
    uint64_t (*memory_available)(const struct backend *backend);
    void (*memory)(const struct backend *backend, struct backend_memory *out);
    void (*measure_peaks)(struct backend *backend, struct backend_peaks *out);
    void (*limit_threads)(struct backend *backend, int n); // NULL: no threads compute
    uint64_t (*weight_bytes)(const struct tensor *tensor, enum weight_format format);
    int (*weight_load)(struct backend *backend, struct tensor *tensor, enum weight_format format, struct err *err);
    int (*kv_open)(struct backend *backend, const struct kv_shape *shape, struct err *err); // backend->kv is set behind
    bool (*touch_kv)(struct backend *backend, int32_t n_blocks); // NULL: memory is there from the beginning

    // Calls program_begin first. program_add has been checked, and has loaded weights.
    int (*program_open)(struct program **out, struct backend *backend, const struct program_shape *shape,
                        struct err *err);
    void (*program_add)(struct program *program, const struct op *op);
    int (*program_prepare)(struct program *program, struct err *err);
    void (*program_close)(struct program *program);

    void (*submit)(struct backend *backend, struct program *program, const struct step_input *input);
    int (*collect)(struct backend *backend, struct sample_result *results, struct step_times *times, struct err *err);
    const float *(*logits)(struct backend *backend, int32_t logit_row);
};

struct backend {
    const struct backend_driver *driver;
    char description[512];
    int steps_in_flight;
    int n_threads; // that compute
    bool holds_weights;
    struct kv_shape kv; // n_blocks 0: not open
    int n_in_flight;
};

struct program {
    struct backend *backend;
    struct program_shape shape; // ropes point below
    struct rope_spec ropes[2];
    bool prepared;
};

static inline void program_begin(struct program *program, struct backend *backend, const struct program_shape *shape) {
    program->backend = backend;
    program->shape = *shape;
    for (int32_t i = 0; i < shape->n_ropes; i++) program->ropes[i] = shape->ropes[i];
    program->shape.ropes = program->ropes;
}

extern const struct backend_driver cpu_driver;

// Raised by hand when the meaning of something changes; the sizes catch what changes in the structs.
#define BACKEND_DRIVER_VERSION 6u
#define BACKEND_DRIVER_ABI                                                                                             \
    (BACKEND_DRIVER_VERSION << 24 ^                                                                                    \
     (uint32_t)(sizeof(struct backend_driver) + 31 * sizeof(struct backend) + 37 * sizeof(struct program) +            \
                41 * sizeof(struct op) + 43 * sizeof(struct step_input) + 47 * sizeof(struct sample_params) +          \
                53 * sizeof(struct sample_result) + 59 * sizeof(struct backend_options) + 61 * sizeof(struct tensor) + \
                67 * sizeof(struct kv_shape) + 71 * sizeof(struct step_times) + 73 * sizeof(struct err) +              \
                79 * sizeof(struct step_sequence) + 83 * sizeof(struct seen_token) + 89 * sizeof(struct logit_edit) +  \
                97 * sizeof(struct backend_memory) + 101 * sizeof(struct backend_peaks)))

// What a plugin exports, with default visibility.
typedef const struct backend_driver *backend_driver_function(void);
#define BACKEND_DRIVER_SYMBOL "optima_backend_driver"

#ifdef __cplusplus
}
#endif
