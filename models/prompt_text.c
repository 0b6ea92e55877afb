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

void prompt_text_close(struct prompt_text *prompt) {
    str_close(&prompt->text);
    free(prompt->parts);
    *prompt = (struct prompt_text)PROMPT_TEXT_INIT;
}
