// Tokens to the tree of a template.
#pragma once

#include "base/str.h"
#include "models/jinja_ast.h"

// ERR_FORMAT names the line. *out is closed with jinja_program_close.
int jinja_parse(struct jinja_program **out, struct str_view source, struct err *err)
    __attribute__((warn_unused_result));
void jinja_program_close(struct jinja_program *program);
size_t jinja_program_bytes(const struct jinja_program *program); // of memory
