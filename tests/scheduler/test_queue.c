// Keys that wait get equal service, whatever they ask for and however many requests they send.
#include "tests/test.h"

#include "scheduler/queue.h"

enum { KEYS = 3, EACH = 400 };

// Requests of one choice each, enough for the queue.
struct crowd {
    struct request requests[KEYS][EACH];
    struct sequence sequences[KEYS][EACH];
};

static struct sequence *arrive(struct queue *queue, struct crowd *crowd, int key, int i) {
    struct request *request = &crowd->requests[key][i];
    struct sequence *sequence = &crowd->sequences[key][i];
    *request = (struct request){.generation = {.key_id = (uint64_t)key + 100}};
    *sequence = (struct sequence){.request = request, .state = SEQUENCE_HELD, .choice = i};
    request->key_index = queue_enter(queue, request->generation.key_id);
    queue_append(queue, sequence);
    return sequence;
}

// Serves the next sequence at a cost; returns its key's number.
static int serve(struct queue *queue, const int64_t *cost_of_key) {
    struct sequence *sequence = queue_first(queue);
    int key = (int)sequence->request->generation.key_id - 100;
    queue_remove(queue, sequence);
    queue_charge(queue, sequence->request->key_index, cost_of_key[key]);
    queue_leave(queue, sequence->request->key_index);
    return key;
}

static void service_is_equal_while_all_wait(void **state) {
    (void)state;
    static const struct {
        int64_t cost[KEYS];
    } rows[] = {{{10, 10, 10}}, {{1, 10, 100}}, {{1000, 1, 1}}, {{7, 300, 13}}};
    static struct crowd crowd;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct queue queue = {0};
        for (int key = 0; key < KEYS; key++)
            for (int i = 0; i < EACH; i++) arrive(&queue, &crowd, key, i);
        int64_t served[KEYS] = {0}, largest = 0;
        int n[KEYS] = {0};
        for (int key = 0; key < KEYS; key++) largest = rows[r].cost[key] > largest ? rows[r].cost[key] : largest;
        while (n[0] < EACH && n[1] < EACH && n[2] < EACH) {
            int key = serve(&queue, rows[r].cost);
            served[key] += rows[r].cost[key];
            n[key]++;
            // Nobody who waits is further behind than by one largest request.
            for (int a = 0; a < KEYS; a++)
                for (int b = 0; b < KEYS; b++) assert_true(served[a] - served[b] <= largest);
        }
        queue_check_integrity(&queue);
        queue_close(&queue);
    }
}

static void one_request_of_another_key_passes_a_flood(void **state) {
    (void)state;
    static struct crowd crowd;
    static const int64_t cost[KEYS] = {50, 50, 50};
    struct queue queue = {0};
    for (int i = 0; i < EACH; i++) arrive(&queue, &crowd, 0, i);
    for (int i = 0; i < 100; i++) assert_int_equal(serve(&queue, cost), 0);
    arrive(&queue, &crowd, 1, 0);
    int n_before = 0;
    while (serve(&queue, cost) != 1) n_before++;
    assert_true(n_before <= 1);
    queue_close(&queue);
}

static void a_pause_saves_up_no_claim_and_loses_no_debt(void **state) {
    (void)state;
    static struct crowd crowd;
    static const int64_t cost[KEYS] = {10, 10, 10};
    struct queue queue = {0};
    int next[KEYS] = {0};
    for (int i = 0; i < 100; i++) arrive(&queue, &crowd, 0, next[0]++);
    for (int i = 0; i < 50; i++) serve(&queue, cost);
    // Key 1 was away: from now on both get the same, it does not get fifty turns in a row.
    for (int i = 0; i < 100; i++) arrive(&queue, &crowd, 1, next[1]++);
    int n[KEYS] = {0};
    for (int i = 0; i < 40; i++) n[serve(&queue, cost)]++;
    assert_in_range(n[1], 19, 21);
    // A key with a large debt does not lose it by leaving for a moment.
    queue_charge(&queue, crowd.requests[1][99].key_index, 200);
    while (queue.items[crowd.requests[1][99].key_index].n_queued) {
        struct sequence *s = queue.items[crowd.requests[1][99].key_index].first;
        queue_remove(&queue, s);
        queue_leave(&queue, s->request->key_index);
    }
    arrive(&queue, &crowd, 1, next[1]++);
    for (int i = 0; i < 19; i++) assert_int_equal(serve(&queue, cost), 0);
    queue_check_integrity(&queue);
    queue_close(&queue);
}

static void within_a_key_order_is_kept(void **state) {
    (void)state;
    static struct crowd crowd;
    struct queue queue = {0};
    for (int i = 0; i < 5; i++) arrive(&queue, &crowd, 0, i);
    queue_remove(&queue, &crowd.sequences[0][2]);
    crowd.sequences[0][2].state = SEQUENCE_HELD;
    queue_prepend(&queue, &crowd.sequences[0][2]);
    queue_check_integrity(&queue);
    static const int32_t order[] = {2, 0, 1, 3, 4};
    for (int i = 0; i < 5; i++) {
        struct sequence *sequence = queue_first(&queue);
        assert_int_equal(sequence->choice, order[i]);
        queue_remove(&queue, sequence);
        queue_leave(&queue, sequence->request->key_index);
    }
    assert_null(queue_first(&queue));
    queue_close(&queue);
}

static void keys_without_debt_take_no_memory(void **state) {
    (void)state;
    struct queue queue = {0};
    for (uint64_t id = 0; id < 10000; id++) queue_leave(&queue, queue_enter(&queue, id));
    assert_int_equal(queue.count, 1);
    queue_close(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_is_equal_while_all_wait),
        cmocka_unit_test(one_request_of_another_key_passes_a_flood),
        cmocka_unit_test(a_pause_saves_up_no_claim_and_loses_no_debt),
        cmocka_unit_test(within_a_key_order_is_kept),
        cmocka_unit_test(keys_without_debt_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
