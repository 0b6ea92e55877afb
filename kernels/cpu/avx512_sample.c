#include "kernels/kernel_table.h"

void avx512_sample(struct sample_result *result, const float *logits, int32_t vocab, const struct sample_params *params,
                const struct step_input *input, struct sample_scratch *scratch) {
    ref_sample(result, logits, vocab, params, input, scratch);
}
