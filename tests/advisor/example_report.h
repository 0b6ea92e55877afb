// A report in full, in round numbers and without the rules, so that its forms can be compared with texts.
#pragma once

#include "advisor/report.h"

void example_report(struct report *out);
// Of a server that has seen nothing: every number is unknown.
void example_report_empty(struct report *out);
