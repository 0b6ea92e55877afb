#include "advisor/finding.h"

#include "advisor/knob.h"
#include "advisor/time_ledger.h"

#include <math.h>
#include <string.h>

const char *bottleneck_name(enum bottleneck bottleneck) {
    static const char *const names[] = {
        [BOTTLENECK_UNKNOWN] = "insufficient_evidence",
        [BOTTLENECK_INPUT] = "input",
        [BOTTLENECK_BANDWIDTH] = "memory_bandwidth",
        [BOTTLENECK_COMPUTE] = "compute",
        [BOTTLENECK_LATENCY] = "latency",
        [BOTTLENECK_KV] = "kv_cache",
        [BOTTLENECK_SCHEDULING] = "scheduling",
        [BOTTLENECK_HOST] = "host",
        [BOTTLENECK_NETWORK] = "network",
        [BOTTLENECK_CAPACITY] = "capacity",
        [BOTTLENECK_MACHINE] = "machine",
        [BOTTLENECK_POWER] = "power",
        [BOTTLENECK_COST] = "cost",
        [BOTTLENECK_MEASUREMENT] = "measurement",
    };
    return names[bottleneck];
}

static bool is_share(double value) {
    return value >= 0 && value <= 1;
}

static bool facts_are_sound(const struct fact *facts, int n) {
    for (int i = 0; i < n; i++) {
        const struct fact *fact = &facts[i];
        if (!fact->metric || !*fact->metric || !fact->unit) return false;
        if (!isfinite(fact->value) || fact->source == FIGURE_UNKNOWN) return false;
        if (strcmp(fact->unit, "share") == 0 && !is_share(fact->value)) return false;
    }
    return true;
}

static bool effect_is_sound(const struct effect *effect) {
    if (!effect->metric || !isfinite(effect->now) || effect->now < 0) return false;
    if (!isfinite(effect->factor.low) || !isfinite(effect->factor.high)) return false;
    if (effect->factor.low <= 0 || effect->factor.low > effect->factor.high) return false;
    if (isinf(effect->cap)) return false;
    return effect->method[0] && effect->n_inputs > 0 && facts_are_sound(effect->inputs, effect->n_inputs);
}

bool finding_is_sound(const struct finding *finding) {
    if (!finding->id || !finding->name || !finding->source) return false;
    if (!is_share(finding->share) || !is_share(finding->benefit)) return false;
    if (!finding->diagnosis[0] || !finding->action[0] || !finding->why[0]) return false;
    if (!finding->experiment[0] || !finding->success[0]) return false;
    if (finding->n_facts < 1 || !facts_are_sound(finding->facts, finding->n_facts)) return false;
    for (int i = 0; i < finding->n_risks; i++)
        if (!finding->risks[i][0]) return false;
    bool is_change = finding->flag[0] || finding->knob >= 0;
    if (is_change && (!finding->has_effect || !finding->rollback[0])) return false;
    if (finding->changes_numerics && !finding->quality_gate[0]) return false;
    return !finding->has_effect || effect_is_sound(&finding->effect);
}
