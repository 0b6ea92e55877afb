// optima tokenize: text on standard input to token ids on one line, and back.
#include "cli/commands.h"

#include "base/file_map.h"
#include "base/option.h"
#include "cli/command_line.h"
#include "models/model.h"
#include "models/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 256 << 20 };

struct tokenize_options {
    bool decode, special, no_bos;
};

static const struct option_row rows[] = {
    {"decode", OPTION_FLAG, offsetof(struct tokenize_options, decode), NULL, NULL, 0, 0, false,
     "read ids, separated by blanks, and write the text that they stand for"},
    {"special", OPTION_FLAG, offsetof(struct tokenize_options, special), NULL, NULL, 0, 0, false,
     "take markers such as <|im_start|> in the text for special tokens; with --decode, write them"},
    {"no-bos", OPTION_FLAG, offsetof(struct tokenize_options, no_bos), NULL, NULL, 0, 0, false,
     "leave out the tokens that the model wants around a text (beginning of text and the like)"},
};

static const struct option_table table = {
    .usage = "optima tokenize PATH [options]",
    .summary = "Turns the text on standard input, taken exactly as it is, into token ids on one line. PATH is a model\n"
               "folder, a tokenizer.json or a GGUF file; \"demo\" is the embedded model.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

static int encode(const struct tokenizer *tokenizer, const struct tokenize_options *options, const struct str *input,
                  struct err *err) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    struct tokenizer_encode_options how = {.add_special = !options->no_bos};
    token_vec ids = {0};
    prompt_text_append(&prompt, str_text(input), input->n_bytes, options->special);
    int rc = tokenizer_encode(tokenizer, &prompt, &how, &ids, err);
    for (size_t i = 0; i < ids.count; i++) printf("%s%d", i ? " " : "", ids.items[i]);
    if (!rc) putchar('\n');
    vec_free(&ids);
    prompt_text_close(&prompt);
    return rc;
}

static int read_ids(const char *text, token_vec *ids, struct err *err) {
    for (const char *at = text; at += strspn(at, " \t\r\n"), *at;) {
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        size_t length = strcspn(at, " \t\r\n");
        if (end != at + length || errno || id < 0 || id > INT32_MAX)
            return err_set(err, ERR_INVALID, "\"%.*s\" is not a token id", length < 40 ? (int)length : 40, at);
        vec_push(ids, (int32_t)id);
        at = end;
    }
    return 0;
}

static int decode(const struct tokenizer *tokenizer, const struct tokenize_options *options, const struct str *input,
                  struct err *err) {
    token_vec ids = {0};
    struct str text = STR_INIT;
    bool nul = input->n_bytes && memchr(input->data, 0, input->n_bytes);
    int rc = nul ? err_set(err, ERR_INVALID, "standard input does not hold token ids") : 0;
    if (!rc) rc = read_ids(str_text(input), &ids, err);
    if (!rc) rc = tokenizer_decode(tokenizer, ids.items, ids.count, !options->special, &text, err);
    if (!rc) fwrite(str_text(&text), 1, text.n_bytes, stdout);
    vec_free(&ids);
    str_close(&text);
    return rc;
}

static int tokenize(const struct tokenize_options *options, const char *path, struct err *err) {
    struct model_text text;
    struct str input = STR_INIT;
    int rc = model_text_open(&text, path, err);
    if (rc) return rc;
    if (!text.tokenizer) rc = err_set(err, ERR_NOT_FOUND, "%s: there is no tokenizer", path);
    if (!rc) rc = file_read_all(STDIN_FILENO, INPUT_BYTES_MAX, &input, err);
    if (!rc) rc = (options->decode ? decode : encode)(text.tokenizer, options, &input, err);
    if (!rc && (fflush(stdout) != 0 || ferror(stdout))) rc = err_set(err, ERR_IO, "cannot write to standard output");
    str_close(&input);
    model_text_close(&text);
    return rc;
}

int tokenize_main(int argc, char **argv) {
    struct tokenize_options options = {0};
    struct option_result result;
    int status;
    if (!command_line_read_path("tokenize", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    return command_line_end("tokenize", tokenize(&options, result.positional[0], &err), &err);
}
