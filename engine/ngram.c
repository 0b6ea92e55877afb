#include "engine/ngram.h"

#include "base/mem.h"

#include <stdlib.h>

// Tokens before `end` that agree with those before the sequence's end, at most NGRAM_MAX.
static int32_t match_before(const struct draft_query *query, int32_t end) {
    int32_t n_known = draft_query_n_known(query), n = 0;
    while (n < NGRAM_MAX && n < end &&
           draft_query_token(query, end - 1 - n) == draft_query_token(query, n_known - 1 - n))
        n++;
    return n;
}

// The largest index below `end` of `token`, -1: none.
static int32_t find_last(const int32_t *tokens, int32_t end, int32_t token) {
    while (end > 0 && tokens[end - 1] != token) end--;
    return end - 1;
}

// The last position below `end` that holds `token`, -1: none.
static int32_t find_token(const struct draft_query *query, int32_t end, int32_t token) {
    if (end > query->n_prompt) {
        int32_t at = find_last(query->generated, end - query->n_prompt, token);
        if (at >= 0) return query->n_prompt + at;
        end = query->n_prompt;
    }
    return find_last(query->prompt, end, token);
}

int32_t ngram_find(const struct draft_query *query, int32_t *n_matched) {
    int32_t n_known = draft_query_n_known(query), best = -1;
    int32_t oldest = n_known > DRAFT_LOOK_BACK ? n_known - DRAFT_LOOK_BACK : 0;
    *n_matched = NGRAM_MIN - 1;
    if (n_known <= NGRAM_MIN) return -1;
    int32_t last = draft_query_token(query, n_known - 1);
    for (int32_t at = find_token(query, n_known - 1, last); at >= oldest; at = find_token(query, at, last)) {
        int32_t n = match_before(query, at + 1);
        if (n <= *n_matched) continue;
        *n_matched = n;
        best = at + 1;
        if (n == NGRAM_MAX) break;
    }
    return best;
}

int32_t ngram_strength(int32_t n_matched) {
    static const int32_t bounds[DRAFT_STRENGTHS - 1] = {3, 4, 5, 6, 8, 12, 20};
    int32_t strength = 0;
    while (strength < DRAFT_STRENGTHS - 1 && n_matched >= bounds[strength]) strength++;
    return strength;
}

void ngram_continue(struct draft_query *query, int32_t from, int32_t n_matched) {
    int32_t n_known = draft_query_n_known(query);
    query->strength = ngram_strength(n_matched);
    // Behind the end, a repetition goes on with what was just proposed.
    for (int32_t at = from; query->n < query->n_max; at++)
        query->tokens[query->n++] = at < n_known ? draft_query_token(query, at) : query->tokens[at - n_known];
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    (void)proposer;
    for (int32_t i = 0; i < n_queries; i++) {
        int32_t n_matched, from = ngram_find(&queries[i], &n_matched);
        if (from >= 0) ngram_continue(&queries[i], from, n_matched);
    }
}

static size_t bytes(const struct proposer *proposer) {
    return sizeof *proposer;
}

static void close_proposer(struct proposer *proposer) {
    free(proposer);
}

struct proposer *ngram_proposer_open(void) {
    struct proposer *proposer = mem_alloc_zero(1, sizeof *proposer);
    *proposer = (struct proposer){.name = "ngram", .propose = propose, .bytes = bytes, .close = close_proposer};
    return proposer;
}
