// Weights on the CPU: used where the model mapped them, or, drawn, rounded to BF16, quantised or packed, in memory of
// the backend.
#include "base/mem.h"
#include "base/number.h"
#include "kernels/cpu/cpu.h"
#include "kernels/packed.h"
#include "kernels/random_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_VALUES = 1 << 16 };
static const size_t REGION_BYTES = (size_t)64 << 20, HUGE_PAGE_BYTES = (size_t)2 << 20, PLACE_BYTES = 64;

static const float F16_LARGEST = 65504, F16_SMALLEST_NORMAL = 0x1p-14f;

struct cpu_weights {
    struct cpu_weights *next;
    struct tensor tensor;
};

// Copies lie one behind the other, so that large pages hold small matrices too.
struct cpu_region {
    struct cpu_region *next;
    char *memory;
    size_t n_bytes, used;
};

// A copy in the making: `from` in another format or layout, or random.
struct making {
    const struct kernel_table *kernels;
    const struct random_quantiles *quantiles;
    struct tensor from;
    enum tensor_format format;
    char *to;
    _Atomic int32_t bad_row;     // one whose scales or values are not all finite; -1: there is none
    _Atomic bool beyond_f16;     // some scale or offset is
    _Atomic uint32_t scale_bits; // of the largest scale
};

// Rows of a matrix on their way, of one worker.
struct passage {
    struct tensor_row rows[PACKED_OUTPUTS]; // decoded
    float *values;                          // [PACKED_OUTPUTS, n_cols]
    char *drawn;                            // [n_cols] random values of 4 bytes
};

static void passage_open(struct passage *passage, const struct making *making) {
    const size_t n = (size_t)making->from.n_cols, n_groups = (size_t)tensor_groups(making->from.n_cols);
    passage->values = mem_alloc_zero(PACKED_OUTPUTS * n, sizeof *passage->values);
    passage->drawn = mem_alloc((n + 1) * sizeof(float));
    for (int i = 0; i < PACKED_OUTPUTS; i++)
        passage->rows[i] =
            (struct tensor_row){mem_alloc_zero(n_groups, TENSOR_GROUP), mem_alloc_zero(n_groups, sizeof(float)),
                                mem_alloc_zero(n_groups, sizeof(float))};
}

static void passage_close(struct passage *passage) {
    free(passage->values), free(passage->drawn);
    for (int i = 0; i < PACKED_OUTPUTS; i++)
        free(passage->rows[i].codes), free(passage->rows[i].scales), free(passage->rows[i].offsets);
}

// Notes what is wrong with the scales of a row.
static void check_row(struct making *making, const struct tensor_row *row, int32_t index) {
    const bool has_offsets = tensor_format_has_offsets(making->from.format);
    float scale = 0, offset = 0;
    bool finite = true;
    for (int32_t g = 0; g < tensor_groups(making->from.n_cols); g++) {
        const float a = fabsf(row->scales[g]), b = has_offsets ? fabsf(row->offsets[g]) : 0;
        finite = finite && a < INFINITY && b < INFINITY;
        scale = a > scale ? a : scale;
        offset = b > offset ? b : offset;
    }
    for (int32_t k = 0; k < making->from.n_cols && making->from.format == TENSOR_FP8; k++)
        finite = finite && (row->codes[k] & 0x7f) != 0x7f;
    if (!finite) making->bad_row = index;
    if (scale > F16_LARGEST || offset > F16_LARGEST) making->beyond_f16 = true;
    uint32_t bits = f32_bits(scale), most = making->scale_bits;
    while (bits > most && !atomic_compare_exchange_weak(&making->scale_bits, &most, bits)) continue;
}

// Up to sixteen rows as the model has them become codes, rows[]; beyond the last row, codes that mean 0.
static void pass_codes(struct passage *passage, struct making *making, int32_t first) {
    const int32_t left = making->from.n_rows - first, n = left < PACKED_OUTPUTS ? left : PACKED_OUTPUTS;
    const size_t scale_bytes = (size_t)tensor_groups(making->from.n_cols) * sizeof(float);
    tensor_rows_decode(&making->from, first, n, passage->rows);
    for (int32_t i = 0; i < n; i++) check_row(making, &passage->rows[i], first + i);
    for (int32_t i = n; i < PACKED_OUTPUTS; i++) {
        memset(passage->rows[i].scales, 0, scale_bytes);
        memset(passage->rows[i].offsets, 0, scale_bytes);
    }
}

// One row that is not quantised becomes numbers.
static void read_row(struct passage *passage, const struct making *making, int32_t row, float *out) {
    const struct tensor *from = &making->from;
    const size_t n = (size_t)from->n_cols, first = (size_t)row * n;
    if (!from->random_key) {
        tensor_values(from, row, out);
        return;
    }
    random_weights_draw(making->quantiles, from->random_key, from->format, first, n, passage->drawn);
    const struct tensor drawn_row = {
        .format = from->format, .n_rows = 1, .n_cols = from->n_cols, .data = passage->drawn};
    tensor_values(&drawn_row, 0, out);
}

// Up to sixteen rows as the model has them become numbers, values[]; beyond the last row, zeros.
static void pass_values(struct passage *passage, struct making *making, int32_t first) {
    const struct tensor *from = &making->from;
    if (from->rows) pass_codes(passage, making, first);
    for (int32_t i = 0; i < PACKED_OUTPUTS; i++) {
        float *out = passage->values + (size_t)i * (size_t)from->n_cols;
        if (first + i >= from->n_rows)
            memset(out, 0, (size_t)from->n_cols * sizeof *out);
        else if (from->rows)
            tensor_row_values(&passage->rows[i], from->format, from->n_cols, out);
        else
            read_row(passage, making, first + i, out);
    }
}

static void round_row(const float *values, size_t n, char *to) {
    for (size_t k = 0; k < n; k++) {
        uint16_t half = bf16_from_f32(values[k]);
        memcpy(to + 2 * k, &half, sizeof half);
    }
}

static void make_rounded(void *argument, int worker, int n_workers) {
    struct making *making = argument;
    const size_t n = (size_t)making->from.n_cols;
    struct passage passage;
    passage_open(&passage, making);
    for (int32_t first = worker * PACKED_OUTPUTS; first < making->from.n_rows; first += n_workers * PACKED_OUTPUTS) {
        pass_values(&passage, making, first);
        for (int32_t i = 0; i < PACKED_OUTPUTS && first + i < making->from.n_rows; i++)
            round_row(passage.values + (size_t)i * n, n, making->to + (size_t)(first + i) * n * 2);
    }
    passage_close(&passage);
}

static void make_drawn(void *argument, int worker, int n_workers) {
    const struct making *making = argument;
    const struct tensor *from = &making->from;
    size_t n_values = (size_t)from->n_rows * (size_t)from->n_cols;
    for (size_t first = (size_t)worker * CHUNK_VALUES; first < n_values; first += (size_t)n_workers * CHUNK_VALUES) {
        size_t n = n_values - first < CHUNK_VALUES ? n_values - first : CHUNK_VALUES;
        char *to = making->to + first * tensor_format_bytes(making->format);
        random_weights_draw(making->quantiles, from->random_key, making->format, first, n, to);
    }
}

// Blocks of kernels/packed.h: quantised, or, in the format that the model has, only packed.
static void make_blocks(void *argument, int worker, int n_workers) {
    struct making *making = argument;
    const struct tensor *from = &making->from;
    const size_t block_bytes = packed_block_bytes(making->format, from->n_cols);
    const bool has_format = from->rows && from->format == making->format;
    struct passage passage;
    passage_open(&passage, making);
    for (int32_t first = worker * PACKED_OUTPUTS; first < from->n_rows; first += n_workers * PACKED_OUTPUTS) {
        char *block = making->to + (size_t)(first / PACKED_OUTPUTS) * block_bytes;
        if (has_format) {
            pass_codes(&passage, making, first);
            making->kernels->weight_fill(block, passage.rows, making->format, from->n_cols);
        } else {
            pass_values(&passage, making, first);
            making->kernels->weight_pack(block, passage.values, making->format, from->n_cols);
        }
    }
    passage_close(&passage);
}

// Memory of zeros; NULL: there is none.
static char *take_memory(struct cpu_backend *backend, size_t n_bytes) {
    struct cpu_region *region = backend->regions;
    n_bytes = (n_bytes + PLACE_BYTES - 1) / PLACE_BYTES * PLACE_BYTES;
    if (!region || region->n_bytes - region->used < n_bytes) {
        size_t whole =
            n_bytes > REGION_BYTES ? (n_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES : REGION_BYTES;
        void *memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return NULL;
        madvise(memory, whole, MADV_HUGEPAGE);
        region = mem_alloc(sizeof *region);
        *region = (struct cpu_region){.next = backend->regions, .memory = memory, .n_bytes = whole};
        backend->regions = region;
    }
    region->used += n_bytes;
    return region->memory + region->used - n_bytes;
}

static void open_quantiles(struct cpu_backend *backend) {
    if (backend->quantiles) return;
    backend->quantiles = mem_alloc(sizeof *backend->quantiles);
    random_quantiles_make(backend->quantiles);
}

// Whether F16 does not hold the scales of an integer matrix: it has too few small numbers when all are small.
static bool is_beyond_f16(const struct making *making) {
    if (!making->from.rows || making->from.format != making->format || making->format == TENSOR_FP8) return false;
    return making->beyond_f16 || (making->scale_bits && f32_from_bits(making->scale_bits) < F16_SMALLEST_NORMAL);
}

static int make_copy(struct cpu_backend *backend, struct cpu_weights *weight, enum tensor_format format,
                     struct err *err) {
    struct making making = {.kernels = backend->kernels, .from = weight->tensor, .format = format, .bad_row = -1};
    const struct tensor *from = &making.from;
    const bool packed = tensor_format_is_quantised(format), drawn = from->random_key && !packed;
    struct tensor made = {.format = format, .n_rows = from->n_rows, .n_cols = from->n_cols};
    size_t n_bytes = packed ? packed_bytes(&made) : tensor_bytes(&made);
    char *copy = take_memory(backend, n_bytes);
    if (!copy) return err_set(err, ERR_LIMIT, "no memory for %zu MB of weights", n_bytes >> 20);
    if (from->random_key) open_quantiles(backend);
    making.quantiles = backend->quantiles;
    made.data = making.to = copy;
    pool_run(backend->pool, pool_size(backend->pool),
             packed  ? make_blocks
             : drawn ? make_drawn
                     : make_rounded,
             &making);
    if (making.bad_row >= 0 || is_beyond_f16(&making)) {
        backend->regions->used = (size_t)(copy - backend->regions->memory); // the copy was the last
        if (making.bad_row < 0) return make_copy(backend, weight, TENSOR_BF16, err);
        return err_set(err, ERR_FORMAT, "tensor \"%s\": row %d has a scale or value that is NaN or infinite",
                       from->rows->name, from->row_first + making.bad_row);
    }
    weight->tensor = made;
    backend->weights_bytes += n_bytes;
    return 0;
}

// In which format a matrix is kept. Numbers of as many bits as wished stay what they are.
static enum tensor_format choose_format(const struct tensor *tensor, enum weight_format wish) {
    const bool is_integer = tensor_format_is_integer(tensor->format), is_int4 = tensor_format_is_int4(tensor->format);
    switch (wish) {
    case WEIGHT_AS_IS:
        break;
    case WEIGHT_BF16:
        return TENSOR_BF16;
    case WEIGHT_FP8:
        return TENSOR_FP8;
    case WEIGHT_INT8:
        return is_integer && !is_int4 ? tensor->format : TENSOR_INT8;
    case WEIGHT_INT4:
        return is_int4 ? tensor->format : TENSOR_INT4;
    }
    return tensor->format;
}

uint64_t cpu_weight_bytes(const struct tensor *tensor, enum weight_format wish) {
    struct tensor made = *tensor;
    made.format = choose_format(tensor, wish);
    return tensor_format_is_quantised(made.format) ? packed_bytes(&made) : tensor_bytes(&made);
}

int cpu_weight_load(struct backend *common, struct tensor *tensor, enum weight_format wish, struct err *err) {
    struct cpu_backend *backend = (struct cpu_backend *)common;
    const enum tensor_format format = choose_format(tensor, wish);
    struct cpu_weights *weight = mem_alloc_zero(1, sizeof *weight);
    weight->tensor = *tensor;
    if (tensor->random_key || tensor->rows || format != tensor->format) {
        int rc = make_copy(backend, weight, format, err);
        if (rc) {
            free(weight);
            return rc;
        }
        if (tensor->rows && tensor->rows->release)
            tensor->rows->release(tensor->rows, tensor->row_first, tensor->n_rows);
    } else {
        backend->mapped_bytes += tensor_bytes(tensor);
    }
    weight->next = backend->weights;
    backend->weights = weight;
    tensor->handle = weight->tensor.handle = &weight->tensor; // tensors of programs keep it: observers are told
    return 0;
}

void cpu_weights_close(struct cpu_backend *backend) {
    for (struct cpu_weights *weight = backend->weights, *next; weight; weight = next) {
        next = weight->next;
        free(weight);
    }
    for (struct cpu_region *region = backend->regions, *next; region; region = next) {
        next = region->next;
        munmap(region->memory, region->n_bytes);
        free(region);
    }
    free(backend->quantiles);
}
