// The small formats: every bit pattern survives, rounding goes to the nearest value and to even ones on a tie.
#include "tests/test.h"

#include "base/number.h"

#include <math.h>

static void bf16_patterns_survive(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        float x = f32_from_bf16((uint16_t)i);
        uint16_t back = bf16_from_f32(x);
        if (isnan(x))
            assert_true(isnan(f32_from_bf16(back)));
        else
            assert_int_equal(back, i);
    }
}

// Values by arithmetic on the fields, not by shifting bits.
static double value_of(uint32_t sign, uint32_t exponent, uint32_t mantissa, int mantissa_bits, int bias) {
    double m = exponent ? 1 + ldexp(mantissa, -mantissa_bits) : ldexp(mantissa, -mantissa_bits);
    double value = ldexp(m, (int)(exponent ? exponent : 1) - bias);
    return sign ? -value : value;
}

static void f16_patterns_have_their_values(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        float x = f32_from_f16((uint16_t)i);
        uint32_t exponent = i >> 10 & 31, mantissa = i & 1023;
        if (exponent == 31 && mantissa) {
            assert_true(isnan(x) && isnan(f32_from_f16(f16_from_f32(x))));
            continue;
        }
        if (exponent == 31)
            assert_true(isinf(x) && (x < 0) == (i >> 15));
        else
            assert_true((double)x == value_of(i >> 15, exponent, mantissa, 10, 15));
        assert_int_equal(f16_from_f32(x), i);
    }
}

static void e4m3_patterns_have_their_values(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 256; i++) {
        float x = f32_from_e4m3((uint8_t)i);
        if ((i & 0x7f) == 0x7f) {
            assert_true(isnan(x));
            assert_int_equal(e4m3_from_f32(x) & 0x7f, 0x7f);
            continue;
        }
        assert_true((double)x == value_of(i >> 7, i >> 3 & 15, i & 7, 3, 7));
        assert_int_equal(e4m3_from_f32(x), i);
    }
}

// Between two neighbours the middle goes to the even one, and a hair beside the middle to the nearer one.
static void check_middles(uint16_t (*to)(float), float (*from)(uint16_t), uint32_t first, uint32_t last) {
    for (uint32_t i = first; i < last; i++) {
        float low = from((uint16_t)i), high = from((uint16_t)(i + 1)),
              middle = (float)(((double)low + (double)high) / 2);
        assert_int_equal(to(middle), i % 2 ? i + 1 : i);
        assert_int_equal(to(nextafterf(middle, low)), i);
        assert_int_equal(to(nextafterf(middle, high)), i + 1);
        assert_int_equal(to(-middle), 0x8000 | (i % 2 ? i + 1 : i));
    }
}

static float bf16_value(uint16_t x) {
    return f32_from_bf16(x);
}
static uint16_t bf16_bits(float x) {
    return bf16_from_f32(x);
}

static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    check_middles(f16_from_f32, f32_from_f16, 0, 0x7bff);
    check_middles(bf16_bits, bf16_value, 0x0001, 0x7f7e);
    for (uint32_t i = 0; i < 0x7e; i++) {
        float low = f32_from_e4m3((uint8_t)i), high = f32_from_e4m3((uint8_t)(i + 1)), middle = (low + high) / 2;
        assert_int_equal(e4m3_from_f32(middle), i % 2 ? i + 1 : i);
        assert_int_equal(e4m3_from_f32(nextafterf(middle, low)), i);
        assert_int_equal(e4m3_from_f32(nextafterf(middle, high)), i + 1);
    }
}

static void ends_of_the_ranges_are_right(void **state) {
    (void)state;
    assert_int_equal(f16_from_f32(65504), 0x7bff);
    assert_int_equal(f16_from_f32(65519.996f), 0x7bff);
    assert_int_equal(f16_from_f32(65520), 0x7c00);
    assert_int_equal(f16_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(f16_from_f32(0x1p-25f), 0); // half of the smallest: to even
    assert_int_equal(f16_from_f32(0x1.8p-25f), 1);
    assert_int_equal(f16_from_f32(-0.0f), 0x8000);
    assert_int_equal(bf16_from_f32(3.4e38f), 0x7f80); // beyond the largest bfloat16
    assert_int_equal(bf16_from_f32(INFINITY), 0x7f80);
    assert_int_equal(e4m3_from_f32(448), 0x7e);
    assert_int_equal(e4m3_from_f32(1e9f), 0x7e); // saturates
    assert_int_equal(e4m3_from_f32(-INFINITY), 0xfe);
    assert_int_equal(e4m3_from_f32(-0.0f), 0x80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_patterns_survive),           cmocka_unit_test(f16_patterns_have_their_values),
        cmocka_unit_test(e4m3_patterns_have_their_values), cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(ends_of_the_ranges_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
