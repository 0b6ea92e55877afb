// Exponentials and logarithms of whole vectors, and loads and stores of a row's last lanes; for both instruction sets.
#pragma once

// Of the `left` elements that remain, at most a vector.
VEC_INLINE vec vec_load_part(const float *p, int32_t left) {
    return left >= VEC_N ? vec_load(p) : vec_load_n(p, left);
}
VEC_INLINE void vec_store_part(float *p, vec x, int32_t left) {
    if (left >= VEC_N)
        vec_store(p, x);
    else
        vec_store_n(p, x, left);
}

// e^x within 2 ulp; exactly 1 at 0, exactly 0 below -86 and e^88 above 88; NaN stays NaN.
VEC_INLINE vec vec_exp(vec x) {
    const vec low = vec_all(-86), high = vec_all(88);
    vec bounded = vec_where_less(high, x, high, vec_where_less(x, low, low, x));
    vec n = vec_round(vec_mul(bounded, vec_all(1.44269504f)));
    vec r = vec_fnma(n, vec_all(0.693359375f), bounded); // ln 2 in two parts
    r = vec_fnma(n, vec_all(-2.12194440e-4f), r);
    // Minimax polynomial of (e^r - 1 - r) / r^2 on [-ln2/2, ln2/2] (Cephes).
    vec p = vec_all(1.9875691500e-4f);
    p = vec_fma(p, r, vec_all(1.3981999507e-3f));
    p = vec_fma(p, r, vec_all(8.3334519073e-3f));
    p = vec_fma(p, r, vec_all(4.1665795894e-2f));
    p = vec_fma(p, r, vec_all(1.6666665459e-1f));
    p = vec_fma(p, r, vec_all(5.0000001201e-1f));
    p = vec_fma(p, vec_mul(r, r), vec_add(r, vec_all(1)));
    return vec_where_less(x, low, vec_zero(), vec_scale(p, n));
}

// ln x of positive normal x, within 2 ulp.
VEC_INLINE vec vec_log(vec x) {
    vec e = vec_exponent(x), m = vec_mantissa(x);
    const vec limit = vec_all(1.41421356f);
    e = vec_where_less(limit, m, vec_add(e, vec_all(1)), e);
    m = vec_where_less(limit, m, vec_mul(m, vec_all(0.5f)), m);
    vec f = vec_sub(m, vec_all(1)), z = vec_mul(f, f);
    vec p = vec_all(7.0376836292e-2f); // Cephes
    p = vec_fma(p, f, vec_all(-1.1514610310e-1f));
    p = vec_fma(p, f, vec_all(1.1676998740e-1f));
    p = vec_fma(p, f, vec_all(-1.2420140846e-1f));
    p = vec_fma(p, f, vec_all(1.4249322787e-1f));
    p = vec_fma(p, f, vec_all(-1.6668057665e-1f));
    p = vec_fma(p, f, vec_all(2.0000714765e-1f));
    p = vec_fma(p, f, vec_all(-2.4999993993e-1f));
    p = vec_fma(p, f, vec_all(3.3333331174e-1f));
    vec y = vec_mul(vec_mul(p, f), z);
    y = vec_fma(e, vec_all(-2.12194440e-4f), y);
    y = vec_fnma(z, vec_all(0.5f), y);
    return vec_fma(e, vec_all(0.693359375f), vec_add(f, y));
}

// Absolute error below 2e-7.
VEC_INLINE vec vec_tanh(vec x) {
    vec e = vec_exp(vec_add(x, x));
    return vec_sub(vec_all(1), vec_div(vec_all(2), vec_add(e, vec_all(1))));
}

// x / (1 + e^-y)
VEC_INLINE vec vec_gated(vec x, vec y) {
    return vec_div(x, vec_add(vec_all(1), vec_exp(vec_sub(vec_zero(), y))));
}
