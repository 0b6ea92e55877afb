// The parts of `optima bench` that are commands of their own.
#pragma once

#include "cli/bench_output.h"
#include "cli/benching.h"

// Each gets the arguments after its name and returns the process's exit status.
int bench_compare_main(int argc, char **argv);
int bench_ab_main(int argc, char **argv);

// Looks for the highest rate that meets the objectives and writes all runs.
int bench_sweep(struct benching *bench, struct bench_outputs *outputs, const char *command, struct err *err)
    __attribute__((warn_unused_result));
