// What the owners of memory say that they take is what the heap holds for them.
#include "models/chat_template.h"
#include "models/model.h"
#include "models/tokenizer.h"
#include "scheduler/scheduler.h"
#include "tests/test.h"

#include <malloc.h>

static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// The heap rounds up and keeps its own books; small things are not counted. The sanitizers have a heap of their own,
// which holds nothing here.
static void expect_close(size_t counted, size_t before, size_t after) {
    if (after == before) return;
    size_t held = after - before;
    if (counted > held || counted + held / 5 + 8192 < held)
        fail_msg("%zu bytes are counted, the heap holds %zu", counted, held);
}

static void text_is_counted(void **state) {
    (void)state;
    struct model_text text;
    struct err err = {0};
    size_t before = heap_bytes();
    assert_int_equal(model_text_open(&text, "demo", &err), 0);
    size_t after = heap_bytes();
    expect_close(tokenizer_bytes(text.tokenizer) + chat_template_bytes(text.chat_template), before, after);
    model_text_close(&text);
}

static void the_scheduler_is_counted(void **state) {
    (void)state;
    const struct engine_limits limits = {.context = 1024,
                                         .rows_max = 512,
                                         .sequences_max = 128,
                                         .logit_rows_max = 128,
                                         .block_tokens = 16,
                                         .n_blocks = 8192,
                                         .block_table_max = 8192,
                                         .edits_max = 1024,
                                         .seen_max = 4096,
                                         .steps_in_flight = 2,
                                         .vocab = 512};
    size_t before = heap_bytes();
    struct scheduler *scheduler = scheduler_open(&(struct scheduler_options){.limits = &limits});
    size_t after = heap_bytes();
    expect_close(scheduler_bytes(scheduler), before, after);
    scheduler_close(scheduler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_counted),
        cmocka_unit_test(the_scheduler_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
