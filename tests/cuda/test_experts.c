// Experts on the device: hits as kernels/route.c finds them, slots and tiles that hold every hit once, products and
// sums against double precision, and bits that depend on a row alone.
#include "tests/test.h"

#include "kernels/cuda/experts_parts.h"
#include "kernels/cuda/product_parts.h"
#include "kernels/route.h"
#include "tests/cuda/product_case.h"
#include "tests/cuda/thread_order.h"

enum { STACK_MAX = 12 };

enum spread { SPREAD_EVEN, SPREAD_ONE, SPREAD_TIES, SPREAD_NAN }; // how rows choose

// Rows of a step with their hits, on the device and on the host.
struct routed {
    struct device_buffers buffers;
    struct experts_route op;
    int32_t n_rows, n_slots; // real
    int32_t n_tiles, n_tiles_max;
    int32_t *expert, *slot, *row, *expert_of_slot;
    float *weight, *logits;
    struct expert_tile *tiles;
};

static float logit_of(enum spread spread, int32_t row, int32_t expert, uint64_t key) {
    float x = random_normal(key, (uint64_t)(row * 1031 + expert));
    if (spread == SPREAD_TIES) return (float)(rng_u32(rng_key(key, 3, 0), (uint64_t)(row * 1031 + expert)) % 3);
    if (spread == SPREAD_NAN && (row + expert) % 5 == 0) return NAN;
    if (spread == SPREAD_ONE) x += expert == 3 ? 40.0f : 0.0f;
    return roundf(x * 64) / 64; // no two differ by less than their probabilities' last bits
}

static void download_routed(struct routed *r) {
    const size_t n = (size_t)r->op.n_rows * (size_t)r->op.n_hit;
    int32_t *n_tiles = device_download(r->op.slots.n_tiles, sizeof *n_tiles);
    r->n_tiles = *n_tiles;
    free(n_tiles);
    r->expert = device_download(r->op.slots.expert, n * sizeof(int32_t));
    r->slot = device_download(r->op.slots.slot, n * sizeof(int32_t));
    r->row = device_download(r->op.slots.row, n * sizeof(int32_t));
    r->weight = device_download(r->op.slots.weight, n * sizeof(float));
    r->tiles = device_download(r->op.slots.tiles, n * sizeof *r->tiles);
}

// A step of n_rows rows in a bucket of `bucket` rows.
static void routed_make(struct routed *r, int32_t n_rows, int32_t bucket, int32_t n_experts, int32_t n_hit,
                        bool renormalised, int32_t tile_slots, enum spread spread, uint64_t key) {
    *r = (struct routed){.n_rows = n_rows, .n_slots = n_rows * n_hit};
    const struct device_step step = {.n_rows = n_rows};
    const size_t n_logits = (size_t)bucket * (size_t)n_experts, n = (size_t)bucket * (size_t)n_hit;
    r->logits = malloc(n_logits * sizeof *r->logits);
    for (int32_t i = 0; i < bucket * n_experts; i++) r->logits[i] = logit_of(spread, i / n_experts, i % n_experts, key);
    r->n_tiles_max = experts_tiles_max(bucket, n_hit, n_experts, tile_slots);
    struct device_buffers *b = &r->buffers;
    r->op = (struct experts_route){.step = device_upload(b, &step, sizeof step),
                                   .n_rows = bucket,
                                   .n_experts = n_experts,
                                   .n_hit = n_hit,
                                   .tile_slots = tile_slots,
                                   .renormalised = renormalised,
                                   .logits = device_upload(b, r->logits, n_logits * sizeof(float)),
                                   .slots = {.expert = device_poisoned(b, n * 4),
                                             .weight = device_poisoned(b, n * 4),
                                             .slot = device_poisoned(b, n * 4),
                                             .row = device_poisoned(b, n * 4),
                                             .tiles = device_poisoned(b, n * sizeof(struct expert_tile)),
                                             .n_tiles = device_poisoned(b, 4)}};
    assert_int_equal(experts_route(&r->op, NULL), cudaSuccess);
    download_routed(r);
    r->expert_of_slot = malloc(n * sizeof *r->expert_of_slot);
    memset(r->expert_of_slot, 0xff, n * sizeof *r->expert_of_slot);
    for (int32_t i = 0; i < r->n_slots; i++) r->expert_of_slot[r->slot[i]] = r->expert[i];
}

static void routed_free(struct routed *r) {
    free(r->expert), free(r->slot), free(r->row), free(r->weight), free(r->tiles), free(r->expert_of_slot);
    free(r->logits);
    device_buffers_free(&r->buffers);
}

// ------------------------------------------------------------------------------------------------------------- hits

static void check_hits(const struct routed *r) {
    const size_t n_hit = (size_t)r->op.n_hit, n_experts = (size_t)r->op.n_experts;
    int32_t *expert = malloc(n_hit * sizeof *expert);
    float *weight = malloc(n_hit * sizeof *weight);
    for (size_t row = 0; row < (size_t)r->n_rows; row++) {
        route_row(expert, weight, r->logits + row * n_experts, r->op.n_experts, r->op.n_hit, r->op.renormalised);
        assert_memory_equal(r->expert + row * n_hit, expert, n_hit * sizeof *expert);
        for (size_t i = 0; i < n_hit; i++) {
            float got = r->weight[row * n_hit + i];
            assert_true(isnan(weight[i]) ? isnan(got) : fabsf(got - weight[i]) <= 2e-6f * weight[i]);
        }
    }
    const size_t real = (size_t)r->n_rows * n_hit, all = (size_t)r->op.n_rows * n_hit;
    for (size_t i = real; i < all; i++) assert_true(r->expert[i] == -1 && r->slot[i] == -1 && r->row[i] == -1);
    free(expert), free(weight);
}

// Every hit has one slot of its own; tiles in order cover the slots, each those of one expert.
static void check_slots(const struct routed *r) {
    for (int32_t i = 0; i < r->n_slots; i++) {
        assert_in_range(r->slot[i], 0, r->n_slots - 1);
        assert_int_equal(r->row[r->slot[i]], i / r->op.n_hit);
        assert_int_equal(r->expert_of_slot[r->slot[i]], r->expert[i]); // fails where two hits share a slot
    }
    assert_in_range(r->n_tiles, 1, r->n_tiles_max);
    int32_t next = 0, expert = -1;
    for (int32_t t = 0; t < r->n_tiles; t++) {
        const struct expert_tile *tile = &r->tiles[t];
        assert_int_equal(tile->first, next);
        assert_true(tile->end > tile->first && tile->end - tile->first <= r->op.tile_slots);
        assert_true(tile->expert > expert ||
                    (tile->expert == expert && (next - r->tiles[t - 1].first) == r->op.tile_slots));
        for (int32_t slot = tile->first; slot < tile->end; slot++)
            assert_int_equal(r->expert_of_slot[slot], tile->expert);
        next = tile->end, expert = tile->expert;
    }
    assert_int_equal(next, r->n_slots);
}

static void rows_hit_what_the_plain_rule_says(void **state) {
    (void)state;
    static const struct {
        int32_t n_rows, bucket, n_experts, n_hit;
        bool renormalised;
        int32_t tile_slots;
        enum spread spread;
    } cases[] = {
        {1, 1, 8, 2, true, 8, SPREAD_EVEN},      {5, 8, 9, 1, true, 8, SPREAD_EVEN},
        {32, 32, 128, 8, true, 8, SPREAD_EVEN},  {33, 48, 128, 8, false, 8, SPREAD_EVEN},
        {70, 96, 60, 4, false, 32, SPREAD_EVEN}, {20, 24, 129, 6, true, 8, SPREAD_EVEN},
        {7, 8, 1000, 10, true, 8, SPREAD_EVEN},  {40, 40, 6, 6, false, 32, SPREAD_EVEN},
        {90, 96, 16, 1, true, 32, SPREAD_ONE},   {9, 16, 16, 2, true, 8, SPREAD_ONE},
        {30, 32, 40, 5, true, 8, SPREAD_TIES},   {40, 48, 300, 7, false, 8, SPREAD_TIES},
        {12, 16, 40, 5, true, 8, SPREAD_NAN},    {3, 4, 1, 1, true, 8, SPREAD_EVEN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t order = 0; order < 2; order++) {
            struct routed r;
            order_threads(71 * order + i);
            routed_make(&r, cases[i].n_rows, cases[i].bucket, cases[i].n_experts, cases[i].n_hit, cases[i].renormalised,
                        cases[i].tile_slots, cases[i].spread, 10 + i);
            check_slots(&r);
            check_hits(&r);
            routed_free(&r);
        }
    }
}

// --------------------------------------------------------------------------------------------------------- products

struct expert_case {
    struct weight_kind in, out; // of gate and up, of down
    int32_t n_rows, n_experts, n_hit, hidden, width;
    enum spread spread;
};

// One kind of matrices of all experts.
struct stack {
    struct device_buffers buffers[STACK_MAX];
    struct random_weight weight[STACK_MAX][EXPERT_WEIGHTS];
    const struct device_weight *on_device;
    int n_weights;
    int32_t n_experts;
};

static void stack_make(struct stack *s, struct weight_kind kind, int32_t n_experts, int n_weights, int32_t n_out,
                       int32_t n_in, uint64_t key) {
    *s = (struct stack){.n_weights = n_weights, .n_experts = n_experts};
    struct device_weight table[STACK_MAX * EXPERT_WEIGHTS];
    for (int32_t e = 0; e < n_experts; e++)
        for (int w = 0; w < n_weights; w++) {
            uint64_t own = key + 40 * (uint64_t)e + 20 * (uint64_t)w;
            s->weight[e][w] = random_weight_make(&s->buffers[e], kind, n_out, n_in, own);
            s->weight[e][w].device.multiplier *= (float)(1 + e % 2); // of each expert its own
            for (size_t i = 0; kind.format == DEVICE_INT4 && e % 2 && i < (size_t)n_out * (size_t)n_in; i++)
                s->weight[e][w].value[i] *= 2;
            table[e * n_weights + w] = s->weight[e][w].device;
        }
    s->on_device = device_upload(&s->buffers[0], table, (size_t)(n_experts * n_weights) * sizeof *table);
}

static void stack_free(struct stack *s) {
    for (int32_t e = 0; e < s->n_experts; e++) {
        for (int w = 0; w < s->n_weights; w++) free(s->weight[e][w].value);
        device_buffers_free(&s->buffers[e]);
    }
}

static double *make_operand(struct device_buffers *buffers, const void **on_device, enum operand_format format,
                            size_t n, uint64_t key) {
    double *value = malloc(n * sizeof *value);
    void *x = malloc(n * 4);
    for (size_t i = 0; i < n; i++) value[i] = store_float(format, x, i, random_normal(key, i));
    *on_device = device_upload(buffers, x, n * operand_bytes(format));
    free(x);
    return value;
}

// Runs one product of all experts; out [slots, n_out] in F32, in order of (row, hit); the caller frees.
static float *run_experts(struct experts_product *op, const struct routed *r, int32_t n_out) {
    struct device_buffers mine = {0};
    const size_t n = (size_t)r->op.n_rows * (size_t)r->op.n_hit * (size_t)n_out, row = (size_t)n_out;
    op->product.out = device_poisoned(&mine, n * sizeof(float));
    op->product.out_stride = n_out;
    op->slots = r->op.slots;
    op->tile_slots = r->op.tile_slots;
    op->n_tiles_max = r->n_tiles_max;
    assert_int_equal(experts_product(op, NULL), cudaSuccess);
    float *by_slot = device_download(op->product.out, n * sizeof(float));
    float *out = malloc(n * sizeof *out);
    for (size_t i = 0; i < (size_t)r->n_slots; i++)
        memcpy(out + i * row, by_slot + (size_t)r->slot[i] * row, row * sizeof *out);
    for (size_t i = (size_t)r->n_slots * row; i < n; i++) assert_true(isnan(by_slot[i]));
    free(by_slot);
    device_buffers_free(&mine);
    return out;
}

static double dot_of(const struct random_weight *weight, int32_t output, const double *x) {
    const size_t n_in = (size_t)weight->device.n_in;
    double sum = 0;
    for (size_t k = 0; k < n_in; k++) sum += x[k] * weight->value[(size_t)output * n_in + k];
    return sum;
}

static double error_of(const struct experts_product *op, const struct stack *s, const struct routed *r, const double *x,
                       const float *out) {
    const struct device_weight *weight = op->product.weight[0];
    double error = 0, norm = 0;
    for (int32_t i = 0; i<r->n_slots; i += r->n_slots> 60 ? 3 : 1) {
        const double *from = x + (size_t)(op->gather ? i / r->op.n_hit : r->slot[i]) * (size_t)weight->n_in;
        const struct random_weight *of = s->weight[r->expert[i]];
        for (int32_t j = 0; j < weight->n_out; j++) {
            double want = dot_of(&of[0], j, from), got = (double)out[(size_t)i * (size_t)weight->n_out + (size_t)j];
            if (op->product.output == PRODUCT_GATE)
                want = activated(want, op->product.activation) * dot_of(&of[1], j, from);
            error += (got - want) * (got - want), norm += want * want;
        }
    }
    return sqrt(error / norm);
}

// Both products of a step's rows, against doubles; *gate is given to the caller.
static void check_products(const struct expert_case *c, const struct stack *in, const struct stack *out,
                           const struct routed *r, double tolerance, float **gate) {
    struct device_buffers buffers = {0};
    const void *x_in, *x_out;
    const size_t n_slots = (size_t)r->op.n_rows * (size_t)c->n_hit;
    double *rows =
        make_operand(&buffers, &x_in, operand_format_for(c->in.format), (size_t)r->op.n_rows * (size_t)c->hidden, 5);
    double *slots = make_operand(&buffers, &x_out, operand_format_for(c->out.format), n_slots * (size_t)c->width, 6);
    struct experts_product first = {.product = {.output = PRODUCT_GATE,
                                                .n_weights = 2,
                                                .weight = {&in->weight[0][0].device, &in->weight[0][1].device},
                                                .x = x_in,
                                                .n_rows = (int32_t)n_slots,
                                                .out_format = OPERAND_F32,
                                                .scale = 1},
                                    .weights = in->on_device,
                                    .gather = true};
    struct experts_product second = {.product = {.output = PRODUCT_STORE_F32,
                                                 .n_weights = 1,
                                                 .weight = {&out->weight[0][0].device},
                                                 .x = x_out,
                                                 .n_rows = (int32_t)n_slots,
                                                 .scale = 1},
                                     .weights = out->on_device};
    *gate = run_experts(&first, r, c->width);
    float *down = run_experts(&second, r, c->hidden);
    double errors[] = {error_of(&first, in, r, rows, *gate), error_of(&second, out, r, slots, down)};
    for (int i = 0; i < 2; i++)
        if (!(errors[i] <= tolerance))
            fail_msg("formats %d and %d, %d rows, tiles of %d, product %d: error %g", (int)c->in.format,
                     (int)c->out.format, c->n_rows, r->op.tile_slots, i, errors[i]);
    free(rows), free(slots), free(down);
    device_buffers_free(&buffers);
}

static void check_case(const struct expert_case *c, uint64_t key) {
    struct stack in, out;
    stack_make(&in, c->in, c->n_experts, 2, c->width, c->hidden, key);
    stack_make(&out, c->out, c->n_experts, 1, c->hidden, c->width, key + 7);
    const int32_t counts[] = {c->n_rows, c->n_rows, c->n_rows / 2};
    float *gate[3];
    for (int i = 0; i < 3; i++) {
        int32_t tile_slots = i == 0 || (c->in.group && c->in.group < 128) ? EXPERT_SLOTS_FEW : EXPERT_SLOTS_SOME;
        struct routed r;
        order_threads(key + (uint64_t)i);
        routed_make(&r, counts[i], c->n_rows + 3 * i, c->n_experts, c->n_hit, true, tile_slots, c->spread, 77);
        check_products(c, &in, &out, &r, 1e-5, &gate[i]);
        routed_free(&r);
    }
    const size_t row_bytes = (size_t)(c->n_hit * c->width) * sizeof(float); // bits depend on the row alone
    assert_memory_equal(gate[0], gate[1], (size_t)counts[1] * row_bytes);
    assert_memory_equal(gate[0], gate[2], (size_t)counts[2] * row_bytes);
    for (int i = 0; i < 3; i++) free(gate[i]);
    if (experts_many_fits(&in.weight[0][0].device) && experts_many_fits(&out.weight[0][0].device)) {
        struct routed r;
        routed_make(&r, c->n_rows, c->n_rows + 2, c->n_experts, c->n_hit, true, EXPERT_SLOTS_MANY, c->spread, 77);
        check_products(c, &in, &out, &r, 1e-5, &gate[0]);
        routed_free(&r);
        free(gate[0]);
    }
    stack_free(&in), stack_free(&out);
}

static void products_of_experts_are_exact_sums(void **state) {
    (void)state;
    static const struct expert_case cases[] = {
        {KIND_BF16, KIND_BF16, 2, 8, 2, 64, 40, SPREAD_EVEN},
        {KIND_BF16, KIND_BF16, 40, 5, 3, 72, 48, SPREAD_EVEN},
        {KIND_BF16, KIND_BF16, 36, 8, 1, 32, 24, SPREAD_ONE},
        {KIND_BF16, KIND_BF16, 9, 4, 4, 264, 16, SPREAD_EVEN},
        {KIND_F16, KIND_F16, 21, 6, 2, 48, 80, SPREAD_EVEN},
        {KIND_FP8, KIND_FP8, 2, 9, 4, 128, 48, SPREAD_EVEN},
        {KIND_FP8, KIND_FP8, 34, 4, 2, 80, 64, SPREAD_ONE},
        {KIND_FP8_128, KIND_FP8_128, 12, 3, 2, 128, 128, SPREAD_EVEN},
        {KIND_INT4(128, false), KIND_FP8, 3, 7, 2, 128, 48, SPREAD_EVEN},
        {KIND_INT4(128, false), KIND_INT4(128, false), 35, 3, 2, 128, 128, SPREAD_EVEN},
        {KIND_INT4(128, true), KIND_INT4(128, true), 4, 12, 1, 256, 128, SPREAD_EVEN},
        {KIND_INT4(32, true), KIND_INT4(64, true), 10, 3, 2, 128, 128, SPREAD_EVEN},
        {KIND_BF16, KIND_BF16, 150, 4, 2, 328, 136, SPREAD_EVEN}, // more chunks than are on their way at once
        {KIND_INT4(128, true), KIND_FP8_128, 65, 2, 1, 640, 256, SPREAD_EVEN},
        {KIND_F32, KIND_F32, 11, 5, 2, 31, 17, SPREAD_EVEN},
        {KIND_BF16, KIND_BF16, 35, 3, 2, 64, 50, SPREAD_ONE},
        {KIND_FP8, KIND_FP8, 10, 3, 3, 20, 33, SPREAD_EVEN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i], 1000 * (i + 1));
}

// -------------------------------------------------------------------------------------------------------------- sum

static void sums_are_in_order_of_experts(void **state) {
    (void)state;
    static const struct {
        int32_t n_rows, n_experts, n_hit, n;
        bool add;
    } cases[] = {{1, 8, 2, 64, true}, {9, 9, 9, 1029, true}, {5, 16, 8, 2052, false}, {3, 4, 1, 31, false}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct routed r;
        routed_make(&r, cases[c].n_rows, cases[c].n_rows + 2, cases[c].n_experts, cases[c].n_hit, true, 8, SPREAD_EVEN,
                    c);
        const size_t n = (size_t)cases[c].n, bucket = (size_t)r.op.n_rows, n_hit = (size_t)cases[c].n_hit;
        float *out = malloc(bucket * n_hit * n * sizeof *out), *before = malloc(bucket * n * sizeof *before);
        for (size_t i = 0; i < bucket * n_hit * n; i++) out[i] = random_normal(8, i);
        for (size_t i = 0; i < bucket * n; i++) before[i] = random_normal(9, i);
        struct experts_sum op = {.step = r.op.step,
                                 .n_rows = r.op.n_rows,
                                 .n = cases[c].n,
                                 .n_hit = cases[c].n_hit,
                                 .slots = r.op.slots,
                                 .out = device_upload(&r.buffers, out, bucket * n_hit * n * sizeof *out),
                                 .sum = device_upload(&r.buffers, before, bucket * n * sizeof *before),
                                 .add = cases[c].add};
        assert_int_equal(experts_sum(&op, NULL), cudaSuccess);
        float *sum = device_download(op.sum, bucket * n * sizeof *sum);
        for (size_t row = 0; row < bucket; row++)
            for (size_t i = 0; i < n; i++) {
                double want = 0;
                for (size_t h = row * n_hit; row < (size_t)r.n_rows && h < (row + 1) * n_hit; h++)
                    want += (double)r.weight[h] * (double)out[(size_t)r.slot[h] * n + i];
                if (cases[c].add || row >= (size_t)r.n_rows) want += (double)before[row * n + i];
                assert_true(fabs((double)sum[row * n + i] - want) <= 2e-6);
            }
        free(out), free(before), free(sum);
        routed_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_hit_what_the_plain_rule_says),
        cmocka_unit_test(products_of_experts_are_exact_sums),
        cmocka_unit_test(sums_are_in_order_of_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
