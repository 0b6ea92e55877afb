// A document of bench/measurement.h as a page: one HTML file that needs no network, with the document in it and the
// pictures drawn as SVG when it is opened.
#pragma once

#include "base/str.h"

void page_html(struct str_view document, struct str *out);
