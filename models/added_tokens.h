// Tokens that are looked for in the text itself, before the model: markers such as "<|im_start|>", runs of spaces.
//
// A match must lie inside one trusted part, so that a request cannot forge a marker. Tokens of white space alone match
// everywhere: they mark nothing, and models that have them see no other form of such text.
//
// Owner: the tokenizer. Read-only after opening.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include "models/pattern.h"
#include "models/prompt_text.h"
#include <stdbool.h>
#include <stdint.h>

struct added_token {
    int32_t id;
    bool special;                 // skipped by decoding, never the result of merging
    bool normalized;              // looked for in normalised text
    bool single_word;             // only where no word character stands beside it
    bool strip_left, strip_right; // it swallows white space on this side
};

struct added_node;

// A set of tokens to look for together: a trie over bytes.
struct added_tokens {
    struct {
        struct added_token token;
        bool anywhere; // white space alone
    } * tokens;
    size_t n_tokens, tokens_capacity;
    struct added_node *nodes; // nodes[0] is the root
    size_t n_nodes, nodes_capacity;
    uint8_t first_bytes[256]; // bit 0: begins a token; bit 1: begins one that matches anywhere
    bool any_anywhere;
};

void added_tokens_open(struct added_tokens *set);
void added_tokens_close(struct added_tokens *set);
// content: what to look for; empty content is left out. The same content twice: the later one counts.
size_t added_tokens_bytes(const struct added_tokens *set); // of memory
void added_tokens_add(struct added_tokens *set, struct str_view content, struct added_token token);

struct added_search {
    const struct added_tokens *set;
    struct str_view text;            // valid UTF-8
    const struct prompt_text *trust; // text is the range of it that begins at `offset`
    size_t offset;
    size_t at, part;
    size_t done; // where the last match ended, with the white space that it swallowed
};

struct added_match {
    const struct added_token *token;
    struct text_range range; // with swallowed white space; may begin before the previous match's end
};

// Matches from left to right, at each place the longest; false: there is none any more.
bool added_search_next(struct added_search *search, struct added_match *match);
