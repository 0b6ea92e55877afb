#include "advisor/peaks.h"

#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCHEMA = 1, READ_CURVE_MAX = sizeof((struct backend_peaks *)0)->read_curve / sizeof(double) };

static const struct {
    const char *name;
    size_t at;
} rate_fields[] = {
    {"read_bytes_per_s", offsetof(struct backend_peaks, read_bytes_per_s)},
    {"f32_flops_per_s", offsetof(struct backend_peaks, f32_flops_per_s)},
    {"bf16_flops_per_s", offsetof(struct backend_peaks, bf16_flops_per_s)},
    {"int8_ops_per_s", offsetof(struct backend_peaks, int8_ops_per_s)},
};
enum { RATES = sizeof rate_fields / sizeof *rate_fields };

static double *rate_at(struct backend_peaks *rates, int i) {
    return (double *)((char *)rates + rate_fields[i].at);
}

void peaks_key(struct str *out, const char *device, bool is_gpu) {
    char line[512];
    str_append_text(out, device);
    FILE *file = is_gpu ? NULL : fopen("/proc/cpuinfo", "re");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (!value) continue;
        str_printf(out, ", on%.*s", (int)strcspn(value + 1, "\n"), value + 1);
        break;
    }
    fclose(file);
}

// ------------------------------------------------------------------------------------------------------------- file

// Rates of no machine that there is say that the file is not to be believed.
static bool is_rate(double x) {
    return x >= 0 && x < 1e19;
}

static int read_curve(struct backend_peaks *out, const cJSON *root, const char *path, struct err *err) {
    const cJSON *curve = cJSON_GetObjectItemCaseSensitive(root, "read_curve"), *item;
    if (!cJSON_IsArray(curve)) return err_set(err, ERR_FORMAT, "%s: no read_curve", path);
    cJSON_ArrayForEach(item, curve) {
        if (out->n_read_curve == READ_CURVE_MAX || !cJSON_IsNumber(item) || !is_rate(item->valuedouble))
            return err_set(err, ERR_FORMAT, "%s: read_curve is no list of rates", path);
        out->read_curve[out->n_read_curve++] = item->valuedouble;
    }
    return 0;
}

static int read_fields(struct backend_peaks *out, const cJSON *root, const char *path, const char *device,
                       struct err *err) {
    int64_t schema = 0;
    const char *name = NULL;
    int rc = json_get_int(root, "schema", SCHEMA, SCHEMA, &schema, err);
    if (!rc) rc = json_get_string(root, "device", &name, err);
    if (rc || schema != SCHEMA || !name) return err_set(err, ERR_FORMAT, "%s: no file of measured peaks", path);
    if (strcmp(name, device) != 0) return err_set(err, ERR_NOT_FOUND, "%s: peaks of another device", path);
    for (int i = 0; i < RATES; i++) {
        double *rate = rate_at(out, i);
        *rate = -1;
        if (json_get_double(root, rate_fields[i].name, rate, err) || !is_rate(*rate))
            return err_set(err, ERR_FORMAT, "%s: no %s", path, rate_fields[i].name);
    }
    return read_curve(out, root, path, err);
}

static void take_larger(double *value, double also) {
    if (also > *value) *value = also;
}

void peaks_merge(struct backend_peaks *peaks, const struct backend_peaks *also) {
    take_larger(&peaks->read_bytes_per_s, also->read_bytes_per_s);
    take_larger(&peaks->f32_flops_per_s, also->f32_flops_per_s);
    take_larger(&peaks->bf16_flops_per_s, also->bf16_flops_per_s);
    take_larger(&peaks->int8_ops_per_s, also->int8_ops_per_s);
    for (int32_t i = 0; i < also->n_read_curve; i++) {
        if (i >= peaks->n_read_curve) peaks->read_curve[i] = 0;
        take_larger(&peaks->read_curve[i], also->read_curve[i]);
    }
    if (also->n_read_curve > peaks->n_read_curve) peaks->n_read_curve = also->n_read_curve;
}

int peaks_load(struct backend_peaks *out, const char *path, const char *device, struct err *err) {
    enum { TEXT_BYTES = 16384 };
    char text[TEXT_BYTES];
    memset(out, 0, sizeof *out);
    FILE *file = fopen(path, "re");
    if (!file) return err_set(err, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    cJSON *root = NULL;
    if (n == sizeof text || json_parse(&root, text, n, &JSON_LIMITS_CLIENT, err))
        return err_set(err, ERR_FORMAT, "%s: no file of measured peaks", path);
    const int rc = cJSON_IsObject(root) ? read_fields(out, root, path, device, err)
                                        : err_set(err, ERR_FORMAT, "%s: no file of measured peaks", path);
    cJSON_Delete(root);
    return rc;
}

static void write_json(const struct backend_peaks *peaks, const char *device, struct str *out) {
    struct backend_peaks rates = *peaks;
    json_write_begin(out, NULL, '{');
    json_write_int(out, "schema", SCHEMA);
    json_write_text(out, "device", device);
    for (int i = 0; i < RATES; i++) json_write_number(out, rate_fields[i].name, *rate_at(&rates, i));
    json_write_begin(out, "read_curve", '[');
    for (int i = 0; i < peaks->n_read_curve; i++) json_write_number(out, NULL, peaks->read_curve[i]);
    json_write_end(out, ']');
    json_write_end(out, '}');
    json_write_close(out);
    str_append_char(out, '\n');
}

static void make_folders(const char *path) {
    char *folder = mem_copy_string(path, strlen(path));
    for (char *slash = folder + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(folder, 0755); // what cannot be made shows when the file is opened
    }
    free(folder);
}

int peaks_store(const struct backend_peaks *peaks, const char *path, const char *device, struct err *err) {
    struct str text = STR_INIT, partial = STR_INIT;
    write_json(peaks, device, &text);
    str_printf(&partial, "%s.partial-%d", path, (int)getpid());
    make_folders(path);
    unlink(str_text(&partial)); // of a process of the same number that was killed
    FILE *file = fopen(str_text(&partial), "wxe");
    bool done = file && fwrite(text.data, 1, text.n_bytes, file) == text.n_bytes;
    if (file && fclose(file) != 0) done = false;
    if (done && rename(str_text(&partial), path) != 0) done = false;
    const int rc = done ? 0 : err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (!done && file) unlink(str_text(&partial));
    str_close(&text);
    str_close(&partial);
    return rc;
}

bool peaks_default_path(struct str *out, const char *device) {
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    for (const char *at = device; *at; at++) hash = (hash ^ (unsigned char)*at) * 0x100000001b3;
    struct passwd entry, *found = NULL;
    char text[4096];
    if (getpwuid_r(getuid(), &entry, text, sizeof text, &found) != 0 || !found || !*entry.pw_dir) return false;
    str_printf(out, "%s/.cache/optima/peaks-%016llx.json", entry.pw_dir, (unsigned long long)hash);
    return true;
}

// ------------------------------------------------------------------------------------------------------ data sheets

// Dense rates, without sparsity, of variants whose numbers are not in dispute; the name is the driver's.
static const struct sheet {
    const char *name;
    double bf16_flops_per_s, read_bytes_per_s;
} sheets[] = {
    {"NVIDIA A100-SXM4-80GB", 312e12, 2.039e12},
    {"NVIDIA A100 80GB PCIe", 312e12, 1.935e12},
    {"NVIDIA H100 80GB HBM3", 989e12, 3.35e12},
    {"NVIDIA H100 PCIe", 756.5e12, 2.0e12},
    {"NVIDIA H200", 989e12, 4.8e12},
    {"NVIDIA B200", 2250e12, 8.0e12},
    {"NVIDIA GB200", 2500e12, 8.0e12},
    {"NVIDIA L4", 121e12, 0.300e12},
    {"NVIDIA L40S", 362e12, 0.864e12},
    {"NVIDIA GeForce RTX 4090", 165.2e12, 1.008e12},
    {"NVIDIA RTX PRO 6000 Blackwell Server Edition", 467.8e12, 1.792e12},
};

static const struct sheet *find_sheet(const char *device) {
    for (size_t i = 0; i < sizeof sheets / sizeof *sheets; i++) {
        const size_t n = strlen(sheets[i].name);
        if (strncmp(device, sheets[i].name, n) == 0 && (device[n] == ',' || device[n] == 0)) return &sheets[i];
    }
    return NULL;
}

// -------------------------------------------------------------------------------------------------------- figures

enum unit { UNIT_F32, UNIT_BF16, UNIT_INT8 };

// What multiplies: on a CPU integers by integers where both the weights and the processor have them; weights of GPUs
// become BF16 first.
static enum unit unit_of(const struct backend_peaks *rates, const char *weights, bool is_gpu) {
    if (strcmp(weights, "f32") == 0) return UNIT_F32;
    const bool is_integer = strncmp(weights, "int", 3) == 0;
    if (is_integer && !is_gpu && rates->int8_ops_per_s > 0) return UNIT_INT8;
    return rates->bf16_flops_per_s > 0 ? UNIT_BF16 : UNIT_F32;
}

void peaks_figures(struct peak_figures *out, const struct backend_peaks *peaks, const char *device, const char *weights,
                   bool is_gpu) {
    static const char *const names[] = {[UNIT_F32] = "f32", [UNIT_BF16] = "bf16", [UNIT_INT8] = "int8"};
    const struct sheet *sheet = is_gpu ? find_sheet(device) : NULL;
    *out = (struct peak_figures){.read = figure_unknown(),
                                 .read_datasheet = figure_unknown(),
                                 .compute = figure_unknown(),
                                 .compute_datasheet = figure_unknown()};
    enum unit unit = sheet && strcmp(weights, "f32") != 0 ? UNIT_BF16 : UNIT_F32;
    if (peaks) {
        const double rates[] = {peaks->f32_flops_per_s, peaks->bf16_flops_per_s, peaks->int8_ops_per_s};
        unit = unit_of(peaks, weights, is_gpu);
        out->read = figure_of(peaks->read_bytes_per_s > 0 ? peaks->read_bytes_per_s : NAN, FIGURE_MEASURED);
        out->compute = figure_of(rates[unit] > 0 ? rates[unit] : NAN, FIGURE_MEASURED);
    }
    out->compute_unit = names[unit];
    if (!sheet) return;
    out->read_datasheet = figure_of(sheet->read_bytes_per_s, FIGURE_DATASHEET);
    if (unit == UNIT_BF16) out->compute_datasheet = figure_of(sheet->bf16_flops_per_s, FIGURE_DATASHEET);
}
