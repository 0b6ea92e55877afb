#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(FIBER_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

// Frames are several times larger under AddressSanitizer. The lowest page of each stack is a guard.
#if defined(FIBER_ASAN)
static const size_t STACK_BYTES = 256 << 10;
#else
static const size_t STACK_BYTES = 64 << 10;
#endif
static const size_t PAGE_BYTES = 4096;
static const int STACKS_MAX = 1024;

static char *stack_of(int i) {
    static char *stacks;
    static int n_guarded;
    if (!stacks) {
        void *memory = mmap(nullptr, STACK_BYTES * STACKS_MAX, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) perror("stacks of emulated threads"), abort();
        stacks = static_cast<char *>(memory);
    }
    for (; n_guarded <= i; n_guarded++) mprotect(stacks + STACK_BYTES * (size_t)n_guarded, PAGE_BYTES, PROT_NONE);
    return stacks + STACK_BYTES * (size_t)i;
}

#if defined(__x86_64__)
// Saves what the System V ABI asks a callee to keep, and continues on the other stack.
extern "C" void fiber_switch_stacks(void **from, void *to);
__asm__(R"(
    .text
    .globl fiber_switch_stacks
    .hidden fiber_switch_stacks
    .type fiber_switch_stacks, @function
fiber_switch_stacks:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .size fiber_switch_stacks, .-fiber_switch_stacks
)");

static void *initial_stack_pointer(char *stack, int i, void (*entry)()) {
    // Stacks lie a power of two apart: without the offset all would compete for the same lines of the cache.
    void **top = reinterpret_cast<void **>(stack + STACK_BYTES - 128 - 192 * (size_t)(i % 64));
    *--top = nullptr; // where a return address of `entry` would be: keeps the alignment
    *--top = reinterpret_cast<void *>(entry);
    for (int i_register = 0; i_register < 6; i_register++) *--top = nullptr;
    return top;
}
#else
static ucontext_t contexts[STACKS_MAX];
#endif

void fiber_begin(struct fiber_context *fiber, int i, void (*entry)()) {
    char *stack = stack_of(i);
    *fiber = {nullptr, stack + PAGE_BYTES, STACK_BYTES - PAGE_BYTES, nullptr, false};
#if defined(__x86_64__)
    fiber->stack_pointer = initial_stack_pointer(stack, i, entry);
#else
    ucontext_t *context = &contexts[i];
    getcontext(context);
    context->uc_stack.ss_sp = stack + PAGE_BYTES;
    context->uc_stack.ss_size = STACK_BYTES - PAGE_BYTES;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    fiber->stack_pointer = context;
#endif
}

void fiber_entered(struct fiber_context *host) {
#if defined(FIBER_ASAN)
    const void *stack;
    size_t stack_bytes;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &stack_bytes);
    if (!host->stack) host->stack = stack, host->stack_bytes = stack_bytes;
#else
    (void)host;
#endif
}

void fiber_switch(struct fiber_context *from, struct fiber_context *to) {
#if defined(FIBER_ASAN)
    __sanitizer_start_switch_fiber(from->ended ? nullptr : &from->fake_stack, to->stack, to->stack_bytes);
#endif
#if defined(__x86_64__)
    fiber_switch_stacks(&from->stack_pointer, to->stack_pointer);
#else
    ucontext_t here;
    from->stack_pointer = &here;
    swapcontext(&here, static_cast<ucontext_t *>(to->stack_pointer));
#endif
#if defined(FIBER_ASAN)
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}
