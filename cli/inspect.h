// The subcommand `optima inspect`. argv begins behind the subcommand's name.
#pragma once

int inspect_main(int argc, char **argv); // the process's exit status
