#include "bench/probe.h"
#include "base/json.h"
#include "bench/answer.h"
#include "bench/http_call.h"

static const struct json_limits LIMITS = {.depth = 64, .elements = 200000, .allow_nul = true, .allow_duplicates = true};

static int call(struct str *body, const struct probe_target *target, const char *path, struct str_view send,
                struct err *err) {
    int status = 0;
    const struct http_call call = {.url = target->url,
                                   .method = send.n_bytes ? "POST" : "GET",
                                   .path = path,
                                   .api_key = target->api_key,
                                   .body = send,
                                   .timeout_s = target->timeout_s};
    int rc = http_call_run(&call, &status, body, err);
    if (!rc && status != 200) {
        const int n = body->n_bytes < 300 ? (int)body->n_bytes : 300;
        rc = err_set(err, ERR_UNSUPPORTED, "%s answers %d: %.*s", path, status, n, str_text(body));
    }
    return rc;
}

int probe_model(struct str *name, const struct probe_target *target, struct err *err) {
    struct str body = STR_INIT;
    int rc = call(&body, target, "/v1/models", (struct str_view){0}, err);
    cJSON *tree = NULL;
    if (!rc) rc = json_parse(&tree, str_text(&body), body.n_bytes, &LIMITS, err);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "data");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(list, 0), "id");
    if (!rc && !cJSON_IsString(id)) rc = err_set(err, ERR_FORMAT, "/v1/models lists no model; name it with --model");
    if (!rc) str_append_text(name, id->valuestring);
    cJSON_Delete(tree);
    str_close(&body);
    return rc;
}

static int count_prompt(const struct workload *workload, const struct probe_target *target, int64_t n_words,
                        int64_t *out, struct err *err) {
    struct str body = STR_INIT, reply = STR_INIT;
    workload_probe(workload, n_words, &body);
    int rc = call(&reply, target, workload_path(workload), (struct str_view){body.data, body.n_bytes}, err);
    struct answer answer = {0};
    answer_begin(&answer, false);
    if (!rc) {
        answer_read(&answer, str_text(&reply), reply.n_bytes);
        answer_end(&answer);
        if (answer.problem.n_bytes)
            rc = err_set(err, ERR_FORMAT, "%s: %s", workload_path(workload), answer.problem.data);
    }
    *out = answer.usage.prompt;
    answer_close(&answer);
    str_close(&body);
    str_close(&reply);
    return rc;
}

int probe_tokens(struct workload *workload, const struct probe_target *target, bool *counts, struct err *err) {
    int64_t once = -1, twice = -1;
    workload->tokens_per_word = 1;
    workload->frame_tokens = 0;
    int rc = count_prompt(workload, target, PROBE_WORDS, &once, err);
    if (!rc) rc = count_prompt(workload, target, 2 * PROBE_WORDS, &twice, err);
    *counts = !rc && once > 0 && twice > once;
    if (!*counts) return rc;
    workload->tokens_per_word = (double)(twice - once) / PROBE_WORDS;
    workload->frame_tokens = (double)once - workload->tokens_per_word * PROBE_WORDS;
    return 0;
}
