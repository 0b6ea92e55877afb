// The subcommand `optima tokenize`. argv begins behind the subcommand's name.
#pragma once

int tokenize_main(int argc, char **argv); // the process's exit status
