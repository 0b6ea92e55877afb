// What was computed a moment ago for clients who ask again: who polls fast gets the same report, and costs no more than
// who polls slowly. Loop thread.
#pragma once

#include <stdint.h>

enum { RECENT_KEPT = 8, RECENT_MS = 500 }; // things at once; how long each is

// Answers of one kind and window. A report's key is its window in seconds.
enum { RECENT_MEMORY = 0 };

struct recent {
    struct recent_thing {
        int key;
        uint64_t made_ns;
        void *data; // NULL: free
    } things[RECENT_KEPT];
};

// What was kept under this key less than RECENT_MS ago; NULL: nothing. Valid until the next recent_keep.
void *recent_find(const struct recent *recent, int key, uint64_t now_ns);
// Takes ownership of what mem_alloc gave, in the place of what was kept under this key, or else of the oldest.
void recent_keep(struct recent *recent, int key, void *data, uint64_t now_ns);
void recent_close(struct recent *recent);
