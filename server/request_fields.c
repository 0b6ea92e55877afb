#include "server/request_fields.h"

#include "base/json.h"
#include "server/request_readers.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum field_kind {
    FIELD_BOOL,    // bool
    FIELD_INT,     // int64_t within min..max
    FIELD_NUMBER,  // double within min..max
    FIELD_TEXT,    // const char * of 1..max bytes
    FIELD_READER,  // read by a function of its own
    FIELD_IGNORED, // known and without effect here
    FIELD_LACKING, // a feature that does not exist here: only the harmless value passes
};

enum harmless { HARMLESS_NOTHING = 0, HARMLESS_FALSE = 1, HARMLESS_EMPTY_ARRAY = 2, HARMLESS_EMPTY_TEXT = 4 };

struct request_field {
    const char *name;
    unsigned endpoints;
    enum field_kind kind;
    size_t offset; // in struct request
    double min, max;
    double initial;       // for FIELD_BOOL, FIELD_INT, FIELD_NUMBER
    size_t given_offset;  // a bool that becomes true when the field is there; 0: none
    unsigned harmless;    // for FIELD_LACKING
    field_reader *reader; // for FIELD_READER
    bool takes_null;      // null is a value of its own
};

#define AT(member) offsetof(struct request, member)
#define CHAT ENDPOINT_CHAT
#define COMP ENDPOINT_COMPLETIONS
#define BOTH (ENDPOINT_CHAT | ENDPOINT_COMPLETIONS)

// clang-format off
static const struct request_field fields[] = {
    {"model", BOTH, FIELD_TEXT, AT(model), .max = 4096},
    {"messages", CHAT, FIELD_READER, .reader = read_messages},
    {"prompt", COMP, FIELD_READER, .reader = read_prompt, .takes_null = true},

    {"temperature", BOTH, FIELD_NUMBER, AT(temperature), .min = 0, .max = 2, .initial = NAN},
    {"top_p", BOTH, FIELD_NUMBER, AT(top_p), .min = 0, .max = 1, .initial = NAN},
    {"top_k", BOTH, FIELD_INT, AT(top_k), .min = -1, .max = INT32_MAX, .initial = -0x1p63},
    {"min_p", BOTH, FIELD_NUMBER, AT(min_p), .min = 0, .max = 1, .initial = 0},
    {"presence_penalty", BOTH, FIELD_NUMBER, AT(presence_penalty), .min = -2, .max = 2, .initial = 0},
    {"frequency_penalty", BOTH, FIELD_NUMBER, AT(frequency_penalty), .min = -2, .max = 2, .initial = 0},
    {"repetition_penalty", BOTH, FIELD_NUMBER, AT(repetition_penalty), .min = 0.01, .max = 100, .initial = NAN},
    {"seed", BOTH, FIELD_INT, AT(seed), .min = -0x1p63, .max = 0x1p63, .initial = 0, .given_offset = AT(has_seed)},
    {"logit_bias", BOTH, FIELD_READER, .reader = read_logit_bias},
    {"n", BOTH, FIELD_INT, AT(n_choices), .min = 1, .max = GENERATION_CHOICES_MAX, .initial = 1},
    {"best_of", BOTH, FIELD_READER, .reader = read_best_of},

    {"max_tokens", CHAT, FIELD_INT, AT(max_tokens), .min = 1, .max = INT32_MAX, .initial = -1},
    {"max_tokens", COMP, FIELD_INT, AT(max_tokens), .min = 0, .max = INT32_MAX, .initial = -1},
    // Behind max_tokens, so that it wins.
    {"max_completion_tokens", CHAT, FIELD_INT, AT(max_tokens), .min = 1, .max = INT32_MAX, .initial = -1},
    {"min_tokens", BOTH, FIELD_INT, AT(min_tokens), .min = 0, .max = INT32_MAX, .initial = 0},
    {"stop", BOTH, FIELD_READER, .reader = read_stop},
    {"stop_token_ids", BOTH, FIELD_READER, .reader = read_stop_token_ids},
    {"ignore_eos", BOTH, FIELD_BOOL, AT(ignore_eos), .initial = false},
    {"include_stop_str_in_output", BOTH, FIELD_BOOL, AT(include_stop), .initial = false},
    {"skip_special_tokens", BOTH, FIELD_BOOL, AT(skip_special), .initial = true},

    {"logprobs", CHAT, FIELD_BOOL, AT(chat_logprobs), .initial = false},
    {"top_logprobs", CHAT, FIELD_INT, AT(n_top_logprobs), .min = 0, .max = TOP_LOGPROBS_MAX, .initial = -1},
    {"logprobs", COMP, FIELD_INT, AT(n_top_logprobs), .min = 0, .max = TOP_LOGPROBS_MAX, .initial = -1},
    {"prompt_logprobs", BOTH, FIELD_INT, AT(n_prompt_top_logprobs), .min = 0, .max = TOP_LOGPROBS_MAX, .initial = -1},
    {"echo", COMP, FIELD_BOOL, AT(echo), .initial = false},
    {"stream", BOTH, FIELD_BOOL, AT(stream), .initial = false},
    {"stream_options", BOTH, FIELD_READER, .reader = read_stream_options},

    {"add_special_tokens", CHAT, FIELD_BOOL, AT(add_special), .initial = false},
    {"add_special_tokens", COMP, FIELD_BOOL, AT(add_special), .initial = true},
    {"add_generation_prompt", CHAT, FIELD_BOOL, AT(add_generation_prompt), .initial = true,
     .given_offset = AT(has_add_generation_prompt)},
    {"continue_final_message", CHAT, FIELD_BOOL, AT(continue_final_message), .initial = false},
    {"chat_template_kwargs", CHAT, FIELD_READER, .reader = read_template_kwargs},
    {"reasoning_effort", CHAT, FIELD_READER, .reader = read_reasoning_effort},
    {"cache_salt", BOTH, FIELD_TEXT, AT(cache_salt), .max = 1024},

    {"response_format", BOTH, FIELD_READER, .reader = read_response_format},
    {"tool_choice", CHAT, FIELD_READER, .reader = read_tool_choice},
    {"function_call", CHAT, FIELD_READER, .reader = read_tool_choice},
    {"modalities", CHAT, FIELD_READER, .reader = read_modalities},

    {"tools", CHAT, FIELD_LACKING, .harmless = HARMLESS_EMPTY_ARRAY},
    {"functions", CHAT, FIELD_LACKING, .harmless = HARMLESS_EMPTY_ARRAY},
    {"audio", CHAT, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"web_search_options", CHAT, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"chat_template", CHAT, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"echo", CHAT, FIELD_LACKING, .harmless = HARMLESS_FALSE},
    {"suffix", COMP, FIELD_LACKING, .harmless = HARMLESS_EMPTY_TEXT},
    {"use_beam_search", BOTH, FIELD_LACKING, .harmless = HARMLESS_FALSE},
    {"truncate_prompt_tokens", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"allowed_token_ids", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"bad_words", BOTH, FIELD_LACKING, .harmless = HARMLESS_EMPTY_ARRAY},
    {"logits_processors", BOTH, FIELD_LACKING, .harmless = HARMLESS_EMPTY_ARRAY},
    {"prompt_embeds", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"kv_transfer_params", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"return_token_ids", BOTH, FIELD_LACKING, .harmless = HARMLESS_FALSE},
    {"return_tokens_as_token_ids", BOTH, FIELD_LACKING, .harmless = HARMLESS_FALSE},
    {"structured_outputs", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"guided_json", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"guided_regex", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"guided_choice", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"guided_grammar", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},
    {"grammar", BOTH, FIELD_LACKING, .harmless = HARMLESS_EMPTY_TEXT},
    {"json_schema", BOTH, FIELD_LACKING, .harmless = HARMLESS_NOTHING},

    {"user", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"metadata", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"store", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"service_tier", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"safety_identifier", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"prompt_cache_key", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"prompt_cache_retention", .endpoints = BOTH, .kind = FIELD_IGNORED},
    {"verbosity", .endpoints = CHAT, .kind = FIELD_IGNORED},
    {"prediction", .endpoints = CHAT, .kind = FIELD_IGNORED},
    {"moderation", .endpoints = CHAT, .kind = FIELD_IGNORED},
    {"parallel_tool_calls", .endpoints = CHAT, .kind = FIELD_IGNORED},
};
// clang-format on

enum { N_FIELDS = sizeof fields / sizeof *fields, IGNORED_BYTES_MAX = 256 };

const char *request_field_name(size_t i, unsigned *endpoints) {
    if (i >= N_FIELDS) return NULL;
    *endpoints = fields[i].endpoints;
    return fields[i].name;
}

static void *place(struct request *request, size_t offset) {
    return (char *)request + offset;
}

static void set_initial(struct request *request, const struct request_field *field) {
    void *target = place(request, field->offset);
    if (field->kind == FIELD_BOOL) *(bool *)target = field->initial != 0;
    if (field->kind == FIELD_INT) *(int64_t *)target = (int64_t)field->initial;
    if (field->kind == FIELD_NUMBER) *(double *)target = field->initial;
}

static int out_of_range(const struct field_input *in, const struct request_field *field, bool integer, bool above) {
    static const char *const codes[2][2] = {{"decimal_below_min_value", "decimal_above_max_value"},
                                            {"integer_below_min_value", "integer_above_max_value"}};
    return api_error_set(in->error, 400, codes[integer][above], in->name, "'%s' must be between %.15g and %.15g.",
                         in->name, field->min, field->max);
}

static int read_int(const struct field_input *in, const struct request_field *field) {
    int64_t value = 0;
    int rc = json_read_int(in->value, &value);
    if (rc == ERR_INVALID) return field_wrong_type(in, "an integer");
    if (rc) return out_of_range(in, field, true, json_first(in->value) != '-');
    if ((double)value < field->min || (double)value > field->max)
        return out_of_range(in, field, true, (double)value > field->max);
    *(int64_t *)place(in->request, field->offset) = value;
    return 0;
}

static int read_number(const struct field_input *in, const struct request_field *field) {
    if (!json_is_number(in->value)) return field_wrong_type(in, "a number");
    double value = json_read_double(in->value);
    if (!(value >= field->min && value <= field->max)) return out_of_range(in, field, false, value > field->max);
    *(double *)place(in->request, field->offset) = value;
    return 0;
}

static int read_text(const struct field_input *in, const struct request_field *field) {
    if (json_first(in->value) != '"') return field_wrong_type(in, "a string");
    size_t n_bytes;
    const char *text = arena_json_string(in->arena, in->value, &n_bytes);
    if (n_bytes < 1 || n_bytes > (size_t)field->max)
        return api_error_set(in->error, 400, "invalid_value", in->name, "'%s' must have 1 to %.0f bytes.", in->name,
                             field->max);
    *(const char **)place(in->request, field->offset) = text;
    return 0;
}

static int read_lacking(const struct field_input *in, const struct request_field *field) {
    struct str_view v = in->value, entry;
    struct json_cursor cursor = json_enter(v);
    if (field->harmless & HARMLESS_FALSE && str_view_equal(v, STR_VIEW("false"))) return 0;
    if (field->harmless & HARMLESS_EMPTY_TEXT && str_view_equal(v, STR_VIEW("\"\""))) return 0;
    if (field->harmless & HARMLESS_EMPTY_ARRAY && json_first(v) == '[' && !json_next_element(&cursor, &entry)) return 0;
    return api_error_set(in->error, 400, "unsupported_parameter", in->name, "'%s' is not supported by this server.",
                         in->name);
}

static int read_field(const struct field_input *in, const struct request_field *field) {
    if (field->given_offset) *(bool *)place(in->request, field->given_offset) = true;
    switch (field->kind) {
    case FIELD_BOOL:
        if (json_first(in->value) != 't' && json_first(in->value) != 'f') return field_wrong_type(in, "true or false");
        *(bool *)place(in->request, field->offset) = json_first(in->value) == 't';
        return 0;
    case FIELD_INT:
        return read_int(in, field);
    case FIELD_NUMBER:
        return read_number(in, field);
    case FIELD_TEXT:
        return read_text(in, field);
    case FIELD_READER:
        return field->reader(in);
    case FIELD_LACKING:
        return read_lacking(in, field);
    case FIELD_IGNORED:
        return 0;
    }
    return 0;
}

static int note_unknown(struct str_view key, const struct request_rules *rules, struct str *ignored,
                        struct api_error *error) {
    struct str_view name = {key.data + 1, key.n_bytes - 2};
    bool plain = str_view_is_plain_name(name);
    if (rules->strict) {
        char shown[65] = "";
        if (plain && name.n_bytes < sizeof shown) memcpy(shown, name.data, name.n_bytes);
        return api_error_set(error, 400, "unknown_parameter", shown, "The request has a field that is not known here.");
    }
    if (plain && ignored->n_bytes + name.n_bytes + 2 <= IGNORED_BYTES_MAX) {
        if (ignored->n_bytes) str_append_text(ignored, ", ");
        str_append(ignored, name.data, name.n_bytes);
    }
    return 0;
}

// Where the members of the body that the endpoint knows stand; empty: absent, or null, which is the same.
static int find_fields(struct str_view body, const struct request_rules *rules, struct str_view found[N_FIELDS],
                       struct str *ignored, struct api_error *error) {
    struct json_cursor cursor = json_enter(body);
    struct str_view key, value;
    while (json_next_member(&cursor, &key, &value)) {
        size_t i = 0;
        while (i < N_FIELDS && !(fields[i].endpoints & rules->endpoint && json_string_is(key, fields[i].name))) i++;
        if (i == N_FIELDS) {
            if (note_unknown(key, rules, ignored, error)) return -1;
        } else if (json_first(value) != 'n' || fields[i].takes_null) {
            found[i] = value;
        }
    }
    return 0;
}

// Rules between fields.
static int check_together(struct request *r, const struct request_rules *rules, bool has_stream_options,
                          struct api_error *error) {
    if (r->n_choices > rules->n_choices_max)
        return api_error_set(error, 400, "integer_above_max_value", "n", "'n' must be between 1 and %d.",
                             rules->n_choices_max);
    if (has_stream_options && !r->stream)
        return api_error_set(error, 400, "invalid_value", "stream_options",
                             "'stream_options' is only allowed when 'stream' is true.");
    if (rules->endpoint == ENDPOINT_CHAT) {
        if (r->n_top_logprobs > 0 && !r->chat_logprobs)
            return api_error_set(error, 400, "invalid_value", "top_logprobs",
                                 "'top_logprobs' is only allowed when 'logprobs' is true.");
        r->n_top_logprobs = !r->chat_logprobs ? -1 : r->n_top_logprobs < 0 ? 0 : r->n_top_logprobs;
        if (r->continue_final_message && r->has_add_generation_prompt && r->add_generation_prompt)
            return api_error_set(error, 400, "invalid_value", "continue_final_message",
                                 "'continue_final_message' and 'add_generation_prompt' cannot both be true.");
        if (r->continue_final_message) r->add_generation_prompt = false;
    }
    if (r->stream && r->n_prompt_top_logprobs >= 0)
        return api_error_set(error, 400, "invalid_value", "prompt_logprobs",
                             "'prompt_logprobs' is not available when 'stream' is true.");
    if (r->max_tokens >= 0 && r->min_tokens > r->max_tokens)
        return api_error_set(error, 400, "invalid_value", "min_tokens",
                             "'min_tokens' must not be greater than the most tokens to generate.");
    return 0;
}

int request_read(struct request *out, struct arena *arena, struct str_view body, const struct request_rules *rules,
                 struct api_error *error) {
    *out = (struct request){0};
    struct str_view found[N_FIELDS] = {0};
    struct str ignored = STR_INIT;
    int rc = find_fields(body, rules, found, &ignored, error);
    out->ignored.data = arena_copy_string(arena, str_text(&ignored), ignored.n_bytes);
    out->ignored.n_bytes = ignored.n_bytes;
    str_close(&ignored);
    for (size_t i = 0; i < N_FIELDS; i++)
        if (fields[i].endpoints & rules->endpoint) set_initial(out, &fields[i]);
    bool has_stream_options = false;
    for (size_t i = 0; i < N_FIELDS && !rc; i++) {
        if (!found[i].n_bytes) continue;
        struct field_input in = {fields[i].name, found[i], out, arena, rules, error};
        rc = read_field(&in, &fields[i]);
        has_stream_options |= fields[i].reader == read_stream_options;
    }
    if (rc) return rc;
    const char *required = rules->endpoint == ENDPOINT_CHAT ? "messages" : "prompt";
    if (!(rules->endpoint == ENDPOINT_CHAT ? out->messages : out->prompt).n_bytes)
        return api_error_set(error, 400, "missing_required_parameter", required, "'%s' is required.", required);
    return check_together(out, rules, has_stream_options, error);
}

struct sample_params request_sampling(const struct request *r, const struct generation_defaults *defaults,
                                      uint64_t random_seed) {
    double temperature = !isnan(r->temperature)      ? r->temperature
                         : defaults->has_temperature ? defaults->temperature
                                                     : 1;
    double top_p = !isnan(r->top_p) ? r->top_p : defaults->has_top_p ? defaults->top_p : 1;
    double repetition = !isnan(r->repetition_penalty)      ? r->repetition_penalty
                        : defaults->has_repetition_penalty ? defaults->repetition_penalty
                                                           : 1;
    int64_t top_k = r->top_k != INT64_MIN ? r->top_k : defaults->has_top_k ? defaults->top_k : 0;
    // Where only the most probable token can remain, nothing is drawn (and nothing is divided by almost zero).
    if (top_p < 1e-5 || temperature < 1e-5) top_p = 1, temperature = 0;
    return (struct sample_params){
        .temperature = (float)temperature,
        .top_k = top_k < 0 ? 0 : (int32_t)top_k,
        .top_p = (float)top_p,
        .min_p = (float)r->min_p,
        .repetition_penalty = (float)repetition,
        .presence_penalty = (float)r->presence_penalty,
        .frequency_penalty = (float)r->frequency_penalty,
        .seed = r->has_seed ? (uint64_t)r->seed : random_seed,
        .n_top_logprobs = (int32_t)r->n_top_logprobs,
        .forced_token = -1,
    };
}
