#include "kernels/sample_edit.h"

#include <string.h>

static float penalise(float logit, const struct sample_params *params, int32_t n_generated) {
    float penalty = params->repetition_penalty;
    if (penalty != 1) logit = logit > 0 ? logit / penalty : logit * penalty;
    if (n_generated > 0) logit -= params->presence_penalty + params->frequency_penalty * (float)n_generated;
    return logit;
}

const float *sample_edit(const float *logits, int32_t vocab, const struct sample_params *params,
                         const struct step_input *input, float *copy) {
    if (params->edit_count == 0 && params->seen_count == 0) return logits;
    memcpy(copy, logits, (size_t)vocab * sizeof *copy);
    for (int32_t i = 0; i < params->edit_count; i++) {
        const struct logit_edit *edit = &input->edits[params->edit_first + i];
        if (edit->token >= 0 && edit->token < vocab) copy[edit->token] += edit->add;
    }
    for (int32_t i = 0; i < params->seen_count; i++) {
        const struct seen_token *seen = &input->seen[params->seen_first + i];
        if (seen->token >= 0 && seen->token < vocab)
            copy[seen->token] = penalise(copy[seen->token], params, seen->n_generated);
    }
    return copy;
}
