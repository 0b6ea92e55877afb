// Products with packed weights, for ref_matmul.
#pragma once

#include "kernels/kernel_table.h"

void ref_matmul_packed(const struct matmul *m);
