// A hash map from byte strings to 64-bit values. Keys are hashed with a per-process random seed, so that
// nobody can choose keys that collide. One owner; many threads may read while nobody writes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t count, capacity; // capacity: a power of two or 0
    bool copies_keys;       // true: the map owns copies; false: keys must outlive the map
};

#define MAP_INIT                                                                                                       \
    { 0 }

void map_open(struct map *map, size_t expected_count, bool copies_keys);
void map_close(struct map *map);
size_t map_bytes(const struct map *map); // of memory, without keys
// Adds or replaces; returns false when the key was there already (the value is then replaced).
bool map_put(struct map *map, const char *key, size_t n_bytes, uint64_t value);
bool map_get(const struct map *map, const char *key, size_t n_bytes, uint64_t *value);
bool map_remove(struct map *map, const char *key, size_t n_bytes);

// 64-bit seeded hash of bytes; differs between processes.
uint64_t hash_bytes_seeded(const void *bytes, size_t n_bytes);
