// optima: one program, one subcommand a file.
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"serve", serve_main, "serve a model over an OpenAI-compatible HTTP API"},
    {"chat", chat_main, "talk to a model in the terminal"},
    {"inspect", inspect_main, "show a model's architecture, tensors and memory plan, or this machine's peaks"},
    {"advise", advise_main, "tell what limits a running server, what to change, and how to prove it"},
    {"bench", bench_main, "load any OpenAI-compatible server and measure it"},
    {"bench-model", bench_model_main, "measure how fast a model reads and writes on a device, beside its limits"},
    {"eval", eval_main, "measure how well a model predicts a text, and how far it is from another"},
    {"quantize", quantize_main, "write a model with its matrices in fewer bits, and report what that costs"},
    {"tokenize", tokenize_main, "turn text into token ids and back"},
    {"render", render_main, "render a chat template"},
};

static void print_help(FILE *out) {
    fprintf(out, "usage: optima COMMAND [arguments]\n\n"
                 "Serves large language models and tells what limits them.\n\ncommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-11s  %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n\"optima COMMAND --help\" shows the options of a command; \"optima --version\" the version.\n");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("optima " OPTIMA_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr, "optima: unknown command \"%s\"; see optima --help\n", argv[1]);
    return 2;
}
