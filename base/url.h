// Where a server is.
#pragma once

#include "base/err.h"

struct url {
    char host[256]; // name or numeric address
    char port[6];
    char prefix[256]; // path in front of "/v1/...", without a final slash; mostly empty
};

// "http://host[:port][/prefix]"; a final "/v1" is left out of the prefix. https is refused.
int url_parse(struct url *out, const char *text, struct err *err) __attribute__((warn_unused_result));
