// The machine that the client runs on, for whoever reads its figures later.
#pragma once

#include "base/str.h"

// Writes the member "client": {"host", "system", "processor", "processors", "load_average"}.
void client_machine_json(struct str *out);
