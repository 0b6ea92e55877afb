#include "cli/child_server.h"

#include "base/str.h"
#include "bench/http_call.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POLL_MS = 50, END_TRIES = 600 };

static void run_child(int output, int errors, pid_t parent, char *const *arguments) {
    setpgid(0, 0); // Ctrl-C is for the parent, who ends its children in order
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    execv("/proc/self/exe", arguments);
    _exit(127);
}

int child_server_open(struct child_server *out, const words_vec *arguments, struct err *err) {
    int ends[2];
    VEC_OF(char *) all = {0};
    *out = (struct child_server){.output = -1};
    out->errors = tmpfile();
    if (!out->errors || pipe(ends) != 0) return err_set(err, ERR_IO, "no process can be started: %s", strerror(errno));
    vec_push(&all, mem_copy_string("optima", 6));
    vec_push(&all, mem_copy_string("serve", 5));
    for (size_t i = 0; i < arguments->count; i++)
        vec_push(&all, mem_copy_string(arguments->items[i], strlen(arguments->items[i])));
    vec_push(&all, NULL);
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_child(ends[1], fileno(out->errors), parent, all.items);
    }
    for (size_t i = 0; i + 1 < all.count; i++) free(all.items[i]);
    vec_free(&all);
    close(ends[1]);
    out->output = ends[0];
    out->pid = pid > 0 ? pid : 0;
    return pid < 0 ? err_set(err, ERR_IO, "no process can be started: %s", strerror(errno)) : 0;
}

// The last line that it wrote on standard error.
static void last_words(struct child_server *server, struct str *out) {
    char line[512];
    rewind(server->errors);
    while (fgets(line, sizeof line, server->errors)) {
        line[strcspn(line, "\n")] = 0;
        if (!*line) continue;
        str_clear(out);
        str_append_text(out, line);
    }
    if (!out->n_bytes) str_append_text(out, "without a word");
}

static int tell_end(struct child_server *server, struct err *err) {
    struct str words = STR_INIT;
    server->pid = 0;
    last_words(server, &words);
    err_set(err, ERR_CLOSED, "the server has ended: %.400s", str_text(&words));
    str_close(&words);
    return ERR_CLOSED;
}

// Takes what it says until its address is there.
static bool read_address(struct child_server *server, struct str *said) {
    static const char before[] = "listens on ";
    char part[1024];
    struct pollfd ready = {.fd = server->output, .events = POLLIN};
    if (poll(&ready, 1, POLL_MS) == 1) {
        const ssize_t n = read(server->output, part, sizeof part);
        if (n > 0) str_append(said, part, (size_t)n);
    }
    const char *at = strstr(str_text(said), before);
    if (!at || !strchr(at, '\n')) return false;
    at += strlen(before);
    snprintf(server->text, sizeof server->text, "%.*s", (int)strcspn(at, " \n"), at);
    return true;
}

static bool answers(const struct child_server *server) {
    struct http_call call = {.url = &server->url, .method = "GET", .path = "/health", .timeout_s = 5};
    struct str body = STR_INIT;
    struct err ignored;
    int status = 0;
    const int rc = http_call_run(&call, &status, &body, &ignored);
    str_close(&body);
    return !rc && status == 200;
}

int child_server_wait(struct child_server *server, const volatile int *stop, struct err *err) {
    struct str said = STR_INIT;
    bool has_address = false, is_ready = false;
    int rc = 0;
    while (!rc && !is_ready) {
        if (*stop)
            rc = err_set(err, ERR_CLOSED, "stopped");
        else if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            rc = tell_end(server, err);
        else if (!has_address)
            has_address = read_address(server, &said) && url_parse(&server->url, server->text, err) == 0;
        else if (!(is_ready = answers(server)))
            usleep(POLL_MS * 1000);
    }
    str_close(&said);
    return rc;
}

void child_server_close(struct child_server *server) {
    if (server->pid) {
        kill(server->pid, SIGTERM);
        int tries = 0;
        while (waitpid(server->pid, NULL, WNOHANG) == 0 && tries++ < END_TRIES) usleep(POLL_MS * 1000);
        if (tries > END_TRIES && kill(server->pid, SIGKILL) == 0) waitpid(server->pid, NULL, 0);
        server->pid = 0;
    }
    if (server->errors) {
        close(server->output);
        fclose(server->errors);
        server->errors = NULL;
    }
}
