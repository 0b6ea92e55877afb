// All matrices of a model quantised in memory, layer after layer, each by what it sees on a text.
#pragma once

#include "base/err.h"
#include "models/bpe.h"
#include "models/model.h"
#include "models/quantized_entries.h"
#include "models/quantizer.h"

struct quantizing_options {
    enum quantizer_method method;
    enum tensor_format format;
    int32_t group;                                   // 0: all inputs of an output
    const token_vec *calibrate_tokens, *eval_tokens; // the first of QUANTIZER_MEASURED alone
    int32_t window;
    bool scales_f16; // else as the weights are: F16 or BF16
};

struct quantizing_error {
    const char *name;
    double error; // of the outputs on the text for the report, relative
};

struct quantizing {
    struct quantized_entry *entries; // [n_entries]
    struct quantizing_error *errors; // [n_entries] largest first; of matrices that are seen
    size_t n_entries, n_left;        // n_left: matrices that cannot be cut into groups
};

// The model's own engine must not run meanwhile.
int quantizing_run(struct quantizing *out, struct model *model, const struct quantizing_options *options,
                   struct err *err) __attribute__((warn_unused_result));
void quantizing_close(struct quantizing *quantizing);
