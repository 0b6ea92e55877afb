// A step's input as bytes, so that rank 0 can hand it to the other ranks. All ranks run the same program on the same
// machine architecture: structs travel as they are.
#pragma once

#include "kernels/comm.h"
#include "kernels/backend.h"

// Memory for the largest input whose arrays lie in input_bytes.
size_t step_packet_bytes(size_t input_bytes);

// Rank 0 sends `input`; NULL: there will be no more steps.
int step_packet_send(struct comm *comm, const struct step_input *input, void *memory, struct err *err)
    __attribute__((warn_unused_result));

// The others receive it into the arrays of `input`. *more is false when there will be no more steps.
int step_packet_receive(struct comm *comm, struct step_input *input, void *memory, bool *more, struct err *err)
    __attribute__((warn_unused_result));
