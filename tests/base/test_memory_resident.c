// A mapping is resident where it was touched.
#include "tests/test.h"

#include "base/memory_resident.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void only_touched_pages_count(void **state) {
    (void)state;
    enum { PAGES = 40000 };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *data = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(data != MAP_FAILED);
    madvise(data, PAGES * page, MADV_NOHUGEPAGE);
    assert_int_equal(memory_resident_bytes(data, PAGES * page), 0);
    memset(data, 1, 3 * page);
    data[20000 * page] = 1;
    data[(PAGES - 1) * page] = 1;
    assert_int_equal(memory_resident_bytes(data, PAGES * page), 5 * page);
    // The page in which a range begins belongs to the range before.
    assert_int_equal(memory_resident_bytes(data + 100, 2 * page), 2 * page);
    assert_int_equal(memory_resident_bytes(data, 100), page);
    munmap(data, PAGES * page);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_touched_pages_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
