#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int least_level = LOG_LEVEL_INFO;

void log_level_set(enum log_level least) {
    atomic_store(&least_level, (int)least);
}

void log_write(enum log_level level, const char *format, ...) {
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed)) return;
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[1024], line[2300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    size_t n = strftime(line, sizeof line, "%Y-%m-%d %H:%M:%S ", &local);
    n += (size_t)snprintf(line + n, sizeof line - n, "%s ", names[level]);
    for (const char *p = text; *p && n < sizeof line - 6; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(line + n, sizeof line - n, "\\x%02x", c);
        else
            line[n++] = *p;
    }
    line[n++] = '\n';
    // One write a line keeps lines of several threads whole.
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written;
}
