#include "models/family.h"

#include <string.h>

static const struct model_family *const families[] = {
    &family_llama,  &family_mistral, &family_mixtral, &family_qwen2, &family_qwen3,   &family_qwen3_moe,
    &family_gemma2, &family_gemma3,  &family_olmo2,   &family_phi3,  &family_smollm3, &family_gpt_oss};
enum { N_FAMILIES = sizeof families / sizeof *families };

const struct model_family *family_find(const char *architecture, const char *model_type) {
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (const char *const *name = families[i]->architectures; architecture && *name; name++)
            if (strcmp(*name, architecture) == 0) return families[i];
        if (!architecture && model_type && strcmp(families[i]->model_type, model_type) == 0) return families[i];
    }
    return NULL;
}

const struct model_family *family_find_gguf(struct str_view architecture, bool has_experts) {
    const struct model_family *found = NULL;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const char *name = families[i]->gguf_architecture;
        if (!name || !str_view_equal(architecture, str_view_of(name))) continue;
        if (!found || (families[i]->experts != NULL) == has_experts) found = families[i];
    }
    return found;
}

void family_list(struct str *out) {
    for (size_t i = 0; i < N_FAMILIES; i++)
        for (const char *const *name = families[i]->architectures; *name; name++)
            str_printf(out, "%s%s", out->n_bytes ? ", " : "", *name);
}
