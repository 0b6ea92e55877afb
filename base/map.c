#include "base/map.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct map_slot {
    char *key; // NULL: free
    size_t n_bytes;
    uint64_t hash, value;
};

static uint64_t hash_seed[2];
static pthread_once_t hash_seed_once = PTHREAD_ONCE_INIT;

static void hash_seed_fill(void) {
    ssize_t n = getrandom(hash_seed, sizeof hash_seed, 0);
    assert(n == (ssize_t)sizeof hash_seed);
}

static uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotate(v[1], 13), v[1] ^= v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16), v[3] ^= v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21), v[3] ^= v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17), v[1] ^= v[2], v[2] = rotate(v[2], 32);
}

// SipHash-1-3 (Aumasson and Bernstein).
uint64_t hash_bytes_seeded(const void *bytes, size_t n_bytes) {
    pthread_once(&hash_seed_once, hash_seed_fill);
    uint64_t v[4] = {hash_seed[0] ^ 0x736f6d6570736575u, hash_seed[1] ^ 0x646f72616e646f6du,
                     hash_seed[0] ^ 0x6c7967656e657261u, hash_seed[1] ^ 0x7465646279746573u};
    const unsigned char *p = bytes;
    size_t left = n_bytes;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)n_bytes << 56;
    for (size_t i = 0; i < left; i++) last |= (uint64_t)p[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct map_slot *find(const struct map *map, const char *key, size_t n_bytes, uint64_t hash) {
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_slot *slot = &map->slots[i];
        if (!slot->key) return slot;
        if (slot->hash == hash && slot->n_bytes == n_bytes && memcmp(slot->key, key, n_bytes) == 0) return slot;
    }
}

static void resize(struct map *map, size_t capacity) {
    struct map_slot *old = map->slots;
    size_t old_capacity = map->capacity;
    map->slots = mem_alloc_zero(capacity, sizeof *map->slots);
    map->capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].key) *find(map, old[i].key, old[i].n_bytes, old[i].hash) = old[i];
    free(old);
}

void map_open(struct map *map, size_t expected_count, bool copies_keys) {
    *map = (struct map){.copies_keys = copies_keys};
    size_t capacity = 16;
    while (capacity < expected_count * 2) capacity *= 2;
    resize(map, capacity);
}

void map_close(struct map *map) {
    if (map->copies_keys)
        for (size_t i = 0; i < map->capacity; i++) free(map->slots[i].key);
    free(map->slots);
    *map = (struct map)MAP_INIT;
}

size_t map_bytes(const struct map *map) {
    return map->capacity * sizeof *map->slots;
}

bool map_put(struct map *map, const char *key, size_t n_bytes, uint64_t value) {
    assert(map->slots);
    if ((map->count + 1) * 3 > map->capacity * 2) resize(map, map->capacity * 2);
    uint64_t hash = hash_bytes_seeded(key, n_bytes);
    struct map_slot *slot = find(map, key, n_bytes, hash);
    bool fresh = !slot->key;
    if (fresh) {
        // A borrowed key is never written through; the cast only fits both cases into one field.
        slot->key = map->copies_keys ? mem_copy_string(key, n_bytes) : (char *)(uintptr_t)key;
        slot->n_bytes = n_bytes;
        slot->hash = hash;
        map->count++;
    }
    slot->value = value;
    return fresh;
}

bool map_get(const struct map *map, const char *key, size_t n_bytes, uint64_t *value) {
    if (!map->count) return false;
    const struct map_slot *slot = find(map, key, n_bytes, hash_bytes_seeded(key, n_bytes));
    if (!slot->key) return false;
    *value = slot->value;
    return true;
}

bool map_remove(struct map *map, const char *key, size_t n_bytes) {
    if (!map->count) return false;
    struct map_slot *slot = find(map, key, n_bytes, hash_bytes_seeded(key, n_bytes));
    if (!slot->key) return false;
    if (map->copies_keys) free(slot->key);
    slot->key = NULL;
    map->count--;
    // Close the gap: move back every later slot of the run whose home lies at or before the gap.
    size_t mask = map->capacity - 1;
    size_t gap = (size_t)(slot - map->slots);
    for (size_t i = (gap + 1) & mask; map->slots[i].key; i = (i + 1) & mask) {
        size_t home = map->slots[i].hash & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue;
        map->slots[gap] = map->slots[i];
        map->slots[i].key = NULL;
        gap = i;
    }
    return true;
}
