#include "engine/step_packet.h"

#include <string.h>

struct packet_head {
    enum packet_kind kind;
    int32_t n_rows, n_sequences, n_logit_rows, n_block_table, n_edits, n_seen;
    uint64_t n_bytes; // of the arrays that follow
};

// array, number of elements
#define ARRAYS(X)                                                                                                      \
    X(token, n_rows)                                                                                                   \
    X(position, n_rows)                                                                                                \
    X(sequence, n_rows)                                                                                                \
    X(sequences, n_sequences)                                                                                          \
    X(block_table, n_block_table)                                                                                      \
    X(logit_row, n_logit_rows)                                                                                         \
    X(sample, n_logit_rows)                                                                                            \
    X(edits, n_edits)                                                                                                  \
    X(seen, n_seen)

size_t step_packet_bytes(size_t input_bytes) {
    return sizeof(struct packet_head) + input_bytes;
}

int step_packet_send(struct comm *comm, enum packet_kind kind, const struct step_input *input, void *memory,
                     struct err *err) {
    struct packet_head head = {.kind = kind};
    char *at = memory;
    if (kind == PACKET_STEP) {
#define X(array, count)                                                                                                \
    head.count = input->count;                                                                                         \
    memcpy(at, input->array, (size_t)input->count * sizeof *input->array);                                             \
    at += (size_t)input->count * sizeof *input->array;
        ARRAYS(X)
#undef X
    }
    head.n_bytes = (uint64_t)(at - (char *)memory);
    int rc = comm_broadcast(comm, &head, sizeof head, err);
    if (!rc && head.n_bytes) rc = comm_broadcast(comm, memory, head.n_bytes, err);
    return rc;
}

int step_packet_receive(struct comm *comm, enum packet_kind *kind, struct step_input *input, void *memory,
                        struct err *err) {
    struct packet_head head;
    int rc = comm_broadcast(comm, &head, sizeof head, err);
    if (rc) return rc;
    *kind = head.kind;
    if (head.kind != PACKET_STEP) return 0;
    rc = comm_broadcast(comm, memory, head.n_bytes, err);
    if (rc) return rc;
    const char *at = memory;
#define X(array, count)                                                                                                \
    input->count = head.count;                                                                                         \
    memcpy(input->array, at, (size_t)head.count * sizeof *input->array);                                               \
    at += (size_t)head.count * sizeof *input->array;
    ARRAYS(X)
#undef X
    return 0;
}
