#include "cli/bench_output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int bench_output_open(struct bench_output *out, const char *path, struct err *err) {
    *out = (struct bench_output){.path = path};
    if (!path) return 0;
    out->file = strcmp(path, "-") == 0 ? stdout : fopen(path, "a");
    return out->file ? 0 : err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
}

int bench_output_write(struct bench_output *output, const struct str *text, struct err *err) {
    if (!output->file) return 0;
    bool good = output->file == stdout || ftruncate(fileno(output->file), 0) == 0 || errno == EINVAL; // EINVAL: a pipe
    good = good && fwrite(str_text(text), 1, text->n_bytes, output->file) == text->n_bytes;
    good = (output->file == stdout ? fflush(stdout) : fclose(output->file)) == 0 && good;
    output->file = NULL;
    return good ? 0 : err_set(err, ERR_IO, "%s: %s", output->path, strerror(errno));
}

void bench_output_close(struct bench_output *output) {
    if (output->file && output->file != stdout) fclose(output->file);
    output->file = NULL;
}

FILE *bench_output_for_people(const struct bench_output *outputs, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (outputs[i].file == stdout) return stderr;
    return stdout;
}
