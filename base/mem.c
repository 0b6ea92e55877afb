#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGN = 16, ARENA_CHUNK_BYTES = 16 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, capacity;
    _Alignas(ARENA_ALIGN) char data[];
};

static _Noreturn void die_no_memory(size_t n_bytes) {
    fprintf(stderr, "optima: out of memory (a request for %zu bytes failed)\n", n_bytes);
    abort();
}

void *mem_alloc(size_t n_bytes) {
    void *p = malloc(n_bytes ? n_bytes : 1);
    if (!p) die_no_memory(n_bytes);
    return p;
}

void *mem_alloc_zero(size_t count, size_t n_bytes) {
    void *p = calloc(count ? count : 1, n_bytes ? n_bytes : 1);
    if (!p) die_no_memory(count);
    return p;
}

void *mem_grow(void *old, size_t count, size_t n_bytes) {
    size_t total = 0;
    if (!size_mul(count, n_bytes, &total)) die_no_memory(count);
    void *p = realloc(old, total ? total : 1);
    if (!p) die_no_memory(total);
    return p;
}

char *mem_copy_string(const char *text, size_t n_bytes) {
    char *copy = mem_alloc(n_bytes + 1);
    if (n_bytes) memcpy(copy, text, n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

void *arena_try_alloc(struct arena *arena, size_t n_bytes) {
    if (arena->limit && (n_bytes > arena->limit || arena->n_bytes > arena->limit - n_bytes)) return NULL;
    size_t rounded = 0;
    if (!size_add(n_bytes, ARENA_ALIGN - 1, &rounded)) die_no_memory(n_bytes);
    rounded &= ~(size_t)(ARENA_ALIGN - 1);
    struct arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->capacity - chunk->used < rounded) {
        // Large pieces get a chunk of their own behind the current one, which stays open for small pieces.
        size_t capacity = rounded > ARENA_CHUNK_BYTES / 4 ? rounded : ARENA_CHUNK_BYTES;
        struct arena_chunk *fresh = mem_alloc(sizeof *fresh + capacity);
        fresh->used = 0;
        fresh->capacity = capacity;
        if (chunk && capacity == rounded) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
        }
        chunk = fresh;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += rounded;
    arena->n_bytes += n_bytes;
    return p;
}

void *arena_alloc(struct arena *arena, size_t n_bytes) {
    size_t limit = arena->limit;
    arena->limit = 0;
    void *p = arena_try_alloc(arena, n_bytes);
    arena->limit = limit;
    return p;
}

void *arena_alloc_zero(struct arena *arena, size_t count, size_t n_bytes) {
    size_t total = 0;
    if (!size_mul(count, n_bytes, &total)) die_no_memory(count);
    void *p = arena_alloc(arena, total);
    return memset(p, 0, total);
}

char *arena_copy_string(struct arena *arena, const char *text, size_t n_bytes) {
    char *copy = arena_alloc(arena, n_bytes + 1);
    if (n_bytes) memcpy(copy, text, n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t n_bytes = n > 0 ? (size_t)n : 0;
    char *text = arena_alloc(arena, n_bytes + 1);
    vsnprintf(text, n_bytes + 1, format, again);
    va_end(again);
    return text;
}

void arena_close(struct arena *arena) {
    struct arena_chunk *chunk = arena->chunks;
    while (chunk) {
        struct arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->n_bytes = 0;
}
