#pragma once

int render_main(int argc, char **argv); // the arguments behind "render"; the exit status
