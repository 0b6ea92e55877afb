// A step's input as bytes, so that rank 0 can hand it to the other ranks. All ranks run the same program on the same
// machine architecture: structs travel as they are.
#pragma once

#include "kernels/backend.h"
#include "kernels/comm.h"

// Memory for the largest input whose arrays lie in input_bytes.
size_t step_packet_bytes(size_t input_bytes);

enum packet_kind {
    PACKET_END,   // there will be no more steps
    PACKET_CHECK, // are you there?
    PACKET_STEP,
};

// Rank 0 sends. input: of a PACKET_STEP.
int step_packet_send(struct comm *comm, enum packet_kind kind, const struct step_input *input, void *memory,
                     struct err *err) __attribute__((warn_unused_result));

// The others receive, a PACKET_STEP into the arrays of `input`.
int step_packet_receive(struct comm *comm, enum packet_kind *kind, struct step_input *input, void *memory,
                        struct err *err) __attribute__((warn_unused_result));
