// Any bytes as the body of a request: refused, or read into values within their ranges and a context that is valid
// JSON.
#include "tests/fuzz/fuzz.h"

#include "base/json.h"
#include "server/chat_messages.h"

#include <assert.h>
#include <string.h>

void fuzz_seeds(void) {
    static const char *const seeds[] = {
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
        "[{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1.0}\"}}]}],"
        "\"n\":2}",
        "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u00e4\"},{\"text\":\"b\","
        "\"type\":\"text\"}]}],\"chat_template_kwargs\":{\"a\":1,\"b\":\"x\"},\"reasoning_effort\":\"none\",\"stop\":["
        "\"x\"]}",
        "{\"messages\":[{\"role\":\"assistant\"}]}",
        "{\"prompt\":[[1,2],[3]],\"logit_bias\":{\"5\":-100},\"seed\":-9223372036854775808,\"stop_token_ids\":[1],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":1e1,\"best_of\":1,\"temperature\":"
        "0.5}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) fuzz_add_seed(seeds[i], strlen(seeds[i]));
}

static void try_endpoint(struct str_view body, enum endpoint endpoint) {
    const struct request_rules rules = {.endpoint = endpoint, .n_choices_max = 8, .vocab = 512};
    const struct json_limits limits = JSON_LIMITS_CLIENT;
    struct request request;
    struct api_error error = {0};
    struct arena arena = ARENA_INIT;
    struct str context = STR_INIT;
    struct str_view final_content;
    int rc = request_read(&request, &arena, body, &rules, &error);
    if (!rc) assert(request.n_choices >= 1 && request.n_choices <= 8 && request.stops.n <= STOP_STRINGS_MAX);
    if (!rc && endpoint == ENDPOINT_CHAT) rc = chat_messages_context(&request, &context, &final_content, &error);
    if (!rc && context.n_bytes) {
        struct json_limits inner = limits; // members that the client repeats under the names of ours are refused before
        inner.depth += 2, inner.elements *= 2;
        assert(json_validate(context.data, context.n_bytes, &inner, NULL) == 0);
    }
    assert(!rc || error.status == 400);
    str_close(&context);
    arena_close(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    const struct json_limits limits = JSON_LIMITS_CLIENT;
    struct str_view body = {(const char *)bytes, n_bytes};
    if (json_validate(body.data, n_bytes, &limits, NULL)) return 0;
    while (body.n_bytes && strchr(" \t\r\n", *body.data)) body.data++, body.n_bytes--;
    if (*body.data != '{') return 0;
    try_endpoint(body, ENDPOINT_CHAT);
    try_endpoint(body, ENDPOINT_COMPLETIONS);
    return 0;
}
