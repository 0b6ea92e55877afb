// GET /v1/models and /v1/models/{id}.
#include "server/server_state.h"

#include "base/json.h"

#include <string.h>

static void append_model(const struct server *server, struct str *out) {
    str_append_text(out, "{\"id\":");
    json_append_string(out, server->model_name, strlen(server->model_name));
    str_printf(
        out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"optima\",\"root\":", (long long)server->created_s);
    json_append_string(out, server->model_name, strlen(server->model_name));
    str_append_text(out, ",\"parent\":null,\"max_model_len\":");
    if (server->engine.context)
        str_printf(out, "%d", server->engine.context);
    else
        str_append_text(out, "null");
    str_append_text(out, ",\"permission\":[]}");
}

void models_list(struct http_exchange *exchange, void *context) {
    const struct server *server = context;
    struct str out = STR_INIT;
    str_append_text(&out, "{\"object\":\"list\",\"data\":[");
    if (server->model_name) append_model(server, &out);
    str_append_text(&out, "]}");
    http_exchange_reply(exchange, 200, "application/json", str_text(&out), out.n_bytes);
    str_close(&out);
}

// Ids contain slashes; the path is decoded already, so that org/name and org%2Fname are equal.
void models_get(struct http_exchange *exchange, void *context) {
    const struct server *server = context;
    const char *path = http_exchange_request(exchange)->path;
    const char *id = strstr(path, "/models/");
    if (!server->model_name || !id || strcmp(id + strlen("/models/"), server->model_name) != 0) {
        struct api_error error = {0};
        api_error_set(&error, 404, "model_not_found", "model",
                      "The requested model does not exist or is not served here.");
        server_reply_error(exchange, &error);
        return;
    }
    struct str out = STR_INIT;
    append_model(server, &out);
    http_exchange_reply(exchange, 200, "application/json", str_text(&out), out.n_bytes);
    str_close(&out);
}
