// Where a server is.
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct url {
    char host[256]; // name or numeric address
    char port[6];
    char prefix[256]; // path in front of "/v1/...", without a final slash; mostly empty
};

// "http://host[:port][/prefix]"; a final "/v1" is left out of the prefix. https is refused.
int url_parse(struct url *out, const char *text, struct err *err) __attribute__((warn_unused_result));

// "http://host:port" for clients on this machine: a numeric IPv6 address gets its brackets, an address that stands for
// all of them becomes that family's loopback. out is cut when it is too small.
void url_of_server(char *out, size_t n_bytes, const char *host, int port);
bool url_host_is_any(const char *host); // 0.0.0.0, or :: in any spelling
