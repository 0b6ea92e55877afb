// What followed the same words before, in the sequence itself or in answers that have ended for the same key.
//
// Each owner (key and salt) has a corpus of its own: a list of answers, and for each place in it the place before with
// the same last SUFFIX_MIN tokens, by hash. When it is full, the older half is forgotten; when there are too many
// owners, the one that was quiet longest.
#include "base/mem.h"
#include "base/rng.h"
#include "engine/ngram.h"

#include <stdlib.h>
#include <string.h>

enum {
    SUFFIX_MIN = 3,
    CORPUS_TOKENS = 1 << 17,
    CORPUS_BUCKETS = 1 << 15,
    CORPORA_MAX = 8,
    PLACES_MAX = 64,       // that are compared for one query
    ANSWER_TOKENS_MIN = 8, // shorter ones teach nothing
    SEPARATOR = -1,        // between answers
};

struct corpus {
    uint64_t owner, salt, last_use;
    int32_t *tokens;   // [CORPUS_TOKENS]; NULL: no owner
    int32_t *previous; // [CORPUS_TOKENS] index of the token behind the place before; -1: none
    int32_t *latest;   // [CORPUS_BUCKETS] the last place of each hash
    int32_t n_tokens;
};

struct suffix_proposer {
    struct proposer common;
    struct corpus corpora[CORPORA_MAX];
    uint64_t n_uses;
};

// Of the last SUFFIX_MIN tokens.
static int32_t bucket_of(int32_t a, int32_t b, int32_t c) {
    uint64_t key = rng_mix64((uint64_t)(uint32_t)a << 32 | (uint32_t)b) ^ (uint32_t)c;
    return (int32_t)(rng_mix64(key) % CORPUS_BUCKETS);
}

// Makes the place in front of token `at` known.
static void add_place(struct corpus *corpus, int32_t at) {
    const int32_t *t = corpus->tokens + at - SUFFIX_MIN;
    if (t[0] == SEPARATOR || t[1] == SEPARATOR || t[2] == SEPARATOR) return;
    int32_t *latest = &corpus->latest[bucket_of(t[0], t[1], t[2])];
    corpus->previous[at] = *latest;
    *latest = at;
}

static void push(struct corpus *corpus, int32_t token) {
    corpus->tokens[corpus->n_tokens++] = token;
    if (token != SEPARATOR && corpus->n_tokens > SUFFIX_MIN) add_place(corpus, corpus->n_tokens - 1);
}

static void forget_half(struct corpus *corpus) {
    int32_t n = corpus->n_tokens / 2;
    const int32_t *newer = corpus->tokens + corpus->n_tokens - n;
    memset(corpus->latest, -1, CORPUS_BUCKETS * sizeof *corpus->latest);
    corpus->n_tokens = 0;
    for (int32_t i = 0; i < n; i++) push(corpus, newer[i]);
}

static struct corpus *find_corpus(struct suffix_proposer *suffix, const struct draft_query *query) {
    for (int i = 0; i < CORPORA_MAX; i++) {
        struct corpus *corpus = &suffix->corpora[i];
        if (!corpus->tokens || corpus->owner != query->owner || corpus->salt != query->salt) continue;
        corpus->last_use = ++suffix->n_uses;
        return corpus;
    }
    return NULL;
}

static struct corpus *open_corpus(struct suffix_proposer *suffix, const struct draft_query *query) {
    struct corpus *corpus = &suffix->corpora[0];
    for (int i = 1; i < CORPORA_MAX; i++)
        if (suffix->corpora[i].last_use < corpus->last_use) corpus = &suffix->corpora[i];
    if (!corpus->tokens) {
        corpus->tokens = mem_alloc_zero(CORPUS_TOKENS, sizeof *corpus->tokens);
        corpus->previous = mem_alloc_zero(CORPUS_TOKENS, sizeof *corpus->previous);
        corpus->latest = mem_alloc_zero(CORPUS_BUCKETS, sizeof *corpus->latest);
    }
    corpus->owner = query->owner;
    corpus->salt = query->salt;
    corpus->last_use = ++suffix->n_uses;
    corpus->n_tokens = 0;
    memset(corpus->latest, -1, CORPUS_BUCKETS * sizeof *corpus->latest);
    return corpus;
}

static void end(struct proposer *proposer, const struct draft_query *query) {
    struct suffix_proposer *suffix = (struct suffix_proposer *)proposer;
    int32_t n = query->n_generated, first = 0;
    if (n < ANSWER_TOKENS_MIN) return;
    if (n > CORPUS_TOKENS / 4) first = n - CORPUS_TOKENS / 4;
    struct corpus *corpus = find_corpus(suffix, query);
    if (!corpus) corpus = open_corpus(suffix, query);
    while (corpus->n_tokens + n - first + 1 > CORPUS_TOKENS) forget_half(corpus);
    for (int32_t i = first; i < n; i++) push(corpus, query->generated[i]);
    push(corpus, SEPARATOR);
}

// Tokens in front of `at` that agree with the query's last ones.
static int32_t match_before(const struct corpus *corpus, int32_t at, const struct draft_query *query) {
    int32_t n_known = draft_query_n_known(query), n = 0;
    while (n < NGRAM_MAX && n < at && n < n_known &&
           corpus->tokens[at - 1 - n] == draft_query_token(query, n_known - 1 - n))
        n++;
    return n;
}

// Where in the corpus the query goes on, when more tokens than *n_matched agree there; -1: nowhere.
static int32_t find_place(const struct corpus *corpus, const struct draft_query *query, int32_t *n_matched) {
    int32_t n_known = draft_query_n_known(query), best = -1;
    if (n_known < SUFFIX_MIN) return -1;
    int32_t at = corpus->latest[bucket_of(draft_query_token(query, n_known - 3), draft_query_token(query, n_known - 2),
                                          draft_query_token(query, n_known - 1))];
    for (int32_t i = 0; i < PLACES_MAX && at >= 0; i++, at = corpus->previous[at]) {
        int32_t n = match_before(corpus, at, query);
        if (n < SUFFIX_MIN || n <= *n_matched) continue;
        *n_matched = n;
        best = at;
        if (n == NGRAM_MAX) break;
    }
    return best;
}

static void propose(struct proposer *proposer, struct draft_query *queries, int32_t n_queries) {
    struct suffix_proposer *suffix = (struct suffix_proposer *)proposer;
    for (int32_t i = 0; i < n_queries; i++) {
        struct draft_query *query = &queries[i];
        const struct corpus *corpus = find_corpus(suffix, query);
        int32_t n_matched, own = ngram_find(query, &n_matched);
        int32_t at = corpus ? find_place(corpus, query, &n_matched) : -1;
        if (at >= 0) {
            query->strength = ngram_strength(n_matched);
            while (query->n < query->n_max && at < corpus->n_tokens && corpus->tokens[at] != SEPARATOR)
                query->tokens[query->n++] = corpus->tokens[at++];
        } else if (own >= 0) {
            ngram_continue(query, own, n_matched);
        }
    }
}

static size_t bytes(const struct proposer *proposer) {
    (void)proposer;
    return sizeof(struct suffix_proposer) + CORPORA_MAX * (2 * CORPUS_TOKENS + CORPUS_BUCKETS) * sizeof(int32_t);
}

static void close_proposer(struct proposer *proposer) {
    struct suffix_proposer *suffix = (struct suffix_proposer *)proposer;
    for (int i = 0; i < CORPORA_MAX; i++) {
        free(suffix->corpora[i].tokens);
        free(suffix->corpora[i].previous);
        free(suffix->corpora[i].latest);
    }
    free(suffix);
}

struct proposer *suffix_proposer_open(void) {
    struct suffix_proposer *suffix = mem_alloc_zero(1, sizeof *suffix);
    suffix->common =
        (struct proposer){.name = "suffix", .propose = propose, .end = end, .bytes = bytes, .close = close_proposer};
    return &suffix->common;
}
