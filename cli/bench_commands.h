// The subcommands of `optima bench`. Each gets the arguments after its name and returns the process's exit status.
#pragma once

int bench_compare_main(int argc, char **argv);
int bench_ab_main(int argc, char **argv);
