#include "models/fill.h"

#include "base/memory_available.h"
#include "base/number.h"
#include "base/pool.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// A worker takes this many values at a time: a multiple of every block, and little enough to share work evenly.
enum { CHUNK_VALUES = 1 << 19 };

static const double standard_deviation = 0.02;

void fill_close(struct fill *fill) {
    for (size_t i = 0; i < fill->pieces.count; i++) munmap(fill->pieces.items[i].out, fill->pieces.items[i].n_bytes);
    vec_free(&fill->pieces);
    fill->n_bytes = 0;
}

static const void *add_piece(struct fill *fill, struct fill_piece piece, struct err *err) {
    if (!size_mul(piece.n_values, tensor_format_bytes(piece.format), &piece.n_bytes)) piece.n_bytes = SIZE_MAX / 2;
    void *pages = mmap(NULL, piece.n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        err_set(err, ERR_LIMIT, "no address space for %zu MB of weights", piece.n_bytes >> 20);
        return NULL;
    }
    madvise(pages, piece.n_bytes, MADV_HUGEPAGE);
    piece.out = pages;
    vec_push(&fill->pieces, piece);
    fill->n_bytes += piece.n_bytes;
    return pages;
}

const void *fill_dequant(struct fill *fill, enum stored_format format, const char *blocks, size_t n_values,
                         struct err *err) {
    return add_piece(
        fill, (struct fill_piece){.n_values = n_values, .format = TENSOR_F32, .from = format, .blocks = blocks}, err);
}

const void *fill_random(struct fill *fill, enum tensor_format format, uint64_t key, size_t n_values, struct err *err) {
    return add_piece(fill, (struct fill_piece){.n_values = n_values, .format = format, .key = key}, err);
}

// Normal numbers as quantiles, which a table holds in every format.
struct quantiles {
    float f32[RNG_QUANTILES];
    uint16_t bits16[2][RNG_QUANTILES]; // F16, BF16
};

static struct quantiles *make_quantiles(void) {
    struct quantiles *q = mem_alloc(sizeof *q);
    for (int i = 0; i < RNG_QUANTILES; i++) {
        q->f32[i] = (float)(standard_deviation * rng_normal_quantile((i + 0.5) / RNG_QUANTILES));
        q->bits16[0][i] = f16_from_f32(q->f32[i]);
        q->bits16[1][i] = bf16_from_f32(q->f32[i]);
    }
    return q;
}

// Values first .. first+n-1: quantiles by rng_quantile, of which one draw gives two. `first` is even.
static void draw(const struct quantiles *q, const struct fill_piece *piece, size_t first, size_t n) {
    const uint16_t *table16 = q->bits16[piece->format == TENSOR_BF16];
    for (size_t i = 0; i < n; i += 2) {
        uint32_t bits = rng_u32(piece->key, (first + i) / 2);
        uint32_t a = bits & (RNG_QUANTILES - 1), b = bits >> 16 & (RNG_QUANTILES - 1);
        bool pair = i + 1 < n;
        if (piece->format == TENSOR_F32) {
            float *out = (float *)(void *)piece->out + first + i;
            out[0] = q->f32[a];
            if (pair) out[1] = q->f32[b];
        } else {
            uint16_t *out = (uint16_t *)(void *)piece->out + first + i;
            out[0] = table16[a];
            if (pair) out[1] = table16[b];
        }
    }
}

void fill_random_vector(uint64_t key, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i++)
        out[i] = key ? (float)(standard_deviation *
                               rng_normal_quantile((double)rng_uniform(key, (uint64_t)i) * 0.999 + 0.0005))
                     : 1.0f;
}

struct chunk {
    const struct fill_piece *piece;
    size_t first, n;
};

struct run {
    VEC_OF(struct chunk) chunks;
    const struct quantiles *quantiles;
    _Atomic size_t next;
    _Atomic uint64_t bytes_done;
    uint64_t bytes_total;
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

static void fill_chunk(const struct run *run, const struct chunk *chunk) {
    const struct fill_piece *piece = chunk->piece;
    if (!piece->blocks) {
        draw(run->quantiles, piece, chunk->first, chunk->n);
        return;
    }
    const char *blocks = piece->blocks + chunk->first / DEQUANT_BLOCK * dequant_block_bytes(piece->from);
    dequant(piece->from, blocks, chunk->n, (float *)(void *)piece->out + chunk->first);
}

static void run_chunks(void *argument, int worker, int n_workers) {
    (void)n_workers;
    struct run *run = argument;
    for (size_t i; (i = atomic_fetch_add(&run->next, 1)) < run->chunks.count;) {
        const struct chunk *chunk = &run->chunks.items[i];
        fill_chunk(run, chunk);
        uint64_t bytes = chunk->n * tensor_format_bytes(chunk->piece->format);
        uint64_t done = atomic_fetch_add(&run->bytes_done, bytes) + bytes;
        if (worker == 0 && run->progress) run->progress(run->context, done, run->bytes_total);
    }
}

int fill_run(struct fill *fill, void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
             struct err *err) {
    uint64_t available = memory_available_bytes();
    if (available && fill->n_bytes > available)
        return err_set(err, ERR_LIMIT, "the weights need %.1f GB of memory, %.1f GB are available",
                       (double)fill->n_bytes / 1e9, (double)available / 1e9);
    struct run run = {.bytes_total = fill->n_bytes, .progress = progress, .context = context};
    bool random = false;
    for (size_t i = 0; i < fill->pieces.count; i++) {
        const struct fill_piece *piece = &fill->pieces.items[i];
        random |= !piece->blocks;
        for (size_t first = 0; first < piece->n_values; first += CHUNK_VALUES) {
            size_t left = piece->n_values - first;
            struct chunk chunk = {piece, first, left < CHUNK_VALUES ? left : CHUNK_VALUES};
            vec_push(&run.chunks, chunk);
        }
    }
    if (!run.chunks.count) return 0;
    struct quantiles *quantiles = random ? make_quantiles() : NULL;
    run.quantiles = quantiles;
    struct pool *pool = NULL;
    int rc = pool_open(&pool, pool_cores(), err);
    if (!rc) {
        pool_run(pool, pool_size(pool), run_chunks, &run);
        if (progress) progress(context, run.bytes_total, run.bytes_total);
        pool_close(pool);
    }
    free(quantiles);
    vec_free(&run.chunks);
    return rc;
}
