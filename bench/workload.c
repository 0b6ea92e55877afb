#include "bench/workload.h"
#include "base/json.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Common words, mostly of one token.
static const char *const words[] = {
    "the",   "of",    "and",    "to",      "in",     "is",     "that",  "it",    "was",  "for",   "on",     "are",
    "as",    "with",  "they",   "at",      "be",     "this",   "have",  "from",  "or",   "one",   "had",    "by",
    "word",  "but",   "not",    "what",    "all",    "were",   "we",    "when",  "your", "can",   "said",   "there",
    "use",   "an",    "each",   "which",   "she",    "do",     "how",   "their", "if",   "will",  "up",     "other",
    "about", "out",   "many",   "then",    "them",   "these",  "so",    "some",  "her",  "would", "make",   "like",
    "him",   "into",  "time",   "has",     "look",   "two",    "more",  "write", "go",   "see",   "number", "no",
    "way",   "could", "people", "my",      "than",   "first",  "water", "been",  "call", "who",   "oil",    "its",
    "now",   "find",  "long",   "down",    "day",    "did",    "get",   "come",  "made", "may",   "part",   "over",
    "new",   "sound", "take",   "only",    "little", "work",   "know",  "place", "year", "live",  "me",     "back",
    "give",  "most",  "very",   "after",   "thing",  "our",    "just",  "name",  "good", "man",   "think",  "say",
    "great", "where", "help",   "through", "much",   "before", "line",  "right", "too"};
enum { N_WORDS = sizeof words / sizeof *words };
enum { KEY_PROMPT = 1, KEY_OUTPUT, KEY_TEXT, KEY_PREFIX, KEY_GROUP, KEY_BLOCK };

static uint64_t key_of(const struct workload *workload, uint64_t what, uint64_t number) {
    return rng_key(workload->options.seed, what, number);
}

static void append_words(struct str *text, uint64_t key, int64_t n_words) {
    for (int64_t i = 0; i < n_words; i++) {
        if (text->n_bytes && text->data[text->n_bytes - 1] != '"') str_append_char(text, ' ');
        str_append_text(text, words[rng_u32(key, (uint64_t)i) % N_WORDS]);
    }
}

static int64_t words_of(const struct workload *workload, double n_tokens) {
    return llround(fmax(n_tokens, 0) / workload->tokens_per_word);
}

static const struct trace_item *item_of(const struct workload *workload, const struct session *session) {
    const struct trace *trace = workload->options.trace;
    return trace ? &trace->items.items[session->number % trace->items.count] : NULL;
}

int64_t workload_n_turns(const struct workload *workload, const struct session *session) {
    const struct trace_item *item = item_of(workload, session);
    if (item && item->n_texts > 1 && workload->options.n_turns > item->n_texts) return item->n_texts;
    return workload->options.n_turns;
}

// -------------------------------------------------------------------------------------------------------------- text

// Blocks that prompts of a trace share, then words of this session alone.
static void append_blocks(const struct workload *workload, const struct trace_item *item, struct str *text,
                          double *n_left) {
    for (uint32_t b = 0; b + 1 < item->n_blocks; b++) { // the last is the prompt's own rest
        uint64_t block = workload->options.trace->blocks.items[item->block_first + b];
        append_words(text, key_of(workload, KEY_BLOCK, block), words_of(workload, TRACE_BLOCK_TOKENS));
        *n_left -= TRACE_BLOCK_TOKENS;
    }
}

// The words of one turn as a JSON string.
static void append_prompt(const struct workload *workload, const struct session *session, struct str *out) {
    const struct workload_options *options = &workload->options;
    const struct trace_item *item = item_of(workload, session);
    if (item && item->n_texts) {
        const char *text = options->trace->texts.items[item->text_first + (uint32_t)session->turn % item->n_texts];
        json_append_string(out, text, strlen(text));
        return;
    }
    const uint64_t number = session->number * 64 + (uint64_t)session->turn;
    double n_left = item ? (double)item->n_prompt
                         : (double)amount_draw(&options->prompt_tokens, key_of(workload, KEY_PROMPT, 0), number);
    n_left -= workload->frame_tokens;
    struct str text = STR_INIT;
    if (item && session->turn == 0) append_blocks(workload, item, &text, &n_left);
    if (options->n_prefixes && session->turn == 0) {
        uint64_t group = rng_u32(key_of(workload, KEY_GROUP, 0), session->number) % (uint64_t)options->n_prefixes;
        append_words(&text, key_of(workload, KEY_PREFIX, group), words_of(workload, (double)options->prefix_tokens));
        n_left -= (double)options->prefix_tokens;
    }
    const int64_t n_words = words_of(workload, n_left);
    append_words(&text, key_of(workload, KEY_TEXT, number), n_words > 0 ? n_words : 1);
    json_append_string(out, str_text(&text), text.n_bytes);
    str_close(&text);
}

// -------------------------------------------------------------------------------------------------------------- body

static void append_tail(const struct workload *workload, struct str *body, int64_t n_output, bool stream) {
    const struct workload_options *options = &workload->options;
    str_printf(body, ",\"max_tokens\":%lld,\"temperature\":0", (long long)n_output);
    if (options->ignore_eos) str_append_text(body, ",\"ignore_eos\":true");
    if (stream) str_append_text(body, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    if (options->extra) { // an object: its members follow
        const char *first = strchr(options->extra, '{') + 1, *last = strrchr(options->extra, '}');
        while (first < last && strchr(" \t\r\n", *first)) first++;
        if (first < last) {
            str_append_char(body, ',');
            str_append(body, first, (size_t)(last - first));
        }
    }
    str_append_char(body, '}');
}

static void append_begin(const struct workload *workload, struct str *body) {
    str_append_text(body, "{\"model\":");
    json_append_string(body, workload->options.model, strlen(workload->options.model));
}

void workload_body(const struct workload *workload, struct session *session, struct str *body, int64_t *n_output) {
    const struct workload_options *options = &workload->options;
    const struct trace_item *item = item_of(workload, session);
    const uint64_t number = session->number * 64 + (uint64_t)session->turn;
    *n_output = item && item->n_output ? item->n_output
                                       : amount_draw(&options->output_tokens, key_of(workload, KEY_OUTPUT, 0), number);
    struct str prompt = STR_INIT;
    append_prompt(workload, session, &prompt);
    append_begin(workload, body);
    if (options->endpoint == ENDPOINT_CHAT) {
        str_append_text(&session->said, "{\"role\":\"user\",\"content\":");
        str_append(&session->said, prompt.data, prompt.n_bytes);
        str_append_text(&session->said, "},");
        str_append_text(body, ",\"messages\":[");
        str_append(body, session->said.data, session->said.n_bytes - 1);
        str_append_char(body, ']');
    } else {
        str_append_text(body, ",\"prompt\":");
        str_append(body, prompt.data, prompt.n_bytes);
    }
    append_tail(workload, body, *n_output, options->stream);
    str_close(&prompt);
}

void workload_answered(struct session *session, struct str_view text) {
    str_append_text(&session->said, "{\"role\":\"assistant\",\"content\":");
    json_append_string(&session->said, text.data, text.n_bytes);
    str_append_text(&session->said, "},");
}

void workload_probe(const struct workload *workload, int64_t n_words, struct str *body) {
    struct str text = STR_INIT;
    append_begin(workload, body);
    append_words(&text, key_of(workload, KEY_TEXT, (uint64_t)n_words), n_words);
    const bool chat = workload->options.endpoint == ENDPOINT_CHAT;
    str_append_text(body, chat ? ",\"messages\":[{\"role\":\"user\",\"content\":" : ",\"prompt\":");
    json_append_string(body, str_text(&text), text.n_bytes);
    if (chat) str_append_text(body, "}]");
    append_tail(workload, body, 1, false);
    str_close(&text);
}

const char *workload_path(const struct workload *workload) {
    return workload->options.endpoint == ENDPOINT_CHAT ? "/v1/chat/completions" : "/v1/completions";
}
