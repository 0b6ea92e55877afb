#include "models/quantization.h"

#include <string.h>

enum { GROUP_MAX = 1 << 20 };

// -1 and null stand for whole rows.
static int read_group(struct quantization *out, const cJSON *config, const char *key, struct err *err) {
    int64_t group = -1;
    int rc = json_get_int(config, key, -1, GROUP_MAX, &group, err);
    if (!rc && group != -1 && (group < 32 || group % 32))
        rc = err_set(err, ERR_UNSUPPORTED, "%s %d: groups of 32, 64, 128, ... inputs and whole rows are supported", key,
                     (int)group);
    out->group = group > 0 ? (int32_t)group : 0;
    return rc;
}

static int read_bits(struct quantization *out, const cJSON *config, const char *key, struct err *err) {
    int64_t bits = 0;
    int rc = json_get_int(config, key, 1, 32, &bits, err);
    if (!rc && bits != 4 && bits != 8)
        rc = err_set(err, ERR_UNSUPPORTED, "%s %d: weights of 4 and 8 bits are supported", key, (int)bits);
    out->bits = (int)bits;
    return rc;
}

// A string that must be one of a list, where it is written at all.
static int require(const cJSON *config, const char *key, const char *const *values, struct err *err) {
    const char *text = NULL;
    int rc = json_get_string(config, key, &text, err);
    if (rc || !text) return rc;
    for (; *values; values++)
        if (strcmp(text, *values) == 0) return 0;
    return err_set(err, ERR_UNSUPPORTED, "%s \"%.40s\" is not supported", key, text);
}

static int read_awq(struct quantization *out, const cJSON *config, struct err *err) {
    out->method = QUANTIZATION_AWQ;
    int rc = require(config, "version", (const char *const[]){"gemm", "GEMM", NULL}, err);
    const bool old = (cJSON_GetObjectItemCaseSensitive(config, "w_bit") != NULL);
    if (!rc) rc = read_bits(out, config, old ? "w_bit" : "bits", err);
    if (!rc && out->bits != 4) rc = err_set(err, ERR_UNSUPPORTED, "AWQ of %d bits is not supported (4 is)", out->bits);
    return rc ? rc : read_group(out, config, old ? "q_group_size" : "group_size", err);
}

static int read_gptq(struct quantization *out, const cJSON *config, struct err *err) {
    out->method = QUANTIZATION_GPTQ;
    const char *format = "gptq";
    int rc = require(config, "checkpoint_format", (const char *const[]){"gptq", "gptq_v2", NULL}, err);
    if (!rc) rc = json_get_string(config, "checkpoint_format", &format, err);
    if (!rc) rc = read_bits(out, config, "bits", err);
    if (!rc) rc = read_group(out, config, "group_size", err);
    out->zeros_are_one_less = strcmp(format, "gptq") == 0;
    const cJSON *overrides = cJSON_GetObjectItemCaseSensitive(config, "dynamic");
    out->differs = cJSON_IsObject(overrides) && overrides->child;
    return rc;
}

// [rows, columns] of the blocks that share a scale.
static int read_block(struct quantization *out, const cJSON *config, const char *key, struct err *err) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(config, key);
    if (!list || cJSON_IsNull(list)) return 0;
    const cJSON *rows = cJSON_GetArrayItem(list, 0), *cols = cJSON_GetArrayItem(list, 1);
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != 2 || !cJSON_IsNumber(rows) || !cJSON_IsNumber(cols))
        return err_set(err, ERR_INVALID, "%s is no list of two numbers", key);
    if (!(rows->valuedouble >= 1 && rows->valuedouble <= GROUP_MAX) || rows->valueint != rows->valuedouble ||
        !(cols->valuedouble >= 1 && cols->valuedouble <= GROUP_MAX) || cols->valueint != cols->valuedouble ||
        cols->valueint % 128)
        return err_set(err, ERR_UNSUPPORTED, "%s: blocks of a multiple of 128 inputs are supported", key);
    out->block_rows = rows->valueint;
    out->block_cols = cols->valueint;
    return 0;
}

static int read_fp8(struct quantization *out, const cJSON *config, struct err *err) {
    out->method = QUANTIZATION_BYTES;
    out->bits = 8;
    out->symmetric = true;
    int rc = require(config, "fmt", (const char *const[]){"e4m3", "float8_e4m3fn", NULL}, err);
    return rc ? rc : read_block(out, config, "weight_block_size", err);
}

// The weights of one group of modules.
static int read_scheme(struct quantization *out, const cJSON *weights, struct err *err) {
    const char *type = "int", *strategy = "channel";
    out->symmetric = true;
    int rc = read_bits(out, weights, "num_bits", err);
    if (!rc) rc = json_get_string(weights, "type", &type, err);
    if (!rc) rc = json_get_string(weights, "strategy", &strategy, err);
    if (!rc) rc = json_get_bool(weights, "symmetric", &out->symmetric, err);
    if (rc) return rc;
    const bool is_float = strcmp(type, "float") == 0;
    if (is_float && (out->method != QUANTIZATION_BYTES || out->bits != 8))
        return err_set(err, ERR_UNSUPPORTED, "floating-point weights of %d bits in this format are not supported",
                       out->bits);
    if (!is_float && strcmp(type, "int") != 0)
        return err_set(err, ERR_UNSUPPORTED, "weights of type \"%.40s\" are not supported", type);
    if (strcmp(strategy, "group") == 0) return read_group(out, weights, "group_size", err);
    if (strcmp(strategy, "block") == 0) return read_block(out, weights, "block_structure", err);
    if (strcmp(strategy, "channel") == 0 || strcmp(strategy, "tensor") == 0) return 0;
    return err_set(err, ERR_UNSUPPORTED, "strategy \"%.40s\" is not supported", strategy);
}

static int read_compressed(struct quantization *out, const cJSON *config, struct err *err) {
    const char *format = "";
    int rc = json_get_string(config, "format", &format, err);
    if (rc) return rc;
    static const char *const byte_formats[] = {"int-quantized", "float-quantized", "naive-quantized"};
    if (strcmp(format, "pack-quantized") == 0) out->method = QUANTIZATION_PACKED;
    for (size_t i = 0; i < sizeof byte_formats / sizeof *byte_formats; i++)
        if (strcmp(format, byte_formats[i]) == 0) out->method = QUANTIZATION_BYTES;
    if (!out->method)
        return err_set(err, ERR_UNSUPPORTED, "format \"%.40s\" is not supported (pack-, int- and float-quantized are)",
                       format);
    const cJSON *groups = cJSON_GetObjectItemCaseSensitive(config, "config_groups");
    if (!cJSON_IsObject(groups) || cJSON_GetArraySize(groups) != 1)
        return err_set(err, ERR_UNSUPPORTED, "config_groups has %d groups; one is supported",
                       cJSON_GetArraySize(groups));
    const cJSON *weights = cJSON_GetObjectItemCaseSensitive(groups->child, "weights");
    if (!cJSON_IsObject(weights)) return err_set(err, ERR_INVALID, "config_groups does not say how weights are stored");
    rc = read_scheme(out, weights, err);
    if (!rc && out->method == QUANTIZATION_BYTES && out->bits != 8)
        rc = err_set(err, ERR_UNSUPPORTED, "num_bits %d in format \"%.40s\" is not supported", out->bits, format);
    return rc;
}

int quantization_read(struct quantization *out, const cJSON *config, struct err *err) {
    *out = (struct quantization){0};
    if (!cJSON_IsObject(config)) return err_set(err, ERR_INVALID, "not an object");
    const char *method =
        (cJSON_GetObjectItemCaseSensitive(config, "w_bit") != NULL) ? "awq" : "gptq"; // old files do not say
    int rc = json_get_string(config, "quant_method", &method, err);
    if (rc) return rc;
    if (strcmp(method, "awq") == 0) return read_awq(out, config, err);
    if (strcmp(method, "gptq") == 0) return read_gptq(out, config, err);
    if (strcmp(method, "fp8") == 0) return read_fp8(out, config, err);
    if (strcmp(method, "compressed-tensors") == 0) return read_compressed(out, config, err);
    return err_set(err, ERR_UNSUPPORTED,
                   "quant_method \"%.40s\" is not supported (awq, gptq, fp8 and compressed-tensors are)", method);
}
