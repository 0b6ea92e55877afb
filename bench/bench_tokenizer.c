// How fast a tokenizer opens, encodes and decodes: a text file, and texts that are made to be slow.
//
//     bench_tokenizer MODEL [TEXT] [MIB]     # MODEL as in `optima tokenize`; MIB: size of the made texts (default 4)
//
// Limits that are asked for: opening 128 k tokens in 300 ms; no text of 32 MiB takes minutes.
#include "base/clock.h"
#include "base/file_map.h"
#include "models/model.h"
#include "models/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static double seconds_since(uint64_t start_ns) {
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

static double peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

static int measure(const struct tokenizer *t, const char *name, const struct prompt_text *prompt, struct err *err) {
    token_vec ids = {0};
    struct str text = STR_INIT;
    uint64_t start = clock_now_ns();
    int rc = tokenizer_encode(t, prompt, &(struct tokenizer_encode_options){0}, &ids, err);
    double encoding = seconds_since(start);
    start = clock_now_ns();
    if (!rc) rc = tokenizer_decode(t, ids.items, ids.count, false, &text, err);
    double decoding = seconds_since(start), mb = (double)prompt->text.n_bytes * 1e-6;
    if (!rc)
        printf("%-24s %8.2f MB %10zu tokens  encode %8.3f s %7.1f MB/s  decode %7.1f MB/s  peak %6.0f MiB\n", name, mb,
               ids.count, encoding, mb / encoding, mb / decoding, peak_mib());
    vec_free(&ids);
    str_close(&text);
    return rc;
}

static int measure_unit(const struct tokenizer *t, const char *name, const char *unit, size_t n_bytes,
                        struct err *err) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    size_t n = strlen(unit);
    while (prompt.text.n_bytes + n <= n_bytes) prompt_text_append(&prompt, unit, n, true);
    int rc = measure(t, name, &prompt, err);
    prompt_text_close(&prompt);
    return rc;
}

static int measure_file(const struct tokenizer *t, const char *path, struct err *err) {
    struct file_map map;
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    int rc = file_map_open(&map, path, err);
    if (rc) return rc;
    prompt_text_append(&prompt, map.data, map.n_bytes, false);
    const char *slash = strrchr(path, '/');
    rc = measure(t, slash ? slash + 1 : path, &prompt, err);
    prompt_text_close(&prompt);
    file_map_close(&map);
    return rc;
}

static int run(const char *model, const char *text, size_t n_bytes, struct err *err) {
    static const char *const units[][2] = {
        {"one letter", "a"},
        {"spaces", " "},
        {"line feeds", "\n"},
        {"digits", "1"},
        {"random-looking letters", "qzxjkvbpyg"},
        {"emoji chains", "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d"},
        {"combining marks", "\xcc\x81\xcc\xa3"},
        {"markers", "<|im_start|>"},
        {"half markers", "<|im_start"},
        {"Han", "\xe6\xbc\xa2\xe5\xad\x97"},
    };
    struct model_text opened;
    uint64_t start = clock_now_ns();
    int rc = model_text_open(&opened, model, err);
    if (rc) return rc;
    printf("opened in %.1f ms (asked: 300 ms for 128 k tokens)\n", seconds_since(start) * 1e3);
    if (!opened.tokenizer) rc = err_set(err, ERR_NOT_FOUND, "%s has no tokenizer", model);
    if (!rc && text) rc = measure_file(opened.tokenizer, text, err);
    for (size_t i = 0; i < sizeof units / sizeof *units && !rc; i++)
        rc = measure_unit(opened.tokenizer, units[i][0], units[i][1], n_bytes, err);
    model_text_close(&opened);
    return rc;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: bench_tokenizer MODEL [TEXT] [MIB]\n");
        return 2;
    }
    long mib = argc > 3 ? strtol(argv[3], NULL, 10) : 4;
    struct err err = {0};
    int rc = mib < 1 || mib > 200 ? err_set(&err, ERR_INVALID, "MIB must be between 1 and 200")
                                  : run(argv[1], argc > 2 ? argv[2] : NULL, (size_t)mib << 20, &err);
    if (rc) fprintf(stderr, "bench_tokenizer: %s\n", err.text);
    return rc ? 1 : 0;
}
