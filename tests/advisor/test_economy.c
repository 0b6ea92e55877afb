// What tokens cost, by hand.
#include "tests/test.h"

#include "advisor/economy.h"

static void is(struct figure got, double want, enum figure_source source) {
    if (!(fabs(got.value - want) <= 1e-9 * fabs(want)) || got.source != source)
        fail_msg("%.12g (%s), not %.12g (%s)", got.value, figure_source_name(got.source), want,
                 figure_source_name(source));
}

// Half of the time idle. Prompts take 0.1 and output 0.35 of it; they share the gap's 0.05 as 2 : 7.
static struct evidence half_busy(void) {
    struct evidence e = {
        .load = {.input_rate = 1000, .cached_rate = 400, .output_rate = 100, .good_rate = 500, .residence_mean = 8},
        .setup = {.kv_bytes_per_token = 1e5,
                  .price_per_hour = {3.6, FIGURE_USER},
                  .watts_price_per_kwh = {NAN, FIGURE_UNKNOWN}},
        .machine = {.watts = 180, .resident_bytes = 6e9, .available_bytes = 10e9}};
    e.ledger.share[TIME_IDLE] = 0.5;
    e.ledger.share[TIME_HOST_GAP] = 0.05;
    e.ledger.share[TIME_PROMPT] = 0.1;
    e.ledger.share[TIME_DECODE_WEIGHTS] = 0.25;
    e.ledger.share[TIME_DECODE_KV] = 0.05;
    e.ledger.share[TIME_HEAD] = 0.05;
    return e;
}

static void tokens_pay_for_their_time(void **state) {
    (void)state;
    struct evidence e = half_busy();
    struct economy economy;
    economy_make(&economy, &e);
    const double input = (0.1 + 0.05 * 2 / 9) / 1000, output = (0.35 + 0.05 * 7 / 9) / 100; // seconds a token
    is(economy.utilisation, 0.5, FIGURE_MEASURED);
    is(economy.input.seconds, input, FIGURE_MODELLED);
    is(economy.output.seconds, output, FIGURE_MODELLED);
    is(economy.input.marginal, 1.0 / 9, FIGURE_MODELLED); // 0.001 a second
    is(economy.output.marginal, 35.0 / 9, FIGURE_MODELLED);
    is(economy.input.loaded, 2.0 / 9, FIGURE_MODELLED);
    is(economy.output.loaded, 70.0 / 9, FIGURE_MODELLED);
    // 100 kB of 16 GB for 8 s.
    is(economy.cached_input.seconds, 5e-5, FIGURE_MODELLED);
    is(economy.cached_input.marginal, 0.05, FIGURE_MODELLED);
    is(economy.blended, 1000.0 / 1500, FIGURE_MODELLED);
    is(economy.goodput_cost, 2, FIGURE_MODELLED);
    // 180 J a second, in the proportion of 2 to 7.
    is(economy.joules_per_input, 40.0 / 1000, FIGURE_MODELLED);
    is(economy.joules_per_output, 140.0 / 100, FIGURE_MODELLED);
}

// Loaded costs of all tokens are what the machine costs: 0.001 a second.
static void all_tokens_pay_for_the_machine(void **state) {
    (void)state;
    struct evidence e = half_busy();
    struct economy economy;
    economy_make(&economy, &e);
    const double paid = (economy.input.loaded.value * 1000 + economy.output.loaded.value * 100) / 1e6;
    assert_true(fabs(paid - 0.001) < 1e-12);
}

// 180 W at 0.20 a kWh are 0.036 an hour more: one percent of the price.
static void energy_is_paid_where_it_has_a_price(void **state) {
    (void)state;
    struct evidence e = half_busy();
    e.setup.watts_price_per_kwh = figure_of(0.20, FIGURE_USER);
    struct economy economy;
    economy_make(&economy, &e);
    is(economy.blended, 1010.0 / 1500, FIGURE_MODELLED);
    e.machine.watts = NAN;
    economy_make(&economy, &e);
    is(economy.blended, 1000.0 / 1500, FIGURE_MODELLED);
    assert_false(figure_known(economy.joules_per_output) || figure_known(economy.watts));
}

static void nothing_is_said_without_a_price_or_tokens(void **state) {
    (void)state;
    struct evidence e = half_busy();
    e.setup.price_per_hour = figure_unknown();
    struct economy economy;
    economy_make(&economy, &e);
    const struct figure money[] = {
        economy.input.marginal, economy.input.loaded, economy.output.marginal,       economy.output.loaded,
        economy.blended,        economy.goodput_cost, economy.cached_input.marginal, economy.cached_input.loaded};
    for (size_t i = 0; i < sizeof money / sizeof *money; i++)
        assert_true(!figure_known(money[i]) && isnan(money[i].value));
    assert_true(figure_known(economy.input.seconds)); // time needs no price

    e = (struct evidence){.setup = half_busy().setup, .load.good_rate = NAN};
    e.ledger.share[TIME_IDLE] = 1;
    economy_make(&economy, &e);
    const struct figure idle[] = {economy.input.seconds,        economy.output.seconds, economy.output.loaded,
                                  economy.cached_input.seconds, economy.blended,        economy.goodput_cost,
                                  economy.joules_per_output};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) assert_false(figure_known(idle[i]));
    is(economy.utilisation, 0, FIGURE_MEASURED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_pay_for_their_time),
        cmocka_unit_test(all_tokens_pay_for_the_machine),
        cmocka_unit_test(energy_is_paid_where_it_has_a_price),
        cmocka_unit_test(nothing_is_said_without_a_price_or_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
