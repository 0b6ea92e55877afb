// What every figure means here, and where other clients mean something else by the same name.
#pragma once

#include "base/str.h"
#include <stdio.h>

void explain_print(FILE *out);
void explain_json(struct str *out); // an array of objects: name, here, vllm, guidellm, aiperf
