// The request target and the Host field: which path is meant, and of which host. Plain text in, no state.
#pragma once

#include "base/mem.h"
#include "base/str.h"
#include <stdbool.h>

struct http_target {
    // Percent-decoded once, without query and fragment, one trailing slash stripped, valid UTF-8 without control
    // characters. "*" for the asterisk form, "" for CONNECT. Lives in the arena.
    const char *path;
    const char *query;    // what follows the first "?", as it was sent; "" without one. Lives in the arena.
    struct str_view host; // of an absolute-form target, without the port; data is NULL when the target names none
};

// False when the target is malformed, climbs with dot segments, or has a form that the method does not allow.
bool http_target_read(struct http_target *target, struct str_view text, struct str_view method, struct arena *arena);

// uri-host [":" port] as RFC 3986 has it; no userinfo, no comma. *name is the host without the port ("[::1]" keeps its
// brackets).
bool http_host_read(struct str_view text, struct str_view *name);

// localhost, 127.0.0.1 or [::1].
bool http_host_is_loopback(struct str_view name);
