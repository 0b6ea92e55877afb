#include "models/prompt_text.h"

#include "base/mem.h"

#include <stdlib.h>

void prompt_text_append(struct prompt_text *prompt, const char *bytes, size_t n_bytes, bool trusted) {
    if (!n_bytes) return;
    size_t begin = prompt->text.n_bytes;
    str_append(&prompt->text, bytes, n_bytes);
    struct text_part *last = prompt->n_parts ? &prompt->parts[prompt->n_parts - 1] : NULL;
    if (last && last->trusted == trusted) {
        last->end = prompt->text.n_bytes;
        return;
    }
    if (prompt->n_parts == prompt->parts_capacity) {
        prompt->parts_capacity = prompt->parts_capacity ? prompt->parts_capacity * 2 : 8;
        prompt->parts = mem_grow(prompt->parts, prompt->parts_capacity, sizeof *prompt->parts);
    }
    prompt->parts[prompt->n_parts++] = (struct text_part){begin, prompt->text.n_bytes, trusted};
}

void prompt_text_cut(struct prompt_text *prompt, size_t n_bytes) {
    if (n_bytes >= prompt->text.n_bytes) return;
    prompt->text.n_bytes = n_bytes;
    prompt->text.data[n_bytes] = 0;
    while (prompt->n_parts && prompt->parts[prompt->n_parts - 1].begin >= n_bytes) prompt->n_parts--;
    if (prompt->n_parts) prompt->parts[prompt->n_parts - 1].end = n_bytes;
}

void prompt_text_close(struct prompt_text *prompt) {
    str_close(&prompt->text);
    free(prompt->parts);
    *prompt = (struct prompt_text)PROMPT_TEXT_INIT;
}

void prompt_text_seek(const struct prompt_text *prompt, size_t at, size_t *part) {
    // Most steps are short, so that doubling comes before halving.
    size_t low = *part, step = 1;
    while (low < prompt->n_parts && prompt->parts[low].end <= at) {
        low += step;
        step *= 2;
    }
    size_t high = low < prompt->n_parts ? low : prompt->n_parts;
    low = step > 1 ? low - step / 2 + 1 : low;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (prompt->parts[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    *part = high;
}

bool prompt_text_is_trusted(const struct prompt_text *prompt, size_t begin, size_t end, size_t *part) {
    if (begin == end) return false; // nothing vouches for it
    prompt_text_seek(prompt, begin, part);
    return *part < prompt->n_parts && prompt->parts[*part].trusted && end <= prompt->parts[*part].end;
}

void prompt_text_append_part(struct prompt_text *prompt, const struct prompt_text *from, size_t begin, size_t end,
                             size_t *part) {
    while (begin < end) {
        prompt_text_seek(from, begin, part);
        bool known = *part < from->n_parts;
        size_t stop = known && from->parts[*part].end < end ? from->parts[*part].end : end;
        prompt_text_append(prompt, from->text.data + begin, stop - begin, known && from->parts[*part].trusted);
        begin = stop;
    }
}

void prompt_text_clear(struct prompt_text *prompt) {
    str_clear(&prompt->text);
    prompt->n_parts = 0;
}
