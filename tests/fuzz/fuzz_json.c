// Any bytes as JSON: the validator decides, cJSON agrees that what passed is JSON, raw members lie inside the text.
#include "tests/fuzz/fuzz.h"

#include "base/json.h"

#include <assert.h>

void fuzz_seeds(void) {
    fuzz_add_seed("{\"a\":[1,2.5e3,\"\\u00e4\\ud83d\\ude00\"],\"b\":null}", 43);
    fuzz_add_seed_folder(TEST_SHARED_DIR "/suites/json/JSONTestSuite/test_parsing", ".json");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    struct json_limits limits = JSON_LIMITS_CLIENT;
    struct err err;
    cJSON *tree;
    if (json_parse(&tree, (const char *)bytes, n_bytes, &limits, &err)) return 0;
    struct str_view value;
    if (json_find_member((const char *)bytes, n_bytes, "a", &value))
        assert(value.data >= (const char *)bytes && value.data + value.n_bytes <= (const char *)bytes + n_bytes);
    cJSON_Delete(tree);
    return 0;
}
