// The subcommands of `optima`. Each gets the arguments after its name and returns the process's exit status.
#pragma once

int serve_main(int argc, char **argv);
int chat_main(int argc, char **argv);
int inspect_main(int argc, char **argv);
int advise_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int bench_model_main(int argc, char **argv);
int eval_main(int argc, char **argv);
int quantize_main(int argc, char **argv);
int tokenize_main(int argc, char **argv);
int render_main(int argc, char **argv);
