// What the readers of tokenizer.json and GGUF fill in and the tokenizer runs. Private to models/tokenizer*.c.
#pragma once

#include "models/added_tokens.h"
#include "models/bpe.h"
#include "models/decoder.h"
#include "models/normalizer.h"
#include "models/pretokenizer.h"
#include "models/tokenizer.h"
#include "models/vocab.h"

struct tokenizer {
    struct vocab vocab;
    VEC_OF(struct added_token) added; // their contents are their texts in the vocabulary
    bool *special;                    // [vocab.n_ids]
    bool *blocked;                    // [vocab.n_ids] ids that the model must not make from text
    struct bpe *bpe;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct decoder decoder;
    struct added_tokens raw, normalized; // looked for before and after normalising
    token_vec prefix, suffix;            // what the post-processor puts around the text
    int32_t bos, eos;
    char *decoded;              // the bytes of all tokens, one behind the other
    uint32_t *decoded_at;       // [vocab.n_ids + 1]
    size_t bytes_per_token_max; // 0: no bound
};

struct tokenizer *tokenizer_new(void); // everything empty; bos = eos = -1

// In this order: fill the vocabulary with the model's tokens, add added tokens, close the vocabulary, open the bpe, set
// the stages, finish.

// An added token: it gets the id of its text when the vocabulary has it, else token.id.
int tokenizer_add_added(struct tokenizer *tokenizer, struct str_view content, struct added_token token, struct err *err)
    __attribute__((warn_unused_result));
// n_model: the ids below it that were there before the added tokens may be made from text, unless they are special.
void tokenizer_close_vocab(struct tokenizer *tokenizer, int32_t n_model);
// True when no stage cuts the text, so that the model sees pieces as long as the text.
bool tokenizer_has_long_pieces(const struct tokenizer *tokenizer);
// Computes what follows from the parts.
int tokenizer_finish(struct tokenizer *tokenizer, struct err *err) __attribute__((warn_unused_result));
