// Blocks as fibers: who runs next, barriers, warp collectives. The operations of collectives are in collectives.cpp.
#include "fiber.h"
#include "internal.h"

#include <mutex>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <utility>
#include <vector>

namespace {

enum { LANES = 32, WARPS_MAX = 32, BARRIERS = 16, THREADS_MAX = 1024 };
const size_t SHARED_BYTES_MAX = 256 << 10, PAGE_BYTES = 4096;
const int POISON = 0xff; // NaN in every floating-point format, -1 in integers

struct copy {
    void *to;
    const void *from;
    bool valid;
    unsigned group;
};

struct thread : emulation_thread {
    struct fiber_context fiber;
    struct warp *warp;
    unsigned linear;
    const char *waits_for; // NULL: runs
    unsigned waits_mask, waits_id;
    unsigned n_groups; // committed
    size_t n_copied;   // done, of copies
    std::vector<copy> copies;
};

struct warp {
    unsigned existing, alive, ready, waiting; // bits are lanes; `ready` bits are places in `order`
    uint8_t order[LANES], place[LANES];
    struct thread *threads[LANES];
    emulation_operation *operation[LANES];
    unsigned mask[LANES];
    void *argument[LANES];
    unsigned at_barrier[BARRIERS]; // places
};

struct barrier {
    unsigned n_arrived, n_expected, n_predicates, result;
};

struct block {
    const char *text;
    const std::function<void()> *kernel;
    struct fiber_context host;
    struct thread threads[THREADS_MAX];
    struct warp warps[WARPS_MAX];
    struct barrier barriers[BARRIERS];
    unsigned n_threads, n_warps, n_alive;
    unsigned warp_order[WARPS_MAX], warp_place; // place in the order of the warp that runs
    uint64_t random;
    size_t shared_bytes;
    bool overlap, has_waited;
};

struct block *the_block;
uint64_t the_seed = 1;
std::recursive_mutex the_turn;
char *the_shared; // ends at a guard page

thread *self() {
    return static_cast<thread *>(emulation_thread_now);
}

uint64_t random_next() {
    uint64_t x = the_block->random;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return the_block->random = x;
}

template <typename T> void shuffle(T *items, unsigned n) {
    for (unsigned i = n; i > 1; i--) std::swap(items[i - 1], items[random_next() % i]);
}

// --------------------------------------------------------------------------------------------------------- messages

void print_threads() {
    // Threads that wait for the same thing, in one line.
    std::vector<const thread *> printed;
    for (unsigned i = 0; i < the_block->n_threads; i++) {
        const thread *first = &the_block->threads[i];
        if (first->fiber.ended || !first->waits_for) continue;
        auto same = [first](const thread *t) {
            return t->waits_for && !t->fiber.ended && !strcmp(t->waits_for, first->waits_for) &&
                   t->waits_id == first->waits_id && t->waits_mask == first->waits_mask && t->warp == first->warp;
        };
        bool is_known = false;
        for (const thread *known : printed) is_known = is_known || same(known);
        if (is_known) continue;
        printed.push_back(first);
        unsigned lanes = 0;
        for (unsigned j = 0; j < the_block->n_threads; j++)
            if (same(&the_block->threads[j])) lanes |= 1u << the_block->threads[j].lane;
        fprintf(stderr, "  warp %u, lanes %08x: %s", first->linear / LANES, lanes, first->waits_for);
        if (first->waits_mask)
            fprintf(stderr, " of mask %08x", first->waits_mask);
        else
            fprintf(stderr, " %u (%u have arrived)", first->waits_id, the_block->barriers[first->waits_id].n_arrived);
        fprintf(stderr, "\n");
    }
}

} // namespace

struct emulation_thread *emulation_thread_now;
uint3 emulation_block_index;
dim3 emulation_block_size, emulation_grid_size;

void emulation_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated device: ");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    if (the_block && emulation_thread_now) {
        uint3 b = emulation_block_index, t = emulation_thread_now->index;
        fprintf(stderr, "  in block (%u, %u, %u), thread (%u, %u, %u) of launch(%s)\n", b.x, b.y, b.z, t.x, t.y, t.z,
                the_block->text);
        print_threads();
    }
    fflush(stderr);
    abort();
}

void emulation_seed(uint64_t seed) {
    the_seed = seed;
}

// -------------------------------------------------------------------------------------------------------- scheduling

// The next thread that can run: of the same warp if there is one, else of the next warp in the order.
static struct thread *next_thread() {
    struct block *block = the_block;
    for (unsigned i = 0; i < block->n_warps; i++) {
        struct warp *warp = &block->warps[block->warp_order[block->warp_place]];
        if (warp->ready) return warp->threads[warp->order[__builtin_ctz(warp->ready)]];
        block->warp_place = block->warp_place + 1 == block->n_warps ? 0 : block->warp_place + 1;
    }
    return nullptr;
}

// Leaves a thread that has just cleared its `ready` bit, until somebody sets it again.
static void leave() {
    struct thread *from = self(), *to = next_thread();
    if (!to && the_block->n_alive > 0) emulation_fail("no thread can go on: all wait");
    if (to == from) return;
    emulation_thread_now = to;
    fiber_switch(&from->fiber, to ? &to->fiber : &the_block->host);
}

static void barrier_release(unsigned id) {
    struct block *block = the_block;
    struct barrier *barrier = &block->barriers[id];
    barrier->result = barrier->n_predicates;
    barrier->n_arrived = barrier->n_predicates = barrier->n_expected = 0;
    for (unsigned i = 0; i < block->n_warps; i++) {
        block->warps[i].ready |= block->warps[i].at_barrier[id];
        block->warps[i].at_barrier[id] = 0;
    }
    shuffle(block->warp_order, block->n_warps);
}

// A barrier without a number waits for the threads that have not exited.
static void barrier_zero_check() {
    struct barrier *barrier = &the_block->barriers[0];
    if (barrier->n_arrived && !barrier->n_expected && barrier->n_arrived >= the_block->n_alive) barrier_release(0);
}

static void barrier_arrive(unsigned id, unsigned n_threads, bool predicate) {
    if (id >= BARRIERS) emulation_fail("barrier %u: there are %d", id, BARRIERS);
    if (n_threads % LANES) emulation_fail("barrier %u for %u threads: not a multiple of 32", id, n_threads);
    if (id && !n_threads) emulation_fail("barrier %u without a number of threads", id);
    struct barrier *barrier = &the_block->barriers[id];
    if (barrier->n_arrived && barrier->n_expected != n_threads)
        emulation_fail("barrier %u for %u threads, where others said %u", id, n_threads, barrier->n_expected);
    barrier->n_expected = n_threads;
    barrier->n_arrived++;
    barrier->n_predicates += predicate;
}

int emulation_barrier(unsigned id, unsigned n_threads, bool predicate) {
    struct thread *thread = self();
    barrier_arrive(id, n_threads, predicate);
    struct barrier *barrier = &the_block->barriers[id];
    struct warp *warp = thread->warp;
    unsigned place = 1u << warp->place[thread->lane];
    warp->ready &= ~place;
    warp->at_barrier[id] |= place;
    if (n_threads && barrier->n_arrived == n_threads)
        barrier_release(id);
    else if (!n_threads)
        barrier_zero_check();
    thread->waits_for = "barrier", thread->waits_mask = 0, thread->waits_id = id;
    leave();
    thread->waits_for = nullptr;
    return (int)barrier->result;
}

void emulation_barrier_arrive(unsigned id, unsigned n_threads) {
    if (!n_threads) emulation_fail("an arrival at barrier %u without a number of threads", id);
    barrier_arrive(id, n_threads, false);
    if (the_block->barriers[id].n_arrived == n_threads) barrier_release(id);
}

static void check_alike(const struct warp *warp, unsigned lane, unsigned mask) {
    const struct thread *mine = warp->threads[lane];
    for (unsigned other = 0; other < LANES; other++) {
        if (!(mask >> other & 1)) continue;
        if (warp->operation[other] == warp->operation[lane] && warp->mask[other] == warp->mask[lane]) continue;
        emulation_fail("lane %u is at %s of mask %08x, lane %u of the same warp at %s of mask %08x", lane,
                       mine->waits_for, warp->mask[lane], other, warp->threads[other]->waits_for, warp->mask[other]);
    }
}

static void make_ready(struct warp *warp, unsigned mask) {
    if (mask == warp->existing) {
        warp->ready = mask;
        return;
    }
    for (unsigned lane = 0; lane < LANES; lane++)
        if (mask >> lane & 1) warp->ready |= 1u << warp->place[lane];
}

void emulation_collective(emulation_operation *operation, const char *name, unsigned mask, void *argument) {
    struct thread *thread = self();
    struct warp *warp = thread->warp;
    unsigned lane = thread->lane;
    mask &= warp->existing;
    thread->waits_for = name, thread->waits_mask = mask;
    if (!(mask >> lane & 1)) emulation_fail("lane %u calls %s with mask %08x, in which it is not", lane, name, mask);
    if (mask & ~warp->alive) emulation_fail("%s of mask %08x: lanes %08x have exited", name, mask, mask & ~warp->alive);
    warp->operation[lane] = operation, warp->mask[lane] = mask, warp->argument[lane] = argument;
    warp->waiting |= 1u << lane;
    if ((warp->waiting & mask) == mask) {
        check_alike(warp, lane, mask);
        operation(warp->argument, mask);
        warp->waiting &= ~mask;
        make_ready(warp, mask);
    } else {
        warp->ready &= ~(1u << warp->place[lane]);
        leave();
    }
    thread->waits_for = nullptr;
}

static void thread_exit() {
    struct thread *thread = self();
    struct warp *warp = thread->warp;
    unsigned bit = 1u << thread->lane;
    for (unsigned lane = 0; warp->waiting && lane < LANES; lane++) {
        if (warp->waiting >> lane & 1 && warp->mask[lane] & bit)
            emulation_fail("lane %u exits while lane %u waits for it at %s of mask %08x", thread->lane, lane,
                           warp->threads[lane]->waits_for, warp->mask[lane]);
    }
    warp->alive &= ~bit;
    warp->ready &= ~(1u << warp->place[thread->lane]);
    thread->fiber.ended = true;
    the_block->n_alive--;
    barrier_zero_check();
    leave();
}

__attribute__((no_sanitize("address"))) static void thread_main() {
    fiber_entered(&the_block->host);
    (*the_block->kernel)();
    thread_exit();
    __builtin_unreachable();
}

// ------------------------------------------------------------------------------------------------------------ blocks

extern "C" {
// Set by the linker; absent when no kernel has static shared variables.
extern char __start_optima_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_optima_shared[] __attribute__((weak, visibility("hidden")));
}

// AddressSanitizer's redzones lie between the variables: not a checked memset.
__attribute__((no_sanitize("address"), noinline)) static void poison(void *from, size_t n_bytes) {
#if defined(__x86_64__)
    __asm__ volatile("rep stosb" : "+D"(from), "+c"(n_bytes) : "a"(POISON) : "memory");
#else
    for (volatile char *p = static_cast<volatile char *>(from); n_bytes--; p++) *p = (char)POISON;
#endif
}

// Dynamic shared memory ends where a guard page begins, but for its alignment.
static size_t shared_rounded() {
    return (the_block->shared_bytes + 127) & ~(size_t)127;
}

void *emulation_dynamic_shared(void) {
    if (!the_block->shared_bytes) emulation_fail("a kernel launched without dynamic shared memory uses it");
    return the_shared + SHARED_BYTES_MAX - shared_rounded();
}

static void shared_open() {
    if (the_shared) return;
    void *memory =
        mmap(nullptr, SHARED_BYTES_MAX + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) perror("shared memory of emulated blocks"), abort();
    the_shared = static_cast<char *>(memory);
    mprotect(the_shared + SHARED_BYTES_MAX, PAGE_BYTES, PROT_NONE);
}

static void thread_begin(unsigned i, dim3 size) {
    struct thread *thread = &the_block->threads[i];
    struct warp *warp = &the_block->warps[i / LANES];
    thread->index = make_uint3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
    thread->lane = i % LANES;
    thread->linear = i;
    thread->warp = warp;
    thread->waits_for = nullptr;
    thread->n_groups = 0, thread->n_copied = 0;
    thread->copies.clear();
    warp->threads[thread->lane] = thread;
    warp->existing |= 1u << thread->lane;
    fiber_begin(&thread->fiber, (int)i, thread_main);
}

static void warp_begin(struct warp *warp) {
    unsigned n = (unsigned)__builtin_popcount(warp->existing);
    for (unsigned i = 0; i < n; i++) warp->order[i] = (uint8_t)i;
    shuffle(warp->order, n);
    for (unsigned i = 0; i < n; i++) warp->place[warp->order[i]] = (uint8_t)i;
    warp->alive = warp->ready = warp->existing;
}

static void run_block(uint3 index, dim3 size) {
    struct block *block = the_block;
    emulation_block_index = index;
    block->n_threads = block->n_alive = size.x * size.y * size.z;
    block->n_warps = (block->n_threads + LANES - 1) / LANES;
    block->warp_place = 0;
    block->has_waited = false;
    memset(block->warps, 0, sizeof(struct warp) * block->n_warps);
    memset(block->barriers, 0, sizeof block->barriers);
    for (unsigned i = 0; i < block->n_threads; i++) thread_begin(i, size);
    for (unsigned i = 0; i < block->n_warps; i++) warp_begin(&block->warps[i]), block->warp_order[i] = i;
    shuffle(block->warp_order, block->n_warps);
    poison(the_shared + SHARED_BYTES_MAX - shared_rounded(), shared_rounded());
    if (__start_optima_shared) poison(__start_optima_shared, (size_t)(__stop_optima_shared - __start_optima_shared));
    // The first block stands for all: to take pages away and give them back takes as long as a small block.
    if (block->overlap && index.x + index.y + index.z == 0) emulation_access_before_wait(true);
    block->host = {};
    emulation_thread_now = next_thread();
    fiber_switch(&block->host, &self()->fiber);
    if (block->overlap && !block->has_waited)
        emulation_fail("launch(%s) overlaps the kernel before it, but block (%u, %u, %u) never calls dependency_wait",
                       block->text, index.x, index.y, index.z);
}

void emulation_run_grid(const char *text, dim3 grid, dim3 size, size_t shared_bytes, bool overlap,
                        const std::function<void()> &kernel) {
    std::lock_guard<std::recursive_mutex> turn(the_turn);
    if (emulation_thread_now) emulation_fail("a launch inside a kernel");
    static struct block *block = new struct block();
    the_block = block;
    block->text = text, block->kernel = &kernel;
    block->shared_bytes = shared_bytes, block->overlap = overlap;
    block->random = the_seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    shared_open();
    emulation_block_size = size, emulation_grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) run_block(make_uint3(x, y, z), size);
    emulation_thread_now = nullptr;
}

void emulation_dependency_wait(void) {
    if (the_block->overlap && !the_block->has_waited) emulation_access_before_wait(false);
    the_block->has_waited = true;
}

// ----------------------------------------------------------------------------------------------- asynchronous copies

void emulation_copy_async(void *shared, const void *global, bool valid) {
    if ((uintptr_t)shared % 16 || (valid && (uintptr_t)global % 16))
        emulation_fail("copy_async_16 from %p to %p: addresses must be multiples of 16", global, shared);
    struct thread *thread = self();
    memset(shared, POISON, 16);
    thread->copies.push_back({shared, global, valid, thread->n_groups});
}

void emulation_copy_async_commit(void) {
    self()->n_groups++;
}

void emulation_copy_async_wait(unsigned n_groups_pending) {
    struct thread *thread = self();
    while (thread->n_copied < thread->copies.size()) {
        const copy *next = &thread->copies[thread->n_copied];
        if (next->group + n_groups_pending >= thread->n_groups) return;
        if (next->valid)
            memcpy(next->to, next->from, 16);
        else
            memset(next->to, 0, 16);
        thread->n_copied++;
    }
    thread->copies.clear();
    thread->n_copied = 0;
}
