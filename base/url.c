#include "base/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

int url_parse(struct url *out, const char *text, struct err *err) {
    static const char scheme[] = "http://";
    *out = (struct url){.port = "80"};
    if (strncmp(text, scheme, sizeof scheme - 1) != 0)
        return err_set(err, ERR_INVALID, "\"%s\" does not begin with http://", text);
    const char *host = text + sizeof scheme - 1;
    bool bracket = *host == '[';
    host += bracket;
    size_t n_host = strcspn(host, bracket ? "]" : ":/");
    const char *rest = host + n_host + bracket;
    if (!n_host || n_host >= sizeof out->host || (bracket && !host[n_host]))
        return err_set(err, ERR_INVALID, "\"%s\" names no host", text);
    memcpy(out->host, host, n_host);
    if (*rest == ':') {
        size_t n_port = strspn(++rest, "0123456789");
        if (!n_port || n_port >= sizeof out->port) return err_set(err, ERR_INVALID, "\"%s\": wrong port", text);
        memcpy(out->port, rest, n_port);
        out->port[n_port] = 0;
        rest += n_port;
    }
    size_t n = strlen(rest);
    while (n && rest[n - 1] == '/') n--;
    if (n >= 3 && memcmp(rest + n - 3, "/v1", 3) == 0) n -= 3;
    if ((n && *rest != '/') || n >= sizeof out->prefix || strpbrk(rest, " \r\n"))
        return err_set(err, ERR_INVALID, "\"%s\": wrong path", text);
    memcpy(out->prefix, rest, n);
    return 0;
}

static bool is_any_ipv6(const char *host) {
    struct in6_addr address;
    return inet_pton(AF_INET6, host, &address) == 1 && IN6_IS_ADDR_UNSPECIFIED(&address);
}

bool url_host_is_any(const char *host) {
    return strcmp(host, "0.0.0.0") == 0 || is_any_ipv6(host);
}

void url_of_server(char *out, size_t n_bytes, const char *host, int port) {
    if (url_host_is_any(host)) host = strchr(host, ':') ? "::1" : "127.0.0.1";
    const bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(out, n_bytes, "http://%s%s%s:%d", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port);
}
