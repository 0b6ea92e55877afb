// What a client sends as messages is what a template sees: joined, without nulls, arguments as objects.
#include "tests/test.h"

#include "base/json.h"
#include "server/chat_messages.h"

#include <stdlib.h>

struct row {
    const char *members; // of the request
    const char *context; // NULL: refused
    const char *param;   // when refused
};

#define TAIL ",\"tools\":null,\"documents\":null,\"add_generation_prompt\":true"

static const struct row rows[] = {
    {"\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e4\\n\"}]",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e4\\n\"}]" TAIL "}", NULL},
    {"\"messages\":[{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"text\":\"b\",\"type\":\"text\"}],\"role\":"
     "\"user\"}]",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"ab\"}]" TAIL "}", NULL},
    {"\"messages\":[{\"role\":\"developer\",\"content\":\"x\",\"name\":null,\"extra\":1.0}]",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"x\",\"extra\":1.0}]" TAIL "}", NULL},
    {"\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":null}]",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}]" TAIL "}", NULL},
    {"\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":"
     "\"{\\\"x\\\": 1.0}\"}}]}]",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":"
     "\"f\","
     "\"arguments\":{\"x\": 1.0}}}]}]" TAIL "}",
     NULL},
    {"\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":\"{broken\"}}]}]",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"arguments\":\"{broken\"}"
     "}]}]" TAIL "}",
     NULL},
    {"\"messages\":[{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":\"1\"}]",
     "{\"messages\":[{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":\"1\"}]" TAIL "}", NULL},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"reasoning_effort\":\"none\",\"chat_template_kwargs\":{"
     "\"a\":2}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]" TAIL
     ",\"reasoning_effort\":\"none\",\"enable_thinking\":false,\"a\":2}",
     NULL},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"\"}],\"reasoning_effort\":\"none\",\"chat_template_kwargs\":"
     "{\"enable_thinking\":true}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"\"}]" TAIL
     ",\"reasoning_effort\":\"none\",\"enable_thinking\":true}",
     NULL},
    {"\"messages\":[]", NULL, "messages"},
    {"\"messages\":[1]", NULL, "messages[0]"},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":1,\"content\":\"x\"}]", NULL, "messages[1].role"},
    {"\"messages\":[{\"role\":\"user\",\"content\":null}]", NULL, "messages[0].content"},
    {"\"messages\":[{\"role\":\"user\",\"content\":{}}]", NULL, "messages[0].content"},
    {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},{\"type\":\"image_url\"}]}]",
     NULL, "messages[0].content[1]"},
    {"\"messages\":[{\"role\":\"assistant\",\"tool_calls\":{}}]", NULL, "messages[0].tool_calls"},
};

static void messages_become_a_context(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str body = STR_INIT, context = STR_INIT;
        str_printf(&body, "{%s}", rows[i].members);
        const struct request_rules rules = {.endpoint = ENDPOINT_CHAT, .n_choices_max = 8, .vocab = 512};
        struct request request;
        struct api_error error = {0};
        struct arena arena = ARENA_INIT;
        struct str_view final_content;
        assert_int_equal(request_read(&request, &arena, (struct str_view){body.data, body.n_bytes}, &rules, &error), 0);
        int rc = chat_messages_context(&request, &context, &final_content, &error);
        if (rows[i].context) {
            assert_int_equal(rc, 0);
            assert_string_equal(str_text(&context), rows[i].context);
        } else {
            assert_int_equal(rc, -1);
            assert_int_equal(error.status, 400);
            assert_string_equal(error.param, rows[i].param);
        }
        str_close(&context);
        str_close(&body);
        arena_close(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(messages_become_a_context)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
