#include "cli/speculate.h"

#include <string.h>

int speculate_read(struct speculate_choice *out, const char *text, struct err *err) {
    static const char *const names[] = {
        [SPECULATE_OFF] = "off", [SPECULATE_AUTO] = "auto", [SPECULATE_NGRAM] = "ngram"};
    *out = (struct speculate_choice){.kind = SPECULATE_OFF};
    if (!text) return 0;
    for (enum speculate_kind kind = SPECULATE_OFF; kind <= SPECULATE_NGRAM; kind++) {
        out->kind = kind;
        if (strcmp(text, names[kind]) == 0) return 0;
    }
    return err_set(err, ERR_INVALID, "--speculate \"%s\" is none of off, auto, ngram", text);
}

int speculate_open(struct proposer **out, const struct speculate_choice *choice, struct err *err) {
    (void)err;
    *out = choice->kind == SPECULATE_OFF ? NULL : ngram_proposer_open();
    return 0;
}
