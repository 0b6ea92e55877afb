#include "models/fill.h"

#include "base/memory_available.h"
#include "base/pool.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

// A worker takes this many values at a time: a multiple of every block, and little enough to share work evenly.
enum { CHUNK_VALUES = 1 << 19 };

void fill_close(struct fill *fill) {
    for (size_t i = 0; i < fill->pieces.count; i++) munmap(fill->pieces.items[i].out, fill->pieces.items[i].n_bytes);
    vec_free(&fill->pieces);
    fill->n_bytes = 0;
}

const void *fill_dequant(struct fill *fill, enum stored_format format, const char *blocks, size_t n_values,
                         struct err *err) {
    struct fill_piece piece = {.n_values = n_values, .from = format, .blocks = blocks};
    if (!size_mul(n_values, sizeof *piece.out, &piece.n_bytes)) piece.n_bytes = SIZE_MAX / 2;
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

struct chunk {
    const struct fill_piece *piece;
    size_t first, n;
};

struct run {
    VEC_OF(struct chunk) chunks;
    _Atomic size_t next;
    _Atomic uint64_t bytes_done;
    uint64_t bytes_total;
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

static void fill_chunk(const struct chunk *chunk) {
    const struct fill_piece *piece = chunk->piece;
    const char *blocks = piece->blocks + chunk->first / DEQUANT_BLOCK * dequant_block_bytes(piece->from);
    dequant(piece->from, blocks, chunk->n, piece->out + chunk->first);
}

static void run_chunks(void *argument, int worker, int n_workers) {
    (void)n_workers;
    struct run *run = argument;
    for (size_t i; (i = atomic_fetch_add(&run->next, 1)) < run->chunks.count;) {
        const struct chunk *chunk = &run->chunks.items[i];
        fill_chunk(chunk);
        uint64_t bytes = chunk->n * sizeof *chunk->piece->out;
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
    for (size_t i = 0; i < fill->pieces.count; i++) {
        const struct fill_piece *piece = &fill->pieces.items[i];
        for (size_t first = 0; first < piece->n_values; first += CHUNK_VALUES) {
            size_t left = piece->n_values - first;
            struct chunk chunk = {piece, first, left < CHUNK_VALUES ? left : CHUNK_VALUES};
            vec_push(&run.chunks, chunk);
        }
    }
    if (!run.chunks.count) return 0;
    struct pool *pool = NULL;
    int rc = pool_open(&pool, pool_cores(), err);
    if (!rc) {
        pool_run(pool, pool_size(pool), run_chunks, &run);
        if (progress) progress(context, run.bytes_total, run.bytes_total);
        pool_close(pool);
    }
    vec_free(&run.chunks);
    return rc;
}
