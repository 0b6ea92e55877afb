#include "models/jinja_sort.h"

#include "models/jinja_operator.h"

#include <string.h>

static bool goes_before(struct jinja_render *r, struct jinja_value a, struct jinja_value b, bool reverse) {
    jinja_charge(r, 1);
    if (jinja_equal(r, a, b)) return false;
    int order = jinja_order(r, a, b, "<");
    return reverse ? order > 0 : order < 0;
}

// Merges the sorted halves [0, middle) and [middle, count) of `from` into `to`.
static void merge(struct jinja_render *r, const struct jinja_sortable *from, struct jinja_sortable *to, size_t middle,
                  size_t count, bool reverse) {
    size_t i = 0, j = middle;
    for (size_t k = 0; k < count; k++) {
        bool right = i == middle || (j < count && goes_before(r, from[j].key, from[i].key, reverse));
        to[k] = from[right ? j++ : i++];
    }
}

void jinja_sort(struct jinja_render *r, struct jinja_sortable *items, size_t count, bool reverse) {
    struct jinja_sortable *other = jinja_alloc(r, count, sizeof *other), *from = items, *to = other;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            size_t left = count - begin;
            merge(r, from + begin, to + begin, left < width ? left : width, left < 2 * width ? left : 2 * width,
                  reverse);
        }
        struct jinja_sortable *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != items) memcpy(items, from, count * sizeof *items);
}

struct jinja_entry *jinja_sort_entries(struct jinja_render *r, const struct jinja_dict *dict) {
    struct jinja_sortable *items = jinja_alloc(r, dict->count, sizeof *items);
    struct jinja_entry *entries = jinja_alloc(r, dict->count, sizeof *entries);
    for (size_t i = 0; i < dict->count; i++)
        items[i] = (struct jinja_sortable){dict->entries[i].key, dict->entries[i].value};
    jinja_sort(r, items, dict->count, false);
    for (size_t i = 0; i < dict->count; i++) entries[i] = (struct jinja_entry){items[i].key, items[i].value};
    return entries;
}
