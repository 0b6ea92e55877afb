// A server whose tokenizer is slow: a text takes 100 ms of a processor more. The linker's --wrap leads calls of
// tokenizer_encode here; the product itself knows nothing of it.
#include "base/clock.h"
#include "models/tokenizer.h"

static const uint64_t TEXT_NS = 100000000;

int __real_tokenizer_encode(const struct tokenizer *tokenizer, const struct prompt_text *prompt,
                            const struct tokenizer_encode_options *options, token_vec *out, struct err *err);
int __wrap_tokenizer_encode(const struct tokenizer *tokenizer, const struct prompt_text *prompt,
                            const struct tokenizer_encode_options *options, token_vec *out, struct err *err);

int __wrap_tokenizer_encode(const struct tokenizer *tokenizer, const struct prompt_text *prompt,
                            const struct tokenizer_encode_options *options, token_vec *out, struct err *err) {
    const uint64_t began_ns = clock_now_ns();
    while (clock_now_ns() - began_ns < TEXT_NS) continue;
    return __real_tokenizer_encode(tokenizer, prompt, options, out, err);
}
