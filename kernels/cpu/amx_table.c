#include "kernels/cpu/amx.h"

// What AMX does not change.
#define amx_weight_pack avx512_weight_pack
#define amx_weight_fill avx512_weight_fill
#define amx_norm_rms avx512_norm_rms
#define amx_embed_row avx512_embed_row
#define amx_add_scaled avx512_add_scaled
#define amx_gate_mul avx512_gate_mul
#define amx_scale_cap avx512_scale_cap
#define amx_rope_head avx512_rope_head
#define amx_attention_merge avx512_attention_merge
#define amx_attention_finish avx512_attention_finish
#define amx_sample avx512_sample
#define amx_peak_read avx512_peak_read
#define amx_peak_f32 avx512_peak_f32

const struct kernel_table amx_kernels = {.name = "amx",
                                         .description = "avx512 (vnni), amx (bf16, int8)",
#define X(type, name, arguments) .name = amx_##name,
                                         KERNELS(X)
#undef X
};
