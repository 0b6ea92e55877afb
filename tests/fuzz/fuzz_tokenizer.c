// Any bytes as a tokenizer.json or as the tokenizer in a GGUF file, and any bytes as text: what opens must encode every
// text and decode what it made.
//
// An input is a GGUF file; or a tokenizer.json, a NUL and a text; or, without a NUL, a text for the seeds' tokenizers.
#include "tests/fuzz/fuzz.h"

#include "base/utf8.h"
#include "models/tokenizer.h"
#include "tests/models/gguf_tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BYTE_TOKENS                                                                                                    \
    "\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,\"\xc4\xa0"                                                               \
    "ab\":4,\"<\":5,\"s\":6,\">\":7"

static const char *const files[] = {
    // Byte-level, with markers and a template.
    "{\"added_tokens\":[{\"id\":8,\"content\":\"<s>\",\"special\":true,\"normalized\":false,\"lstrip\":true},"
    "{\"id\":9,\"content\":\"ab\xc3\xa9\",\"special\":false,\"normalized\":true,\"single_word\":true,\"rstrip\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{"
    "1,3}\"},"
    "\"behavior\":\"Isolated\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-f]+|x\"},\"behavior\":"
    "\"MergedWithNext\"},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]},\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"x\":{\"id\":\"x\",\"ids\":[8]}}},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"a\",\"fuse_unk\":true,\"ignore_merges\":true,\"vocab\":{" BYTE_TOKENS
    "},"
    "\"merges\":[\"a b\",\"\xc4\xa0 ab\"]}}",
    // SentencePiece's form.
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":"
    "\"Strip\"},"
    "{\"type\":\"StripAccents\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
    "\"},\"content\":\"_\"},{\"type\":\"NFKD\"}]},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},\"content\":"
    "\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":0,\"_\":1,\"_a\":2,\"aa\":3,\"<0x41>\":4},"
    "\"merges\":[[\"_\",\"a\"],[\"a\",\"a\"]]}}",
    // Words with affixes.
    "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":"
    "\"Punctuation\","
    "\"behavior\":\"Contiguous\"},{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"Metaspace\","
    "\"replacement\":\"_\","
    "\"prepend_scheme\":\"first\",\"split\":true}]},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\"},"
    "\"model\":{\"type\":\"BPE\",\"continuing_subword_prefix\":\"#\",\"end_of_word_suffix\":\"$\",\"vocab\":{\"a\":0,"
    "\"#a\":1,"
    "\"#a$\":2,\"aa$\":3,\"_\":4,\"<s>\":5},\"merges\":[\"a #a$\"]}}",
};
enum { N_FILES = sizeof files / sizeof *files };

static const char *const texts[] = {
    "ab <s> ab  12345 Ab\xc3\xa9 e\xcc\x81\xcc\xa3 x\n\r\n  ",
    "a a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xf0\x9f\x91\x8d",
};

static void add_gguf_seed(const struct gguf_tokenizer *description) {
    struct gguf_builder b;
    build_tokenizer_gguf(&b, description);
    fuzz_add_seed(b.bytes.data, b.bytes.n_bytes);
    builder_close(&b);
}

void fuzz_seeds(void) {
    add_gguf_seed(&small_sentencepiece);
    add_gguf_seed(&small_byte_level);
    for (size_t i = 0; i < N_FILES; i++)
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            struct str seed = STR_INIT;
            str_append(&seed, files[i], strlen(files[i]) + 1);
            str_append_text(&seed, texts[j]);
            fuzz_add_seed(seed.data, seed.n_bytes);
            str_close(&seed);
            fuzz_add_seed(texts[j], strlen(texts[j]));
        }
}

static void decode(const struct tokenizer *t, const token_vec *ids) {
    struct str whole = STR_INIT, piece = STR_INIT, pieces = STR_INIT;
    struct utf8_filter filter = {0};
    struct detokenizer d = {.tokenizer = t};
    int rc = tokenizer_decode(t, ids->items, ids->count, false, &whole, NULL);
    assert(!rc);
    for (size_t i = 0; i < ids->count; i++) {
        str_clear(&piece);
        detokenizer_push(&d, ids->items[i], &piece);
        utf8_filter_push(&filter, str_text(&piece), piece.n_bytes, &pieces);
    }
    utf8_filter_finish(&filter, &pieces);
    assert(whole.n_bytes == pieces.n_bytes && memcmp(str_text(&whole), str_text(&pieces), whole.n_bytes) == 0);
    assert(utf8_is_valid(str_text(&whole), whole.n_bytes));
    str_close(&whole);
    str_close(&piece);
    str_close(&pieces);
}

static void encode(const struct tokenizer *t, const char *text, size_t n_bytes) {
    struct tokenizer_encode_options options = {.add_special = true};
    for (size_t n_trusted = 0; n_trusted <= n_bytes; n_trusted += n_bytes / 2 + 1) {
        struct prompt_text prompt = PROMPT_TEXT_INIT;
        token_vec ids = {0};
        prompt_text_append(&prompt, text, n_trusted, true);
        prompt_text_append(&prompt, text + n_trusted, n_bytes - n_trusted, false);
        int rc = tokenizer_encode(t, &prompt, &options, &ids, NULL);
        assert(rc || utf8_is_valid(text, n_bytes));
        for (size_t i = 0; i < ids.count; i++) assert(ids.items[i] >= 0 && ids.items[i] < tokenizer_vocab(t));
        if (!rc) decode(t, &ids);
        vec_free(&ids);
        prompt_text_close(&prompt);
    }
}

static void open_and_encode(const char *file, size_t file_bytes, const char *text, size_t n_bytes) {
    struct tokenizer *t;
    struct err err = {0};
    if (tokenizer_open_json(&t, (struct str_view){file, file_bytes}, (struct str_view){0}, &err)) {
        assert(err.text[0]);
        return;
    }
    encode(t, text, n_bytes);
    encode(t, texts[0], strlen(texts[0]));
    tokenizer_close(t);
}

static void open_gguf_and_encode(const char *file, size_t file_bytes) {
    struct gguf gguf;
    struct tokenizer *t;
    struct err err = {0};
    if (gguf_open(&gguf, file, file_bytes, &err)) return;
    int rc = tokenizer_open_gguf(&t, &gguf, &err);
    gguf_close(&gguf);
    if (rc) return;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) encode(t, texts[i], strlen(texts[i]));
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    const char *input = (const char *)bytes, *nul = n_bytes ? memchr(input, 0, n_bytes) : NULL;
    if (n_bytes >= 4 && memcmp(input, "GGUF", 4) == 0) {
        open_gguf_and_encode(input, n_bytes);
        return 0;
    }
    if (nul) {
        size_t file_bytes = (size_t)(nul - input);
        open_and_encode(input, file_bytes, nul + 1, n_bytes - file_bytes - 1);
        return 0;
    }
    for (size_t i = 0; i < N_FILES; i++) open_and_encode(files[i], strlen(files[i]), input, n_bytes);
    return 0;
}
