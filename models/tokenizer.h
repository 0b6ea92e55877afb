// Text to token ids and back.
//
// Owner: the model. Read-only after opening; any thread may encode and decode at the same time.
// Time is O(n log n) in the bytes of text, memory O(n), whatever the text; only a tokenizer.json with a regular
// expression of its own can need more, and then encoding ends with ERR_LIMIT.
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "models/bpe.h"
#include "models/prompt_text.h"
#include <stdbool.h>
#include <stdint.h>

struct tokenizer;
struct gguf; // models/gguf.h

// From the text of tokenizer.json; config_json is tokenizer_config.json or empty. Both texts may be freed afterwards.
// What is not known is refused: ERR_UNSUPPORTED, ERR_FORMAT or ERR_INVALID, with one line that names it (and the second
// file, when it is there).
int tokenizer_open_json(struct tokenizer **out, struct str_view tokenizer_json, struct str_view config_json,
                        struct err *err) __attribute__((warn_unused_result));
// From the tokenizer.ggml.* keys of an open GGUF file, which may be closed afterwards.
int tokenizer_open_gguf(struct tokenizer **out, const struct gguf *gguf, struct err *err)
    __attribute__((warn_unused_result));
void tokenizer_close(struct tokenizer *tokenizer);

struct tokenizer_encode_options {
    bool add_special;     // run the post-processor (BOS and the like); false for rendered chat templates
    int32_t n_tokens_max; // stop with ERR_LIMIT when there are more; 0: no limit
};

// Appends ids to *out; after an error, *out holds what it held before. Added tokens (special or not) match only where
// the whole match lies in a trusted part, and no text in an untrusted part becomes a special token; added tokens of
// white space alone match everywhere. ERR_INVALID: the text is not UTF-8.
int tokenizer_encode(const struct tokenizer *tokenizer, const struct prompt_text *prompt,
                     const struct tokenizer_encode_options *options, token_vec *out, struct err *err)
    __attribute__((warn_unused_result));

// Appends the text of ids, as the checkpoint's decoder defines it, broken UTF-8 replaced by U+FFFD.
// ERR_INVALID: an id out of range.
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids, bool skip_special,
                     struct str *out, struct err *err) __attribute__((warn_unused_result));

// Incremental decoding: pushing ids one at a time gives the same bytes as decoding them together (before U+FFFD
// replacement: bytes of unfinished code points come out raw; pass them through a utf8_filter). The caller sets the
// first two fields and zeroes the others.
struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special;
    bool started;      // a token was decoded
    uint32_t stripped; // how often the decoder's "strip from the beginning" has applied; UINT32_MAX: it is over
};
void detokenizer_push(struct detokenizer *detokenizer, int32_t id,
                      struct str *out_bytes); // ids out of range give nothing

int32_t tokenizer_vocab(const struct tokenizer *tokenizer); // ids are 0 .. vocab-1; some may be unused
int32_t tokenizer_bos(const struct tokenizer *tokenizer);   // -1: none
int32_t tokenizer_eos(const struct tokenizer *tokenizer);   // -1: none
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);
// The token's text as the file has it ("Ġthe"); data == NULL: the id is unused or out of range.
struct str_view tokenizer_token_text(const struct tokenizer *tokenizer, int32_t id);
// The raw bytes that one id stands for, in the middle of a text (for logprobs); appended to out.
void tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, struct str *out);
size_t tokenizer_bytes(const struct tokenizer *tokenizer); // of memory that its tables take
// The fewest tokens that n_bytes of text can become, white space that added tokens swallow left aside: for refusing
// texts by length before encoding them.
size_t tokenizer_tokens_min(const struct tokenizer *tokenizer, size_t n_bytes);
