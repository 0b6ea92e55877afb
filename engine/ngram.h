// Finds the last earlier occurrence of a sequence's end.
#pragma once

#include "engine/proposer.h"

enum { NGRAM_MIN = 2, NGRAM_MAX = 24 }; // tokens that must agree; from NGRAM_MAX on the last occurrence is the best

// The position behind the occurrence, whose tokens are the guess; *n_matched: how many tokens before it agree with the
// sequence's end, NGRAM_MIN..NGRAM_MAX. -1: there is none. Longer matches first, later ones first among equals.
int32_t ngram_find(const struct draft_query *query, int32_t *n_matched);

// Proposes what follows `from`, a result of ngram_find.
void ngram_continue(struct draft_query *query, int32_t from, int32_t n_matched);

// How sure a match of that length is.
int32_t ngram_strength(int32_t n_matched);
