#include "cli/speculate.h"

#include "engine/proposer.h"

#include <string.h>

int speculate_read(struct speculate_choice *out, const char *text, struct err *err) {
    static const char *const names[] = {"off", "auto", "ngram", "suffix", "draft"};
    static const char with_path[] = "draft:";
    *out = (struct speculate_choice){.kind = SPECULATE_OFF};
    if (!text) return 0;
    for (enum speculate_kind kind = SPECULATE_OFF; kind <= SPECULATE_DRAFT; kind++) {
        out->kind = kind;
        if (strcmp(text, names[kind]) == 0) return 0;
    }
    if (strncmp(text, with_path, sizeof with_path - 1) == 0 && text[sizeof with_path - 1]) {
        out->draft_path = text + sizeof with_path - 1;
        return 0;
    }
    return err_set(err, ERR_INVALID, "--speculate \"%s\" is none of off, auto, ngram, suffix, draft, draft:PATH", text);
}

int speculate_open(struct proposer **out, const struct speculate_choice *choice, const char *model_path,
                   const struct draft_model_options *draft, struct memory_ledger *ledger, struct err *err) {
    char beside[4096];
    struct draft_model_options options = *draft;
    *out = NULL;
    if (choice->kind == SPECULATE_OFF) return 0;
    options.path = choice->draft_path;
    bool drafts = choice->kind == SPECULATE_DRAFT || choice->kind == SPECULATE_AUTO;
    if (drafts && !options.path && draft_model_find(model_path, beside)) options.path = beside;
    if (options.path) return draft_model_open(out, &options, ledger, err);
    if (choice->kind == SPECULATE_DRAFT)
        return err_set(err, ERR_NOT_FOUND,
                       "%s has no folder \"draft\" with a draft model; --speculate draft:PATH names one",
                       model_path ? model_path : "the demo");
    *out = choice->kind == SPECULATE_SUFFIX ? suffix_proposer_open() : ngram_proposer_open();
    return 0;
}
