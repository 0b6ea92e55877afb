#include "bench/client_machine.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

// "model name : ..." of the first processor; elsewhere than on x86-64 there may be none.
static void processor_name(char *out, size_t n_bytes) {
    char line[256];
    snprintf(out, n_bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value += strspn(value, ": \t");
        snprintf(out, n_bytes, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (file) fclose(file);
}

static void append_member(struct str *out, const char *name, const char *text) {
    str_printf(out, "\"%s\":", name);
    json_append_string(out, text, strlen(text));
    str_append_char(out, ',');
}

void client_machine_json(struct str *out) {
    struct utsname names;
    char processor[160], system[160];
    double load[3] = {0};
    if (uname(&names)) memset(&names, 0, sizeof names);
    if (getloadavg(load, 3) < 1) load[0] = 0;
    processor_name(processor, sizeof processor);
    snprintf(system, sizeof system, "%.60s %.60s %.30s", names.sysname, names.release, names.machine);
    str_append_char(out, '{');
    append_member(out, "host", names.nodename);
    append_member(out, "system", system);
    append_member(out, "processor", processor);
    str_printf(out, "\"processors\":%ld,\"load_average\":%.2f}", sysconf(_SC_NPROCESSORS_ONLN), load[0]);
}
