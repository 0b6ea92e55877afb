// A stack of its own and the switch between two of them.
#pragma once

#include <stddef.h>

struct fiber_context {
    void *stack_pointer;
    const void *stack; // lowest address, for AddressSanitizer; NULL for the host's stack until a fiber has left it
    size_t stack_bytes;
    void *fake_stack; // AddressSanitizer's
    bool ended;       // will not be switched to again
};

// Makes `fiber` begin with `entry`, which must not return, on stack number `i` of a pool that lives for ever.
void fiber_begin(struct fiber_context *fiber, int i, void (*entry)());

// First call in `entry`: tells AddressSanitizer that the switch is done. `host` learns its stack if it came from there.
void fiber_entered(struct fiber_context *host);

void fiber_switch(struct fiber_context *from, struct fiber_context *to);
