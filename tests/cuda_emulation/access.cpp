// Who may touch device memory, and when. The host never; a kernel that overlaps the one before it nothing that a kernel
// has written, and it may write nothing, until it calls dependency_wait. Pages are taken away and given back, and what
// kernels write is seen by the fault of the first write.
#include "internal.h"

#include <mutex>
#include <signal.h>
#include <sys/mman.h>
#include <vector>

namespace {

struct region {
    char *start;
    size_t n_bytes;
    int protection;
    bool is_written; // by a kernel whose end nothing has waited for
};

// To protect many pages takes longer than a small kernel: larger memory stays open.
const size_t BYTES_MAX = 8 << 20;

std::recursive_mutex the_lock;
std::vector<region> the_regions;
bool is_before_wait;
struct sigaction the_handler_before;

void protect(region *r, int protection) {
    if (r->protection == protection) return;
    mprotect(r->start, r->n_bytes, protection);
    r->protection = protection;
}

void forget_writes() {
    for (region &r : the_regions) r.is_written = false;
}

// What a running kernel, or a library's, may do before it faults.
void open_for_kernel() {
    for (region &r : the_regions)
        protect(&r, !r.is_written ? PROT_READ : is_before_wait ? PROT_NONE : PROT_READ | PROT_WRITE);
}

void on_fault(int, siginfo_t *info, void *) {
    const char *at = static_cast<char *>(info->si_addr);
    for (region &r : the_regions) {
        if (at < r.start || at >= r.start + r.n_bytes) continue;
        if (is_before_wait)
            emulation_fail("before dependency_wait a kernel %s",
                           r.is_written ? "touches what an earlier one has written" : "writes to device memory");
        r.is_written = true;
        protect(&r, PROT_READ | PROT_WRITE);
        return;
    }
    sigaction(SIGSEGV, &the_handler_before, nullptr); // which the same fault now reaches
}

} // namespace

void emulation_access_add(void *start, size_t n_bytes) {
    std::lock_guard<std::recursive_mutex> turn(the_lock);
    if (n_bytes > BYTES_MAX) return;
    the_regions.push_back({static_cast<char *>(start), n_bytes, PROT_READ | PROT_WRITE, false});
    protect(&the_regions.back(), PROT_NONE);
}

void emulation_access_remove(void *start) {
    std::lock_guard<std::recursive_mutex> turn(the_lock);
    for (size_t i = 0; i < the_regions.size(); i++) {
        if (the_regions[i].start != start) continue;
        protect(&the_regions[i], PROT_READ | PROT_WRITE);
        the_regions.erase(the_regions.begin() + (ptrdiff_t)i);
        return;
    }
}

void emulation_access_order(void) {
    std::lock_guard<std::recursive_mutex> turn(the_lock);
    forget_writes();
}

void emulation_access_before_wait(bool is_before) {
    if (is_before_wait == is_before) return;
    is_before_wait = is_before;
    open_for_kernel();
}

void emulation_work_run(enum emulation_work kind, const std::function<void()> &work) {
    std::lock_guard<std::recursive_mutex> turn(the_lock);
    if (kind != WORK_MARK && kind != WORK_OVERLAP) forget_writes();
    if (kind == WORK_MARK || kind == WORK_HOST) {
        work();
        return;
    }
    is_before_wait = false;
    open_for_kernel();
    for (region &r : the_regions)
        if (kind == WORK_COPY) protect(&r, PROT_READ | PROT_WRITE);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &the_handler_before);
    work();
    sigaction(SIGSEGV, &the_handler_before, nullptr);
    // Kernels follow kernels; between copies the host is not watched.
    for (region &r : the_regions)
        if (kind == WORK_COPY) protect(&r, PROT_NONE);
}
