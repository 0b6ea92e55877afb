#include "models/chat_template.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "models/jinja_builtin.h"
#include "models/jinja_eval.h"
#include "models/jinja_json.h"
#include "models/jinja_method.h"
#include "models/jinja_parser.h"
#include "models/jinja_string.h"

#include <stdlib.h>
#include <string.h>

enum {
    SOURCE_BYTES_MAX = 1 << 20,
    STEPS_DEFAULT = 1000000,
    OUTPUT_BYTES_DEFAULT = 8 << 20,
    MEMORY_BYTES_DEFAULT = 64 << 20,
    DEPTH_DEFAULT = 400,
};

struct chat_template {
    struct jinja_program *program;
};

int chat_template_open(struct chat_template **out, struct str_view source, struct err *err) {
    *out = NULL;
    if (source.n_bytes > SOURCE_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "the chat template has %zu bytes; at most %d are accepted", source.n_bytes,
                       SOURCE_BYTES_MAX);
    if (!utf8_is_valid(source.data, source.n_bytes))
        return err_set(err, ERR_FORMAT, "the chat template is not valid UTF-8");
    struct jinja_program *program;
    int code = jinja_parse(&program, source, err);
    if (code) return code;
    *out = mem_alloc_zero(1, sizeof **out);
    (*out)->program = program;
    return 0;
}

void chat_template_close(struct chat_template *chat_template) {
    if (!chat_template) return;
    jinja_program_close(chat_template->program);
    free(chat_template);
}

bool chat_template_uses(const struct chat_template *chat_template, const char *variable) {
    const struct jinja_program *program = chat_template->program;
    uint64_t symbol;
    return map_get(&program->symbols, variable, strlen(variable), &symbol) && program->is_read[symbol];
}

// Templates build markers from the role: '<|' + message.role + '|>'. The roles that every client knows are words of the
// protocol, so a role that equals one of them counts as the template's own text.
static void trust_known_roles(struct jinja_render *r, const struct jinja_dict *context) {
    static const char *const known[] = {"system", "developer", "user", "assistant", "tool", "function"};
    const struct jinja_value *messages = jinja_dict_find_text(r, context, "messages", 8);
    if (!messages || messages->kind != JINJA_LIST) return;
    for (size_t i = 0; i < messages->list->count; i++) {
        if (messages->list->items[i].kind != JINJA_DICT) continue;
        const struct jinja_dict *message = messages->list->items[i].dict;
        for (size_t k = 0; k < message->count; k++) {
            if (!jinja_text_is(message->entries[k].key, "role")) continue;
            for (size_t n = 0; n < sizeof known / sizeof *known; n++)
                if (jinja_text_is(message->entries[k].value, known[n]))
                    message->entries[k].value = jinja_text(r, known[n], strlen(known[n]), true);
        }
    }
}

// A name is the operator's token, or else the client's variable, or else a global function.
static void bind_globals(struct jinja_render *r, const struct chat_template_input *input) {
    const struct jinja_program *program = r->program;
    const struct str_view json = input->context_json;
    struct jinja_value context = jinja_read_json(r, json.data, json.n_bytes);
    if (context.kind != JINJA_DICT) jinja_raise(r, "the variables of a chat template must be a JSON object");
    trust_known_roles(r, context.dict);
    r->globals = jinja_alloc(r, program->n_symbols, sizeof *r->globals);
    for (size_t i = 0; i < program->n_symbols; i++) {
        struct str_view name = program->names[i];
        const struct jinja_value *given = jinja_dict_find_text(r, context.dict, name.data, name.n_bytes);
        const struct jinja_builtin *function = jinja_builtin_find(jinja_globals, name.data, name.n_bytes);
        if (given)
            r->globals[i] = *given;
        else if (function)
            r->globals[i] = (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
    }
    for (size_t i = 0; i < input->n_tokens; i++) {
        const struct template_token *token = &input->tokens[i];
        uint64_t symbol;
        if (map_get(&program->symbols, token->name, strlen(token->name), &symbol))
            r->globals[symbol] = jinja_text(r, token->text, strlen(token->text), true);
    }
}

static struct jinja_render begin_render(const struct jinja_program *program, const struct chat_template_input *input,
                                        struct err *err) {
    const struct template_limits *limits = &input->limits;
    size_t from_context = 0, memory = 0;
    // Values of the context take a few times its bytes.
    if (!size_mul(input->context_json.n_bytes, 16, &from_context) ||
        !size_add(from_context, MEMORY_BYTES_DEFAULT, &memory))
        memory = MEMORY_BYTES_DEFAULT;
    return (struct jinja_render){
        .program = program,
        .arena = {.limit = memory},
        .output_limit = limits->output_bytes ? limits->output_bytes : OUTPUT_BYTES_DEFAULT,
        .steps_left = limits->steps ? limits->steps : STEPS_DEFAULT,
        .depth_left = limits->depth ? limits->depth : DEPTH_DEFAULT,
        .now_s = input->now_s,
        .err = err,
    };
}

// An error anywhere inside comes back here.
static void run(struct jinja_render *r, const struct chat_template_input *input) {
    if (setjmp(r->escape)) return;
    bind_globals(r, input);
    jinja_exec(r, r->program->body->items, r->program->body->n_items);
}

int chat_template_render(const struct chat_template *chat_template, const struct chat_template_input *input,
                         struct prompt_text *out, struct err *err) {
    struct err failure = {0};
    struct jinja_render r = begin_render(chat_template->program, input, &failure);
    run(&r, input);
    arena_close(&r.arena);
    *out = (struct prompt_text)PROMPT_TEXT_INIT;
    if (!failure.code) {
        *out = r.out;
        return 0;
    }
    prompt_text_close(&r.out);
    if (err) *err = failure;
    return failure.code;
}
