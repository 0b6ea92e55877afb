#include "bench/client_machine.h"
#include "base/json_write.h"

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

void client_machine_json(struct str *out) {
    struct utsname names;
    char processor[160], system[160];
    double load[3] = {0};
    if (uname(&names)) memset(&names, 0, sizeof names);
    if (getloadavg(load, 3) < 1) load[0] = 0;
    processor_name(processor, sizeof processor);
    snprintf(system, sizeof system, "%.60s %.60s %.30s", names.sysname, names.release, names.machine);
    json_write_begin(out, "client", '{');
    json_write_text(out, "host", names.nodename);
    json_write_text(out, "system", system);
    json_write_text(out, "processor", processor);
    json_write_int(out, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    json_write_number(out, "load_average", load[0]);
    json_write_end(out, '}');
}
