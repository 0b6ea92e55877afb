// optima render: a request's messages on standard input to the prompt that the model's chat template makes of them.
#include "cli/commands.h"

#include "base/clock.h"
#include "base/file_map.h"
#include "base/json.h"
#include "base/option.h"
#include "cli/command_line.h"
#include "models/chat_template.h"
#include "models/model.h"

#include <stdio.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 64 << 20 };

struct render_options {
    bool parts;
};

static const struct option_row rows[] = {
    {"parts", OPTION_FLAG, offsetof(struct render_options, parts), NULL, NULL, 0, 0, false,
     "one part a line as a JSON string: \"template\" where special tokens match, \"request\" where they are plain "
     "text"},
};

static const struct option_table table = {
    .usage = "optima render PATH [options] < REQUEST.json",
    .summary =
        "Renders a chat template with the variables of a JSON object: messages, tools, add_generation_prompt and any\n"
        "others. PATH is a model folder, a .jinja file or a GGUF file; \"demo\" is the embedded model.",
    .rows = rows,
    .n_rows = sizeof rows / sizeof *rows,
    .n_positional_max = 1,
};

static void print_parts(const struct prompt_text *prompt) {
    struct str line = STR_INIT;
    for (size_t i = 0; i < prompt->n_parts; i++) {
        const struct text_part *part = &prompt->parts[i];
        str_append_text(&line, part->trusted ? "template " : "request  ");
        json_append_string(&line, prompt->text.data + part->begin, part->end - part->begin);
        str_append_char(&line, '\n');
    }
    fwrite(str_text(&line), 1, line.n_bytes, stdout);
    str_close(&line);
}

static int render_input(const struct chat_template *chat_template, const struct str *json,
                        const struct render_options *options, struct err *err) {
    struct prompt_text prompt = PROMPT_TEXT_INIT;
    struct json_limits limits = JSON_LIMITS_CLIENT;
    struct chat_template_input input = {.context_json = {str_text(json), json->n_bytes}, .now_s = clock_wall_s()};
    int rc = json_validate(str_text(json), json->n_bytes, &limits, err);
    if (rc) return err_prefix(err, "standard input");
    rc = chat_template_render(chat_template, &input, &prompt, err);
    if (rc) return rc;
    if (options->parts)
        print_parts(&prompt);
    else
        fwrite(str_text(&prompt.text), 1, prompt.text.n_bytes, stdout);
    prompt_text_close(&prompt);
    if (fflush(stdout) != 0 || ferror(stdout)) return err_set(err, ERR_IO, "cannot write to standard output");
    return 0;
}

static int render(const struct render_options *options, const char *path, struct err *err) {
    struct model_text text;
    struct str json = STR_INIT;
    int rc = model_text_open(&text, path, err);
    if (rc) return rc;
    if (!text.chat_template) rc = err_set(err, ERR_NOT_FOUND, "%s: there is no chat template", path);
    if (!rc) rc = file_read_all(STDIN_FILENO, INPUT_BYTES_MAX, &json, err);
    if (!rc) rc = render_input(text.chat_template, &json, options, err);
    str_close(&json);
    model_text_close(&text);
    return rc;
}

int render_main(int argc, char **argv) {
    struct render_options options = {0};
    struct option_result result;
    int status;
    if (!command_line_read_path("render", &table, argc, argv, &options, &result, &status)) return status;
    struct err err = {0};
    return command_line_end("render", render(&options, result.positional[0], &err), &err);
}
