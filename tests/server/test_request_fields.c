// Whatever a client writes into a field, the answer is a value within its range or a 400 that names the field.
#include "tests/test.h"

#include "base/json.h"
#include "server/request_fields.h"

#include <math.h>
#include <stdlib.h>

static const char *const chat_base = "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";
static const char *const completions_base = "\"prompt\":\"x\"";

struct outcome {
    int rc;
    struct request request;
    struct api_error error;
    struct arena arena;
};

static void read_body(struct outcome *o, const char *body, enum endpoint endpoint, bool strict) {
    *o = (struct outcome){.arena = ARENA_INIT};
    struct json_limits limits = JSON_LIMITS_CLIENT;
    struct err err = {0};
    assert_int_equal(json_validate(body, strlen(body), &limits, &err), 0);
    struct request_rules rules = {.endpoint = endpoint, .strict = strict, .n_choices_max = 8, .vocab = 512};
    o->rc = request_read(&o->request, &o->arena, str_view_of(body), &rules, &o->error);
}

static void check_sane(const struct request *r) {
    assert_true(isnan(r->temperature) || (r->temperature >= 0 && r->temperature <= 2));
    assert_true(isnan(r->top_p) || (r->top_p >= 0 && r->top_p <= 1));
    assert_true(r->min_p >= 0 && r->min_p <= 1);
    assert_true(fabs(r->presence_penalty) <= 2 && fabs(r->frequency_penalty) <= 2);
    assert_true(isnan(r->repetition_penalty) || (r->repetition_penalty > 0 && r->repetition_penalty <= 100));
    assert_true(r->n_choices >= 1 && r->n_choices <= 8);
    assert_true(r->max_tokens >= -1 && r->max_tokens <= INT32_MAX);
    assert_true(r->min_tokens >= 0 && r->min_tokens <= INT32_MAX);
    assert_true(r->n_top_logprobs >= -1 && r->n_top_logprobs <= 20);
    assert_true(r->n_prompt_top_logprobs >= -1 && r->n_prompt_top_logprobs <= 20);
}

static void bad_values_are_accepted_or_named(void **state) {
    (void)state;
    static const char *const values[] = {"null",
                                         "true",
                                         "\"\"",
                                         "\"x\"",
                                         "[]",
                                         "{}",
                                         "-1",
                                         "0",
                                         "-0.0",
                                         "1",
                                         "1e308",
                                         "1e9999",
                                         "-1e9999",
                                         "2147483647",
                                         "2147483648",
                                         "4294967296",
                                         "9007199254740993",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "-9223372036854775808",
                                         "0.5",
                                         "1e-400",
                                         "[null]",
                                         "[[]]",
                                         "[1e9999]",
                                         "{\"1\":1e9999}",
                                         "{\"x\":{}}",
                                         "[\"\"]",
                                         "false",
                                         "[\"x\",1]",
                                         "{\"type\":1}"};
    unsigned endpoints;
    for (size_t i = 0; request_field_name(i, &endpoints); i++) {
        const char *name = request_field_name(i, &endpoints);
        for (enum endpoint endpoint = ENDPOINT_CHAT; endpoint <= ENDPOINT_COMPLETIONS; endpoint++) {
            if (!(endpoints & endpoint)) continue;
            for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
                struct str body = STR_INIT;
                const char *base = endpoint == ENDPOINT_CHAT ? chat_base : completions_base;
                bool is_base = !strcmp(name, endpoint == ENDPOINT_CHAT ? "messages" : "prompt");
                str_printf(&body, "{%s%s\"%s\":%s}", is_base ? "" : base, is_base ? "" : ",", name, values[v]);
                struct outcome o;
                read_body(&o, str_text(&body), endpoint, false);
                if (o.rc) {
                    assert_int_equal(o.error.status, 400);
                    if (strcmp(o.error.param, name) != 0) fail_msg("%s: param is '%s'", str_text(&body), o.error.param);
                    assert_non_null(strstr(o.error.message, name));
                } else {
                    check_sane(&o.request);
                }
                arena_close(&o.arena);
                str_close(&body);
            }
        }
    }
}

struct verdict {
    enum endpoint endpoint;
    const char *members;
    const char *code, *param; // NULL: accepted
};

static void rules_of_single_fields_hold(void **state) {
    (void)state;
    static const struct verdict rows[] = {
        {ENDPOINT_CHAT, "\"temperature\":2", NULL, NULL},
        {ENDPOINT_CHAT, "\"temperature\":2.01", "decimal_above_max_value", "temperature"},
        {ENDPOINT_CHAT, "\"temperature\":\"1\"", "invalid_type", "temperature"},
        {ENDPOINT_CHAT, "\"n\":9", "integer_above_max_value", "n"},
        {ENDPOINT_CHAT, "\"n\":129", "integer_above_max_value", "n"},
        {ENDPOINT_CHAT, "\"n\":1.5", "invalid_type", "n"},
        {ENDPOINT_CHAT, "\"max_tokens\":0", "integer_below_min_value", "max_tokens"},
        {ENDPOINT_COMPLETIONS, "\"max_tokens\":0", NULL, NULL},
        {ENDPOINT_CHAT, "\"top_logprobs\":1", "invalid_value", "top_logprobs"},
        {ENDPOINT_CHAT, "\"top_logprobs\":21,\"logprobs\":true", "integer_above_max_value", "top_logprobs"},
        {ENDPOINT_CHAT, "\"top_logprobs\":20,\"logprobs\":true", NULL, NULL},
        {ENDPOINT_CHAT, "\"stream_options\":{}", "invalid_value", "stream_options"},
        {ENDPOINT_CHAT, "\"stream_options\":{},\"stream\":true", NULL, NULL},
        {ENDPOINT_CHAT, "\"stop\":\"\"", "invalid_value", "stop"},
        {ENDPOINT_CHAT, "\"stop\":[]", NULL, NULL},
        {ENDPOINT_CHAT, "\"logit_bias\":{\"511\":-100}", NULL, NULL},
        {ENDPOINT_CHAT, "\"logit_bias\":{\"512\":0}", "invalid_value", "logit_bias"},
        {ENDPOINT_CHAT, "\"logit_bias\":{\"01\":0}", "invalid_value", "logit_bias"},
        {ENDPOINT_CHAT, "\"logit_bias\":{\"x\":0}", "invalid_value", "logit_bias"},
        {ENDPOINT_CHAT, "\"logit_bias\":{\"1\":101}", "invalid_value", "logit_bias"},
        {ENDPOINT_CHAT, "\"tools\":[]", NULL, NULL},
        {ENDPOINT_CHAT, "\"tools\":[{}]", "unsupported_parameter", "tools"},
        {ENDPOINT_CHAT, "\"response_format\":{\"type\":\"text\"}", NULL, NULL},
        {ENDPOINT_CHAT, "\"response_format\":{\"type\":\"json_object\"}", "unsupported_value", "response_format"},
        {ENDPOINT_CHAT, "\"modalities\":[\"text\",\"audio\"]", "unsupported_value", "modalities"},
        {ENDPOINT_CHAT, "\"chat_template\":\"{{ 1 }}\"", "unsupported_parameter", "chat_template"},
        {ENDPOINT_CHAT, "\"chat_template_kwargs\":{\"enable_thinking\":false}", NULL, NULL},
        {ENDPOINT_CHAT, "\"chat_template_kwargs\":{\"messages\":1}", "invalid_value", "chat_template_kwargs"},
        {ENDPOINT_CHAT, "\"chat_template_kwargs\":{\"a\":[]}", "invalid_value", "chat_template_kwargs"},
        {ENDPOINT_CHAT, "\"chat_template_kwargs\":{\"tokeni\\u007ae\":1}", "invalid_value", "chat_template_kwargs"},
        {ENDPOINT_CHAT, "\"continue_final_message\":true", NULL, NULL},
        {ENDPOINT_CHAT, "\"continue_final_message\":true,\"add_generation_prompt\":true", "invalid_value",
         "continue_final_message"},
        {ENDPOINT_COMPLETIONS, "\"best_of\":1", NULL, NULL},
        {ENDPOINT_COMPLETIONS, "\"best_of\":2", "unsupported_value", "best_of"},
        {ENDPOINT_COMPLETIONS, "\"best_of\":2,\"n\":2", NULL, NULL},
        {ENDPOINT_COMPLETIONS, "\"suffix\":\"\"", NULL, NULL},
        {ENDPOINT_COMPLETIONS, "\"suffix\":\"x\"", "unsupported_parameter", "suffix"},
        {ENDPOINT_COMPLETIONS, "\"min_tokens\":17,\"max_tokens\":16", "invalid_value", "min_tokens"},
        {ENDPOINT_COMPLETIONS, "\"prompt_logprobs\":1,\"stream\":true", "invalid_value", "prompt_logprobs"},
        {ENDPOINT_COMPLETIONS, "\"seed\":9223372036854775808", "integer_above_max_value", "seed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str body = STR_INIT;
        str_printf(&body, "{%s,%s}", rows[i].endpoint == ENDPOINT_CHAT ? chat_base : completions_base, rows[i].members);
        struct outcome o;
        read_body(&o, str_text(&body), rows[i].endpoint, false);
        if ((o.rc != 0) != (rows[i].code != NULL)) fail_msg("%s: %s", rows[i].members, o.error.message);
        if (o.rc) {
            assert_string_equal(o.error.code, rows[i].code);
            assert_string_equal(o.error.param, rows[i].param);
        }
        arena_close(&o.arena);
        str_close(&body);
    }
}

static void values_land_where_they_should(void **state) {
    (void)state;
    struct outcome o;
    read_body(&o,
              "{\"messages\":[],\"seed\":9007199254740993,\"max_tokens\":5,\"max_completion_tokens\":7,\"stop\":[\"a\","
              "\"\\u00e4\"],"
              "\"logit_bias\":{\"3\":-100,\"4\":1.5},\"logprobs\":true,\"temperature\":null,\"stream\":true,"
              "\"stream_options\":{\"include_usage\":true},\"stop_token_ids\":[1,2],\"model\":\"m\"}",
              ENDPOINT_CHAT, false);
    assert_int_equal(o.rc, 0);
    assert_true(o.request.has_seed && o.request.seed == 9007199254740993);
    assert_int_equal(o.request.max_tokens, 7);
    assert_int_equal(o.request.stops.n, 2);
    assert_int_equal(o.request.stops.strings[1].n_bytes, 2);
    assert_int_equal(o.request.n_bias, 2);
    assert_true(isinf(o.request.bias[0].add) && o.request.bias[1].add == 1.5f);
    assert_int_equal(o.request.n_top_logprobs, 0);
    assert_true(isnan(o.request.temperature) && o.request.include_usage && !o.request.continuous_usage);
    assert_int_equal(o.request.n_stop_tokens, 2);
    assert_string_equal(o.request.model, "m");
    struct generation_defaults defaults = {
        .has_temperature = true, .temperature = 0.6f, .has_top_k = true, .top_k = 20};
    struct sample_params sampling = request_sampling(&o.request, &defaults, 1);
    assert_true(sampling.temperature == 0.6f && sampling.top_k == 20 && sampling.top_p == 1);
    assert_true(sampling.seed == 9007199254740993u);
    arena_close(&o.arena);
}

static void unknown_fields_are_named_or_refused(void **state) {
    (void)state;
    struct outcome o;
    const char *body = "{\"prompt\":\"x\",\"chat_id\":1,\"a\\r\\nb\":2,\"x-y.z\":{},\"user\":\"u\"}";
    read_body(&o, body, ENDPOINT_COMPLETIONS, false);
    assert_int_equal(o.rc, 0);
    assert_true(str_view_equal(o.request.ignored, STR_VIEW("chat_id, x-y.z")));
    arena_close(&o.arena);
    read_body(&o, body, ENDPOINT_COMPLETIONS, true);
    assert_int_equal(o.rc, -1);
    assert_string_equal(o.error.param, "chat_id");
    arena_close(&o.arena);
    struct str many = STR_INIT;
    str_append_text(&many, "{\"prompt\":\"x\"");
    for (int i = 0; i < 1000; i++) str_printf(&many, ",\"field_%d\":0", i);
    str_append_text(&many, "}");
    read_body(&o, str_text(&many), ENDPOINT_COMPLETIONS, false);
    assert_int_equal(o.rc, 0);
    assert_true(o.request.ignored.n_bytes <= 256);
    arena_close(&o.arena);
    str_close(&many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_values_are_accepted_or_named),
        cmocka_unit_test(rules_of_single_fields_hold),
        cmocka_unit_test(values_land_where_they_should),
        cmocka_unit_test(unknown_fields_are_named_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
