#include "models/chat_template.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "models/jinja_builtin.h"
#include "models/jinja_eval.h"
#include "models/jinja_json.h"
#include "models/jinja_method.h"
#include "models/jinja_parser.h"
#include "models/jinja_string.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    SOURCE_BYTES_MAX = 1 << 20,
    STEPS_DEFAULT = 1000000,
    OUTPUT_BYTES_DEFAULT = 8 << 20,
    MEMORY_BYTES_DEFAULT = 64 << 20,
    DEPTH_DEFAULT = 400,
};

struct template_token {
    char *name, *text; // text NULL: the model has no such token
    size_t n_bytes;
};

struct chat_template {
    struct jinja_program *program;
    struct jinja_program *tool_use; // or NULL
    VEC_OF(struct template_token) tokens;
};

static int parse(struct jinja_program **out, struct str_view source, struct err *err) {
    if (source.n_bytes > SOURCE_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "the chat template has %zu bytes; at most %d are accepted", source.n_bytes,
                       SOURCE_BYTES_MAX);
    if (!utf8_is_valid(source.data, source.n_bytes))
        return err_set(err, ERR_FORMAT, "the chat template is not valid UTF-8");
    return jinja_parse(out, source, err);
}

int chat_template_open(struct chat_template **out, struct str_view source, struct err *err) {
    struct jinja_program *program;
    *out = NULL;
    int code = parse(&program, source, err);
    if (code) return code;
    *out = mem_alloc_zero(1, sizeof **out);
    (*out)->program = program;
    return 0;
}

int chat_template_add_tool_use(struct chat_template *chat_template, struct str_view source, struct err *err) {
    assert(!chat_template->tool_use);
    return parse(&chat_template->tool_use, source, err);
}

void chat_template_add_token(struct chat_template *chat_template, const char *name, struct str_view text) {
    for (size_t i = 0; i < chat_template->tokens.count; i++)
        if (strcmp(chat_template->tokens.items[i].name, name) == 0) return;
    struct template_token token = {.name = mem_copy_string(name, strlen(name)), .n_bytes = text.n_bytes};
    if (text.data) token.text = mem_copy_string(text.data, text.n_bytes);
    vec_push(&chat_template->tokens, token);
}

void chat_template_close(struct chat_template *chat_template) {
    if (!chat_template) return;
    for (size_t i = 0; i < chat_template->tokens.count; i++) {
        free(chat_template->tokens.items[i].name);
        free(chat_template->tokens.items[i].text);
    }
    vec_free(&chat_template->tokens);
    jinja_program_close(chat_template->program);
    jinja_program_close(chat_template->tool_use);
    free(chat_template);
}

size_t chat_template_bytes(const struct chat_template *chat_template) {
    size_t n_bytes = jinja_program_bytes(chat_template->program);
    return chat_template->tool_use ? n_bytes + jinja_program_bytes(chat_template->tool_use) : n_bytes;
}

static bool program_reads(const struct jinja_program *program, const char *variable) {
    uint64_t symbol;
    return program && map_get(&program->symbols, variable, strlen(variable), &symbol) && program->is_read[symbol];
}

bool chat_template_uses(const struct chat_template *chat_template, const char *variable) {
    return program_reads(chat_template->program, variable) || program_reads(chat_template->tool_use, variable);
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

// A name is the model's token, or else the client's variable, or else a global function.
static void bind_globals(struct jinja_render *r, const struct chat_template *chat_template,
                         const struct jinja_dict *context) {
    const struct jinja_program *program = r->program;
    r->globals = jinja_alloc(r, program->n_symbols, sizeof *r->globals);
    for (size_t i = 0; i < program->n_symbols; i++) {
        struct str_view name = program->names[i];
        const struct jinja_value *given = jinja_dict_find_text(r, context, name.data, name.n_bytes);
        const struct jinja_builtin *function = jinja_builtin_find(jinja_globals, name.data, name.n_bytes);
        if (given)
            r->globals[i] = *given;
        else if (function)
            r->globals[i] = (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
    }
    for (size_t i = 0; i < chat_template->tokens.count; i++) {
        const struct template_token *token = &chat_template->tokens.items[i];
        uint64_t symbol;
        if (token->text && map_get(&program->symbols, token->name, strlen(token->name), &symbol))
            r->globals[symbol] = jinja_text(r, token->text, token->n_bytes, true);
    }
}

static struct jinja_render begin_render(const struct chat_template_input *input, struct err *err) {
    const struct template_limits *limits = &input->limits;
    size_t from_context = 0, memory = 0;
    // Values of the context take a few times its bytes.
    if (!size_mul(input->context_json.n_bytes, 16, &from_context) ||
        !size_add(from_context, MEMORY_BYTES_DEFAULT, &memory))
        memory = MEMORY_BYTES_DEFAULT;
    return (struct jinja_render){
        .arena = {.limit = memory},
        .output_limit = limits->output_bytes ? limits->output_bytes : OUTPUT_BYTES_DEFAULT,
        .steps_left = limits->steps ? limits->steps : STEPS_DEFAULT + 2 * (uint64_t)input->context_json.n_bytes,
        .depth_left = limits->depth ? limits->depth : DEPTH_DEFAULT,
        .now_s = input->now_s,
        .err = err,
    };
}

// An error anywhere inside comes back here.
static void run(struct jinja_render *r, const struct chat_template *chat_template, struct str_view json) {
    if (setjmp(r->escape)) return;
    struct jinja_value context = jinja_read_json(r, json.data, json.n_bytes);
    if (context.kind != JINJA_DICT) jinja_raise(r, "the variables of a chat template must be a JSON object");
    trust_known_roles(r, context.dict);
    const struct jinja_value *tools = jinja_dict_find_text(r, context.dict, "tools", 5);
    bool with_tools = chat_template->tool_use && tools && jinja_truth(*tools);
    r->program = with_tools ? chat_template->tool_use : chat_template->program;
    bind_globals(r, chat_template, context.dict);
    jinja_exec(r, r->program->body->items, r->program->body->n_items);
}

int chat_template_render(const struct chat_template *chat_template, const struct chat_template_input *input,
                         struct prompt_text *out, struct err *err) {
    struct err failure = {0};
    struct jinja_render r = begin_render(input, &failure);
    run(&r, chat_template, input->context_json);
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
