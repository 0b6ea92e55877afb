#include "advisor/machine_text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Digits, with a sign or a point; moves on. NAN: there is no number here.
static double take_number(const char **at) {
    while (**at == ' ' || **at == '\t') (*at)++;
    if (!isdigit((unsigned char)**at) && !(**at == '-' && isdigit((unsigned char)(*at)[1]))) return NAN;
    char *end;
    const double value = strtod(*at, &end);
    *at = end;
    return isfinite(value) ? value : NAN;
}

static const char *next_line(const char *at) {
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

double machine_text_value(const char *text, const char *key) {
    const size_t n = strlen(key);
    for (const char *line = text; *line; line = next_line(line))
        if (strncmp(line, key, n) == 0 && (line[n] == ' ' || line[n] == '\t')) {
            const char *at = line + n;
            return take_number(&at);
        }
    return NAN;
}

double machine_text_number(const char *text, int i) {
    const char *at = text;
    for (;; i--) {
        at += strspn(at, " \t\n");
        const bool is_max = strncmp(at, "max", 3) == 0;
        const double value = is_max ? INFINITY : take_number(&at);
        if (isnan(value) || i == 0) return value;
        if (is_max) at += 3;
    }
}

int machine_text_list_count(const char *text) {
    int count = 0;
    for (const char *at = text; *at && *at != '\n';) {
        const double first = take_number(&at);
        double last = first;
        if (*at == '-') at++, last = take_number(&at);
        if (!(first >= 0) || !(last >= first) || last > 1e6) return 0;
        count += (int)(last - first) + 1;
        if (*at == ',') at++;
    }
    return count;
}

int machine_text_list_first(const char *text) {
    const double first = take_number(&text);
    return first >= 0 && first < 1e6 ? (int)first : -1;
}

struct processor_time machine_text_processors(const char *stat, double ticks_per_s) {
    enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, FIELDS };
    double ticks[FIELDS];
    if (strncmp(stat, "cpu ", 4) != 0) return (struct processor_time){NAN, NAN};
    const char *at = stat + 4;
    for (int i = 0; i < FIELDS; i++) ticks[i] = take_number(&at);
    const double busy = ticks[USER] + ticks[NICE] + ticks[SYSTEM] + ticks[IRQ] + ticks[SOFTIRQ] + ticks[STEAL];
    return (struct processor_time){busy / ticks_per_s, (ticks[IDLE] + ticks[IOWAIT]) / ticks_per_s};
}

struct process_time machine_text_process(const char *stat, double ticks_per_s) {
    // Fields behind the program's name, which may hold anything, brackets too: state is 3.
    enum { STATE = 3, MAJOR_FAULTS = 12, USER = 14, SYSTEM = 15 };
    struct process_time out = {NAN, NAN};
    const char *at = strrchr(stat, ')');
    if (!at || !at[1] || !at[2]) return out;
    at += 3;
    double user = NAN, system = NAN;
    for (int field = STATE + 1; field <= SYSTEM; field++) {
        const double value = take_number(&at);
        if (field == MAJOR_FAULTS) out.major_faults = value;
        if (field == USER) user = value;
        if (field == SYSTEM) system = value;
    }
    out.cpu_s = (user + system) / ticks_per_s;
    return out;
}

struct throttling machine_text_throttling(const char *cpu_stat) {
    const double us = machine_text_value(cpu_stat, "throttled_usec");
    const double ns = machine_text_value(cpu_stat, "throttled_time");
    return (struct throttling){.seconds = isnan(us) ? ns * 1e-9 : us * 1e-6,
                               .periods = machine_text_value(cpu_stat, "nr_periods"),
                               .periods_throttled = machine_text_value(cpu_stat, "nr_throttled")};
}

// Whether a controller is one of a list "cpu,cpuacct".
static bool lists(const char *list, size_t n_list, const char *controller) {
    const size_t n = strlen(controller);
    for (const char *at = list, *end = list + n_list; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const size_t n_name = (size_t)((comma ? comma : end) - at);
        if (n_name == n && memcmp(at, controller, n) == 0) return true;
        at += n_name + 1;
    }
    return false;
}

bool machine_text_group(const char *cgroup, const char *controller, char *path, int n_path) {
    for (const char *line = cgroup; *line; line = next_line(line)) {
        const size_t n_line = strcspn(line, "\n");
        const char *first = memchr(line, ':', n_line);
        const char *second = first ? memchr(first + 1, ':', n_line - (size_t)(first + 1 - line)) : NULL;
        if (!second || !lists(first + 1, (size_t)(second - first - 1), controller)) continue;
        const size_t n = n_line - (size_t)(second + 1 - line);
        if (n == 0 || second[1] != '/' || n >= (size_t)n_path) return false;
        memcpy(path, second + 1, n);
        path[n] = 0;
        return true;
    }
    return false;
}
