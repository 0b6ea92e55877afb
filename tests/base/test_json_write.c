// What is written is JSON that the reader takes, with commas in their places and no number that JSON lacks.
#include "tests/test.h"

#include "base/json.h"
#include "base/json_write.h"

#include <math.h>

static void values_stand_where_they_were_put(void **state) {
    (void)state;
    struct str out = STR_INIT;
    json_write_begin(&out, NULL, '{');
    json_write_begin(&out, "empty", '[');
    json_write_end(&out, ']');
    json_write_text(&out, "te\"xt", "a\nb");
    json_write_text(&out, "none", NULL);
    json_write_begin(&out, "list", '[');
    json_write_number(&out, NULL, 1.5);
    json_write_number(&out, NULL, NAN);
    json_write_number(&out, NULL, INFINITY);
    json_write_int(&out, NULL, INT64_MIN);
    json_write_end(&out, ']');
    json_write_bool(&out, "yes", true);
    json_write_null(&out, "nothing");
    json_write_end(&out, '}');
    json_write_close(&out);
    assert_string_equal(str_text(&out), "{\"empty\":[],\"te\\\"xt\":\"a\\nb\",\"none\":null,"
                                        "\"list\":[1.5,null,null,-9223372036854775808],\"yes\":true,\"nothing\":null}");
    struct err err = {0};
    assert_int_equal(json_validate(out.data, out.n_bytes, &JSON_LIMITS_CLIENT, &err), 0);
    str_close(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_stand_where_they_were_put)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
