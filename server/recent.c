#include "server/recent.h"

#include <stdlib.h>

static const uint64_t kept_ns = RECENT_MS * 1000000ull;

void *recent_find(const struct recent *recent, int key, uint64_t now_ns) {
    for (int i = 0; i < RECENT_KEPT; i++) {
        const struct recent_thing *thing = &recent->things[i];
        if (thing->data && thing->key == key && now_ns - thing->made_ns < kept_ns) return thing->data;
    }
    return NULL;
}

void recent_keep(struct recent *recent, int key, void *data, uint64_t now_ns) {
    struct recent_thing *at = &recent->things[0];
    for (int i = 0; i < RECENT_KEPT; i++) {
        struct recent_thing *thing = &recent->things[i];
        if (thing->data && thing->key == key) {
            at = thing;
            break;
        }
        if (at->data && (!thing->data || thing->made_ns < at->made_ns)) at = thing;
    }
    free(at->data);
    *at = (struct recent_thing){key, now_ns, data};
}

void recent_close(struct recent *recent) {
    for (int i = 0; i < RECENT_KEPT; i++) free(recent->things[i].data);
    *recent = (struct recent){0};
}
