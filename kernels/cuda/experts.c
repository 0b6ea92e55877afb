// Which way the products of experts go.
#include "kernels/cuda/experts_parts.h"
#include "kernels/cuda/product_parts.h"

static bool has_fine_groups(const struct device_weight *weight) {
    return weight->format == DEVICE_INT4 && weight->group < 128;
}

// Experts that are hit by EXPERT_SLOTS_FEW / 2 rows on average seldom have more than EXPERT_SLOTS_FEW; those that have
// get a second tile, whose weights come from the L2. From half a large tile a row on average, large tiles are worth it.
int32_t experts_tile_slots(const struct device_weight *in, const struct device_weight *out, int32_t n_rows,
                           int32_t n_hit, int32_t n_experts, bool deterministic) {
    const bool few = n_rows <= EXPERT_SLOTS_FEW || n_rows * n_hit <= n_experts * EXPERT_SLOTS_FEW / 2;
    const bool many = n_rows * n_hit >= n_experts * EXPERT_SLOTS_MANY / 2;
    if (many && !deterministic && experts_many_fits(in) && experts_many_fits(out)) return EXPERT_SLOTS_MANY;
    return few || has_fine_groups(in) || has_fine_groups(out) ? EXPERT_SLOTS_FEW : EXPERT_SLOTS_SOME;
}

// As many experts as can be have one slot or more, and every further tile needs a whole one.
int32_t experts_tiles_max(int32_t n_rows, int32_t n_hit, int32_t n_experts, int32_t tile_slots) {
    int32_t n_slots = n_rows * n_hit, n = n_slots < n_experts ? n_slots : n_experts;
    return n + (n_slots - n) / tile_slots;
}

cudaError_t experts_product(const struct experts_product *op, cudaStream_t stream) {
    if (op->tile_slots == EXPERT_SLOTS_MANY) return experts_many(op, stream);
    return product_own_fits(op->product.weight[0]) ? experts_own(op, stream) : experts_plain(op, stream);
}
