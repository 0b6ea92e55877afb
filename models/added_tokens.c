#include "models/added_tokens.h"

#include "models/unicode.h"

#include <stdlib.h>
#include <string.h>

struct added_node {
    uint32_t child, sibling; // indexes; 0: none (0 is the root)
    uint32_t token_plus_1;   // 0: no token ends here
    unsigned char byte;
};

static uint32_t add_node(struct added_tokens *set, struct added_node node) {
    if (set->n_nodes == set->nodes_capacity) {
        set->nodes_capacity = set->nodes_capacity ? set->nodes_capacity * 2 : 64;
        set->nodes = mem_grow(set->nodes, set->nodes_capacity, sizeof *set->nodes);
    }
    set->nodes[set->n_nodes] = node;
    return (uint32_t)set->n_nodes++;
}

void added_tokens_open(struct added_tokens *set) {
    *set = (struct added_tokens){0};
    add_node(set, (struct added_node){0});
}

void added_tokens_close(struct added_tokens *set) {
    free(set->tokens);
    free(set->nodes);
    *set = (struct added_tokens){0};
}

size_t added_tokens_bytes(const struct added_tokens *set) {
    return set->tokens_capacity * sizeof *set->tokens + set->nodes_capacity * sizeof *set->nodes;
}

static uint32_t find_child(const struct added_tokens *set, uint32_t node, unsigned char byte) {
    uint32_t child = set->nodes[node].child;
    while (child && set->nodes[child].byte != byte) child = set->nodes[child].sibling;
    return child;
}

void added_tokens_add(struct added_tokens *set, struct str_view content, struct added_token token) {
    if (!content.n_bytes) return;
    uint32_t node = 0;
    for (size_t i = 0; i < content.n_bytes; i++) {
        unsigned char byte = (unsigned char)content.data[i];
        uint32_t child = find_child(set, node, byte);
        if (!child) {
            child = add_node(set, (struct added_node){.sibling = set->nodes[node].child, .byte = byte});
            set->nodes[node].child = child;
        }
        node = child;
    }
    if (set->n_tokens == set->tokens_capacity) {
        set->tokens_capacity = set->tokens_capacity ? set->tokens_capacity * 2 : 16;
        set->tokens = mem_grow(set->tokens, set->tokens_capacity, sizeof *set->tokens);
    }
    bool anywhere = !token.special && unicode_run(content, 0, UNICODE_SPACE, false) == content.n_bytes;
    set->tokens[set->n_tokens].token = token;
    set->tokens[set->n_tokens].anywhere = anywhere;
    set->nodes[node].token_plus_1 = (uint32_t)++set->n_tokens;
    set->first_bytes[(unsigned char)content.data[0]] |= anywhere ? 3 : 1;
    set->any_anywhere |= anywhere;
}

// The longest token at `at` that may match there; its index + 1, or 0. trusted_end: where the trusted part around `at`
// ends (in the searched text), or 0.
static uint32_t longest_at(const struct added_tokens *set, struct str_view text, size_t at, size_t trusted_end,
                           size_t *end) {
    uint32_t node = 0, best = 0;
    size_t last = set->any_anywhere ? text.n_bytes : trusted_end;
    for (size_t i = at; i < last; i++) {
        node = find_child(set, node, (unsigned char)text.data[i]);
        if (!node) break;
        uint32_t token = set->nodes[node].token_plus_1;
        if (!token || (i >= trusted_end && !set->tokens[token - 1].anywhere)) continue;
        best = token;
        *end = i + 1;
    }
    return best;
}

static bool word_before(struct str_view text, size_t at) {
    if (!at) return false;
    do at--;
    while (at > 0 && ((unsigned char)text.data[at] & 0xc0) == 0x80);
    size_t length;
    return unicode_class_at(text, at, &length) & UNICODE_WORD;
}

static bool word_after(struct str_view text, size_t at) {
    size_t length;
    return unicode_class_at(text, at, &length) & UNICODE_WORD;
}

// The beginning of the white space that ends at `at`, not before `floor`.
static size_t space_begin(struct str_view text, size_t at, size_t floor) {
    while (at > floor) {
        size_t begin = at - 1, length;
        while (begin > floor && ((unsigned char)text.data[begin] & 0xc0) == 0x80) begin--;
        if (!(unicode_class_at(text, begin, &length) & UNICODE_SPACE)) break;
        at = begin;
    }
    return at;
}

// Where the trusted part that holds search->at ends, in the searched text; 0 when that part is not trusted, and then
// *part_end is where it ends.
static size_t find_trusted_end(struct added_search *search, size_t *part_end) {
    const struct prompt_text *trust = search->trust;
    size_t at = search->offset + search->at;
    prompt_text_seek(trust, at, &search->part);
    size_t end = search->part < trust->n_parts ? trust->parts[search->part].end - search->offset : search->text.n_bytes;
    *part_end = end < search->text.n_bytes ? end : search->text.n_bytes;
    return search->part < trust->n_parts && trust->parts[search->part].trusted ? *part_end : 0;
}

// Moves to the next place where a token ends up matching; its index + 1, or 0 at the end of the text.
static uint32_t seek_token(struct added_search *search, size_t *end) {
    const struct added_tokens *set = search->set;
    while (search->at < search->text.n_bytes) {
        size_t part_end, trusted_end = find_trusted_end(search, &part_end);
        uint8_t wanted = trusted_end ? 1 : 2;
        if (wanted == 2 && !set->any_anywhere) search->at = part_end;
        for (; search->at < part_end; search->at++) {
            if (!(set->first_bytes[(unsigned char)search->text.data[search->at]] & wanted)) continue;
            uint32_t token = longest_at(set, search->text, search->at, trusted_end, end);
            if (token) return token;
        }
    }
    return 0;
}

bool added_search_next(struct added_search *search, struct added_match *match) {
    if (!search->set->n_tokens) return false;
    size_t end;
    for (uint32_t index; (index = seek_token(search, &end));) {
        const struct added_token *token = &search->set->tokens[index - 1].token;
        struct text_range range = {search->at, end};
        search->at = end;
        if (token->single_word && (word_before(search->text, range.begin) || word_after(search->text, range.end)))
            continue;
        if (token->strip_left)
            range.begin =
                space_begin(search->text, range.begin, search->done < range.begin ? search->done : range.begin);
        if (token->strip_right) range.end = unicode_run(search->text, range.end, UNICODE_SPACE, false);
        search->done = range.end;
        *match = (struct added_match){token, range};
        return true;
    }
    return false;
}
