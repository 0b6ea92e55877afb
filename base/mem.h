// Memory on the heap, arenas, and sizes that cannot overflow.
//
// mem_* never return NULL: when the system has no memory left the process says so and aborts, because the
// sizes that reach them are bounded by limits checked before. Sizes that come from a file or a client pass
// size_mul/size_add first.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t n_bytes);                         // uninitialised; free with free()
void *mem_alloc_zero(size_t count, size_t n_bytes);      // zeroed array; aborts when the product overflows
void *mem_grow(void *old, size_t count, size_t n_bytes); // realloc to count elements of n_bytes each
char *mem_copy_string(const char *text, size_t n_bytes); // n_bytes of text and a NUL

// False when the result does not fit; *out is then unspecified.
static inline bool size_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

// An arena hands out memory that lives as long as itself and is freed by one call. One owner, one thread.
struct arena_chunk;
struct arena {
    struct arena_chunk *chunks;
    size_t n_bytes; // handed out so far
    size_t limit;   // arena_try_alloc refuses beyond this many bytes; 0: no limit
};

#define ARENA_INIT                                                                                                     \
    { 0 }

void *arena_alloc(struct arena *arena, size_t n_bytes); // 16-byte aligned, uninitialised, never NULL
void *arena_alloc_zero(struct arena *arena, size_t count, size_t n_bytes);
char *arena_copy_string(struct arena *arena, const char *text, size_t n_bytes); // NUL-terminated
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
// NULL when the arena's limit would be passed.
void *arena_try_alloc(struct arena *arena, size_t n_bytes) __attribute__((warn_unused_result));
void arena_close(struct arena *arena); // frees everything; the arena is empty and usable again

// A growable array of any type: struct { T *items; size_t count, capacity; }.
#define VEC_OF(T)                                                                                                      \
    struct {                                                                                                           \
        T *items;                                                                                                      \
        size_t count, capacity;                                                                                        \
    }
#define vec_reserve(v, n)                                                                                              \
    do {                                                                                                               \
        size_t vec_need_ = (n);                                                                                        \
        if (vec_need_ > (v)->capacity) {                                                                               \
            size_t vec_cap_ = (v)->capacity * 2 > vec_need_ ? (v)->capacity * 2 : vec_need_;                           \
            (v)->capacity = vec_cap_ < 8 ? 8 : vec_cap_;                                                               \
            (v)->items = mem_grow((v)->items, (v)->capacity, sizeof *(v)->items);                                      \
        }                                                                                                              \
    } while (0)
#define vec_push(v, item)                                                                                              \
    do {                                                                                                               \
        vec_reserve((v), (v)->count + 1);                                                                              \
        (v)->items[(v)->count++] = (item);                                                                             \
    } while (0)
#define vec_free(v)                                                                                                    \
    do {                                                                                                               \
        free((v)->items);                                                                                              \
        (v)->items = NULL;                                                                                             \
        (v)->count = (v)->capacity = 0;                                                                                \
    } while (0)
