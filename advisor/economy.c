#include "advisor/economy.h"

static const double SECONDS_PER_HOUR = 3600, MILLION = 1e6;

// Money a second: the machine, and its energy where that is priced by itself.
static double price_per_s(const struct evidence *e) {
    if (!figure_known(e->setup.price_per_hour)) return NAN;
    double price = e->setup.price_per_hour.value / SECONDS_PER_HOUR;
    if (figure_known(e->setup.watts_price_per_kwh) && !isnan(e->machine.watts))
        price += e->machine.watts / 1000 * e->setup.watts_price_per_kwh.value / SECONDS_PER_HOUR;
    return price;
}

// Shares of wall time that prompts and output take.
struct split {
    double input, output;
};

static struct split split_time(const struct time_ledger *ledger) {
    const double *share = ledger->share;
    const double input = share[TIME_PROMPT];
    const double output = share[TIME_DECODE_WEIGHTS] + share[TIME_DECODE_KV] + share[TIME_HEAD] + share[TIME_SAMPLING] +
                          share[TIME_REJECTED_DRAFTS] + share[TIME_RECOMPUTE];
    const double both = share[TIME_HOST_GAP] + share[TIME_PADDING] + share[TIME_COMMUNICATION] + share[TIME_THROTTLED];
    const double own = input + output;
    if (!(own > 0)) return (struct split){NAN, NAN};
    return (struct split){input + both * input / own, output + both * output / own};
}

static struct figure ratio(double amount, double by) {
    return figure_of(by > 0 ? amount / by : NAN, FIGURE_MODELLED);
}

static struct token_cost cost_of(double seconds, double price, double utilisation) {
    return (struct token_cost){figure_of(seconds, FIGURE_MODELLED),
                               figure_of(seconds * price * MILLION, FIGURE_MODELLED),
                               ratio(seconds * price * MILLION, utilisation)};
}

void economy_make(struct economy *out, const struct evidence *e) {
    const struct split time = split_time(&e->ledger);
    const double utilisation = 1 - e->ledger.share[TIME_IDLE], price = price_per_s(e);
    const struct load_figures *load = &e->load;
    const double memory = e->machine.resident_bytes + e->machine.available_bytes;
    const double cached_s = ratio(load->residence_mean * e->setup.kv_bytes_per_token, memory).value;
    *out = (struct economy){
        .input = cost_of(ratio(time.input, load->input_rate).value, price, utilisation),
        .cached_input = cost_of(load->cached_rate > 0 ? cached_s : NAN, price, utilisation),
        .output = cost_of(ratio(time.output, load->output_rate).value, price, utilisation),
        .blended = ratio(price * MILLION, load->input_rate + load->cached_rate + load->output_rate),
        .goodput_cost = ratio(price * MILLION, load->good_rate),
        .utilisation = figure_of(utilisation, FIGURE_MEASURED),
        .watts = figure_of(e->machine.watts, FIGURE_MEASURED),
    };
    const double busy = time.input + time.output;
    out->joules_per_input = ratio(e->machine.watts * time.input / busy, load->input_rate);
    out->joules_per_output = ratio(e->machine.watts * time.output / busy, load->output_rate);
}
