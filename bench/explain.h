// What every figure means here, and where other clients mean something else by the same name.
#pragma once

#include "base/str.h"
#include <stdio.h>

void explain_print(FILE *out);
void explain_json(struct str *out); // the member "definitions": an array of name, here, vllm, guidellm, aiperf
