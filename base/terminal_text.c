#include "base/terminal_text.h"

#include <string.h>

static const char bold_on[] = "\033[1m", bold_off[] = "\033[22m", code_on[] = "\033[36m", code_off[] = "\033[39m";

struct writer {
    struct str *out;
    int width;
    bool styled, bold, code;
};

static int columns_of(const char *text, size_t n_bytes) {
    int n = 0;
    for (size_t i = 0; i < n_bytes; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

// Bytes of the mark at this place that is not shown in styled text: "**" or "`"; 0: none.
static size_t mark_at(const struct writer *w, const char *text, size_t n_bytes) {
    if (!w->styled || !n_bytes) return 0;
    if (text[0] == '`') return 1;
    return !w->code && n_bytes >= 2 && text[0] == '*' && text[1] == '*' ? 2 : 0;
}

static int shown_columns(const struct writer *w, const char *text, size_t n_bytes) {
    struct writer at = *w;
    int n = 0;
    for (size_t i = 0; i < n_bytes;) {
        size_t mark = mark_at(&at, text + i, n_bytes - i);
        if (mark == 1) at.code = !at.code;
        n += mark ? 0 : columns_of(text + i, 1);
        i += mark ? mark : 1;
    }
    return n;
}

static void append_styled(struct writer *w, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes;) {
        size_t mark = mark_at(w, text + i, n_bytes - i);
        if (mark == 2) {
            w->bold = !w->bold;
            str_append_text(w->out, w->bold ? bold_on : bold_off);
        } else if (mark == 1) {
            w->code = !w->code;
            str_append_text(w->out, w->code ? code_on : code_off);
        } else {
            str_append_char(w->out, text[i]);
        }
        i += mark ? mark : 1;
    }
}

static void end_styles(struct writer *w) {
    if (w->bold) str_append_text(w->out, bold_off);
    if (w->code) str_append_text(w->out, code_off);
    w->bold = w->code = false;
}

static void append_blanks(struct str *out, int n) {
    for (int i = 0; i < n; i++) str_append_char(out, ' ');
}

// Words up to the width; later lines begin under the text of the first.
static void append_wrapped(struct writer *w, const char *text, size_t n_bytes, int hanging) {
    int column = 0;
    for (size_t i = 0; i < n_bytes;) {
        size_t n = 0;
        while (i + n < n_bytes && text[i + n] != ' ') n++;
        int columns = shown_columns(w, text + i, n);
        if (column && column + 1 + columns > w->width) {
            str_append_char(w->out, '\n');
            append_blanks(w->out, hanging);
            column = hanging;
        } else if (i) {
            str_append_char(w->out, ' ');
            column++;
        }
        append_styled(w, text + i, n);
        column += columns;
        i += n + (i + n < n_bytes);
    }
    end_styles(w);
}

static int hanging_of(const char *line, size_t n_bytes) {
    size_t n = 0;
    while (n < n_bytes && line[n] >= '0' && line[n] <= '9') n++;
    if (n && n + 1 < n_bytes && line[n] == '.' && line[n + 1] == ' ') return (int)n + 2;
    return n_bytes > 1 && line[0] == '-' && line[1] == ' ' ? 2 : 0;
}

// What a cell's marks took follows as blanks, so that columns stay under each other.
static void append_row(struct writer *w, const char *line, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes;) {
        size_t n = 1;
        while (i + n < n_bytes && line[i + n] != '|') n++;
        int lost = columns_of(line + i, n) - shown_columns(w, line + i, n);
        append_styled(w, line + i, n);
        append_blanks(w->out, lost);
        i += n;
    }
    end_styles(w);
}

static void append_heading(struct writer *w, const char *line, size_t n_bytes) {
    size_t n = strspn(line, "#");
    if (!w->styled) {
        append_wrapped(w, line, n_bytes, (int)n + 1);
        return;
    }
    n += line[n] == ' ';
    str_append_text(w->out, bold_on);
    append_wrapped(w, line + n, n_bytes - n, 0);
    str_append_text(w->out, bold_off);
}

static void append_line(struct writer *w, const char *line, size_t n_bytes) {
    if (n_bytes >= 4 && strncmp(line, "    ", 4) == 0) {
        if (w->styled) str_append_text(w->out, code_on);
        str_append(w->out, line, n_bytes);
        if (w->styled) str_append_text(w->out, code_off);
    } else if (n_bytes && line[0] == '|') {
        append_row(w, line, n_bytes);
    } else if (n_bytes && line[0] == '#') {
        append_heading(w, line, n_bytes);
    } else {
        append_wrapped(w, line, n_bytes, hanging_of(line, n_bytes));
    }
}

void terminal_text_append(struct str *out, const char *markdown, int width, bool styled) {
    struct writer w = {.out = out, .width = width < 20 ? 20 : width, .styled = styled};
    while (*markdown) {
        size_t n = strcspn(markdown, "\n");
        append_line(&w, markdown, n);
        str_append_char(out, '\n');
        markdown += n + (markdown[n] == '\n');
    }
}
