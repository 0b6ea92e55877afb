#include "cli/bench_output.h"

#include "bench/page.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_one(struct bench_output *out, const char *path, struct err *err) {
    *out = (struct bench_output){.path = path};
    if (!path) return 0;
    out->file = strcmp(path, "-") == 0 ? stdout : fopen(path, "a");
    return out->file ? 0 : err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
}

static int write_one(struct bench_output *output, const struct str *text, struct err *err) {
    if (!output->file) return 0;
    bool good = output->file == stdout || ftruncate(fileno(output->file), 0) == 0 || errno == EINVAL; // EINVAL: a pipe
    good = good && fwrite(str_text(text), 1, text->n_bytes, output->file) == text->n_bytes;
    good = (output->file == stdout ? fflush(stdout) : fclose(output->file)) == 0 && good;
    output->file = NULL;
    return good ? 0 : err_set(err, ERR_IO, "%s: %s", output->path, strerror(errno));
}

int bench_outputs_open(struct bench_outputs *out, const char *json, const char *csv, const char *html,
                       struct err *err) {
    const char *const paths[] = {json, csv, html};
    int n_standard = 0;
    for (int i = 0; i < 3; i++) n_standard += paths[i] && strcmp(paths[i], "-") == 0;
    if (n_standard > 1) return err_set(err, ERR_INVALID, "only one of --json, --csv and --html can be \"-\"");
    int rc = open_one(&out->json, json, err);
    if (!rc) rc = open_one(&out->csv, csv, err);
    if (!rc) rc = open_one(&out->html, html, err);
    return rc;
}

FILE *bench_outputs_people(const struct bench_outputs *outputs) {
    const bool taken = outputs->json.file == stdout || outputs->csv.file == stdout || outputs->html.file == stdout;
    return taken ? stderr : stdout;
}

static int write_page(struct bench_outputs *outputs, const struct str *document, struct err *err) {
    struct str page = STR_INIT;
    page_html((struct str_view){document->data, document->n_bytes}, &page);
    const int rc = write_one(&outputs->html, &page, err);
    str_close(&page);
    return rc;
}

int bench_outputs_write(struct bench_outputs *outputs, const struct measurement_document *document, struct err *err) {
    struct measurement_document brief = *document;
    struct str text = STR_INIT;
    int rc = 0;
    brief.with_requests = false;
    if (outputs->json.file) {
        measurement_json(document, &text);
        rc = write_one(&outputs->json, &text, err);
    }
    if (!rc && outputs->html.file) {
        str_clear(&text);
        measurement_json(&brief, &text);
        rc = write_page(outputs, &text, err);
    }
    if (!rc && outputs->csv.file) {
        str_clear(&text);
        measurement_csv(document->runs, document->n_runs, &text);
        rc = write_one(&outputs->csv, &text, err);
    }
    str_close(&text);
    return rc;
}

int bench_outputs_write_text(struct bench_outputs *outputs, const struct str *document, struct err *err) {
    int rc = write_one(&outputs->json, document, err);
    if (!rc && outputs->html.file) rc = write_page(outputs, document, err);
    return rc;
}

static void close_one(struct bench_output *output) {
    struct stat about;
    if (output->file && output->file != stdout) {
        const bool empty = fstat(fileno(output->file), &about) == 0 && S_ISREG(about.st_mode) && about.st_size == 0;
        fclose(output->file);
        if (empty) unlink(output->path);
    }
    output->file = NULL;
}

void bench_outputs_close(struct bench_outputs *outputs) {
    close_one(&outputs->json);
    close_one(&outputs->csv);
    close_one(&outputs->html);
}
