/* Elementary functions without branches or calls, so that loops around them are vectorized.
 *
 * Accuracy: within 4 units in the last place over all of float32, denormals, NaN, infinities and
 * signed zeros included (tests/codegen/test_native_functions.py). The polynomials come from
 * graphc.codegen.native.minimax. Nothing here relies on a fused multiply-add, nor on its absence.
 */
#ifndef GRAPHC_VECTOR_H
#define GRAPHC_VECTOR_H

/* Fused where the processor does it; elsewhere fma() would be a call, and no loop would vectorize */
#if defined(__FP_FAST_FMAF) || defined(__FMA__)
#define GC_FMA_F32(x, y, z) __builtin_fmaf(x, y, z)
#else
#define GC_FMA_F32(x, y, z) ((x) * (y) + (z))
#endif
#if defined(__FP_FAST_FMA) || defined(__FMA__)
#define GC_FMA_F64(x, y, z) __builtin_fma(x, y, z)
#else
#define GC_FMA_F64(x, y, z) ((x) * (y) + (z))
#endif

#include "polynomials.h"

#define GC_INF_F32 __builtin_inff()
#define GC_NAN_F32 __builtin_nanf("")
#define GC_LEAST_F32 1.17549435e-38f     /* below are denormals */
#define GC_ROUND_F32 12582912.0f         /* 1.5 * 2^23: what is added to it is rounded to integer */
#define GC_ROUND_F64 6755399441055744.0  /* 1.5 * 2^52 */
#define GC_LOG2E_F32 1.44269504f
#define GC_LN2_HIGH_F32 0.693145751953125f /* 16 bits: n times it is exact */
#define GC_LN2_LOW_F32 1.42860682e-6f
#define GC_HALF_PI_F32 1.57079637f
#define GC_HALF_PI_LOW_F32 -4.37113883e-8f

/* 2^n, -126 <= n <= 127 */
GC_INLINE float gc_power_of_2_f32(int32_t n) { return gc_float_of((uint32_t)(n + 127) << 23); }

/* A limit is a variable, as far as the compiler can see: then a choice between it and a value is
 * one instruction, a minimum or maximum. With literals, GCC makes two of one, ten of two in a row. */
#define GC_LIMIT(name, value) static float name __attribute__((used)) = value
GC_LIMIT(gc_exp_most_f32, 90.0f);
GC_LIMIT(gc_exp_least_f32, -104.5f);
GC_LIMIT(gc_expm1_most_f32, 89.0f);
GC_LIMIT(gc_expm1_least_f32, -40.0f);
GC_LIMIT(gc_tanh_most_f32, 9.1f);
GC_LIMIT(gc_erf_most_f32, 3.93f);
GC_INLINE float gc_at_most_f32(float x, float most) { return most < x ? most : x; } /* NaN passes */
GC_INLINE float gc_at_least_f32(float x, float least) { return x < least ? least : x; }

/* x = n ln(2) + r; shifted left by 23 bits, `power` has n + bias where floats have the exponent */
typedef struct { uint32_t power; float r; } gc_powers;
GC_INLINE gc_powers gc_powers_f32(float x, float bias) {
    float rounded = GC_FMA_F32(x, GC_LOG2E_F32, GC_ROUND_F32 + bias);
    float n = rounded - (GC_ROUND_F32 + bias);
    float r = GC_FMA_F32(n, -GC_LN2_HIGH_F32, x);
    gc_powers powers = {gc_bits_of(rounded), GC_FMA_F32(n, -GC_LN2_LOW_F32, r)};
    return powers;
}
GC_INLINE gc_powers gc_exp_powers_f32(float x) {
    float c = gc_at_most_f32(x, gc_exp_most_f32);
    return gc_powers_f32(gc_at_least_f32(c, gc_exp_least_f32), 2 * 127);
}

/* scale * 2^n (1 + r q), of a bias of 2 * 127. The power comes in two factors, each of which is a
 * normal number, so that 2^128 and 2^-149 are within reach. */
GC_INLINE float gc_scaled_f32(uint32_t power, float r, float q, float scale) {
    uint32_t half = power >> 1;
    float first = gc_float_of(half << 23) * scale, second = gc_float_of((power - half) << 23);
    return GC_FMA_F32(q, r * first, first) * second;
}

GC_INLINE float gc_exp_f32(float x) {
    gc_powers powers = gc_exp_powers_f32(x);
    return gc_scaled_f32(powers.power, powers.r, gc_exp_polynomial(powers.r), 1.0f);
}

/* e^x for x <= 64, in fewer steps: of smaller numbers, 2^(n + 32) is always a normal one, and the
 * last product rounds once what is a denormal. */
GC_INLINE float gc_exp_below_f32(float x) {
    gc_powers powers = gc_powers_f32(gc_at_least_f32(x, gc_exp_least_f32), 127 + 32);
    float power = gc_float_of(powers.power << 23), q = gc_exp_polynomial(powers.r);
    return GC_FMA_F32(q, powers.r * power, power) * 0x1p-32f;
}

/* scale * e^(x + low) for a small `low` and scale 1 or 1/2, to more digits */
GC_INLINE float gc_exp_sum_f32(float x, float low, float scale) {
    gc_powers powers = gc_exp_powers_f32(x);
    float r = powers.r + low, q = GC_FMA_F32(gc_expm1_polynomial(r), r, 1.0f);
    return gc_scaled_f32(powers.power, r, q, scale);
}

/* 2^(n-1) (1 + p) - 1/2, twice */
GC_INLINE float gc_expm1_f32(float x) {
    float c = gc_at_most_f32(x, gc_expm1_most_f32);
    gc_powers powers = gc_powers_f32(gc_at_least_f32(c, gc_expm1_least_f32), 126);
    float r = powers.r, p = GC_FMA_F32(r * r, gc_expm1_polynomial(r), r);
    float half = gc_float_of(powers.power << 23);
    float y = 2.0f * GC_FMA_F32(half, p, half - 0.5f);
    return x != x || fabsf(x) < 1e-10f ? x : y; /* -0 and denormals as they are */
}

/* log(u + low), u > 0 finite, |low| at most half a unit of u's last place. With u = 2^e m,
 * sqrt(1/2) <= m < sqrt(2), f = m - 1: e ln(2) + f - f^2/2 + f^3 P(f). */
GC_INLINE float gc_log_sum_f32(float u, float low) {
    float normal = u < GC_LEAST_F32 ? u * 8388608.0f : u;
    int32_t shifted = (int32_t)gc_bits_of(normal) - 0x3f3504f3;
    int32_t exponent = shifted >> 23;
    float m = gc_float_of((uint32_t)((shifted & 0x7fffff) + 0x3f3504f3));
    float e = (float)exponent - (u < GC_LEAST_F32 ? 23.0f : 0.0f);
    int32_t clipped = exponent > 64 ? 64 : exponent; /* by then, low is nothing */
    float f = (m - 1.0f) + low * gc_power_of_2_f32(-clipped);
    float square = f * f;
    float tail = GC_FMA_F32(f * square, gc_log_polynomial(f), e * GC_LN2_LOW_F32);
    tail = GC_FMA_F32(square, -0.5f, tail);
    return GC_FMA_F32(e, GC_LN2_HIGH_F32, f + tail);
}

GC_INLINE float gc_log_f32(float x) {
    float y = gc_log_sum_f32(x, 0.0f);
    y = x == 0 ? -GC_INF_F32 : y;
    y = x < 0 ? GC_NAN_F32 : y;
    return x == GC_INF_F32 || x != x ? x : y;
}

GC_INLINE float gc_log1p_f32(float x) { /* with what is lost when 1 + x is rounded */
    float u = 1.0f + x;
    float low = x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f);
    float y = gc_log_sum_f32(u, low);
    y = x == -1.0f ? -GC_INF_F32 : y;
    y = x < -1.0f ? GC_NAN_F32 : y;
    return x == GC_INF_F32 || x != x || fabsf(x) < 1e-10f ? x : y;
}

GC_INLINE float gc_sigmoid_f32(float x) { /* e^-|x| cannot overflow */
    float e = gc_exp_below_f32(-fabsf(x));
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

GC_INLINE float gc_tanh_f32(float x) { /* x + x^3 P(x^2); from 0.55 on, 1 - 2 / (e^2x + 1) */
    float a = fabsf(x), z = x * x;
    gc_powers powers = gc_powers_f32(2.0f * gc_at_most_f32(a, gc_tanh_most_f32), 127);
    float r = powers.r, power = gc_float_of(powers.power << 23);
    float e = GC_FMA_F32(gc_exp_polynomial(r), r * power, power);
    float large = 1.0f - 2.0f / (e + 1.0f);
    float small = GC_FMA_F32(a * z, gc_tanh_polynomial(z), a);
    float y = a < 0.55f ? small : large;
    return x != x ? x : copysignf(y, x);
}

GC_INLINE float gc_erf_f32(float x) { /* x P(x^2); from 1.15 on, 1 - 1 / R(x)^16 */
    float a = gc_at_most_f32(fabsf(x), gc_erf_most_f32);
    float root = gc_erf_large_polynomial(a);
    root *= root;
    root *= root;
    root *= root;
    root *= root;
    float large = 1.0f - 1.0f / root;
    float small = a * gc_erf_small_polynomial(a * a);
    return copysignf(a < 1.15f ? small : large, x);
}

/* e^(-x^2) P((x - 1.5) / (x + 3)) / (1 + 2x), after M. Shepherd and J. Laframboise, Math. Comp. 36,
 * 1981; x^2 is the sum of the exact square of x's upper half and the rest. */
GC_INLINE float gc_erfc_f32(float x) {
    float a = fabsf(x);
    a = a > 10.1f ? 10.1f : a;
    float upper = gc_float_of(gc_bits_of(a) & 0xfffff000u);
    float e = gc_exp_sum_f32(-upper * upper, -(a + upper) * (a - upper), 1.0f);
    float y = gc_erfc_polynomial((a - 1.5f) / (a + 3.0f)) / (1.0f + 2.0f * a);
    y = e * y;
    y = x < 0 ? 2.0f - y : y;
    y = a < 0.5f ? 1.0f - x * gc_erf_small_polynomial(x * x) : y;
    return x != x ? x : y;
}

/* x + GC_ROUND_F64 has the integer nearest to x in its lowest bits */
GC_INLINE uint64_t gc_bits_of_f64(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }

/* |x| = (quadrant + r) quarter turns, r as an angle. |x| = m 2^j, where j = 0 or m is an integer,
 * and m < 2^50. m has 24 bits, so that its products with the upper 29 bits of 2^j 2/pi (modulo 4)
 * and with the next 29 bits are exact. So all of float32 is reduced exactly, by the method of
 * M. Payne and R. Hanek, 1983; a table of four powers 2^j is enough, and is a choice, not a load. */
typedef struct { float r; int32_t quadrant; } gc_angle;
GC_INLINE gc_angle gc_reduced_f32(float x) {
    double a = fabsf(x);
    double m = a, q0 = GC_TURNS_0_0, q1 = GC_TURNS_0_1, q2 = GC_TURNS_0_2;
    m = a >= 0x1p50 ? a * 0x1p-26 : m;
    q0 = a >= 0x1p50 ? GC_TURNS_26_0 : q0;
    q1 = a >= 0x1p50 ? GC_TURNS_26_1 : q1;
    q2 = a >= 0x1p50 ? GC_TURNS_26_2 : q2;
    m = a >= 0x1p76 ? a * 0x1p-52 : m;
    q0 = a >= 0x1p76 ? GC_TURNS_52_0 : q0;
    q1 = a >= 0x1p76 ? GC_TURNS_52_1 : q1;
    q2 = a >= 0x1p76 ? GC_TURNS_52_2 : q2;
    m = a >= 0x1p102 ? a * 0x1p-78 : m;
    q0 = a >= 0x1p102 ? GC_TURNS_78_0 : q0;
    q1 = a >= 0x1p102 ? GC_TURNS_78_1 : q1;
    q2 = a >= 0x1p102 ? GC_TURNS_78_2 : q2;
    double t0 = m * q0, n0 = t0 + GC_ROUND_F64, r0 = t0 - (n0 - GC_ROUND_F64);
    double t1 = m * q1, n1 = t1 + GC_ROUND_F64, r1 = t1 - (n1 - GC_ROUND_F64);
    double n2 = (r0 + r1) + GC_ROUND_F64, r2 = r0 - (n2 - GC_ROUND_F64);
    double rest = (r2 + r1) + m * q2;
    uint64_t n = gc_bits_of_f64(n0) + gc_bits_of_f64(n1) + gc_bits_of_f64(n2);
    gc_angle angle = {(float)(rest * 1.5707963267948966), (int32_t)(n & 3)};
    return angle;
}

GC_INLINE float gc_sine_near_f32(float r) {
    return GC_FMA_F32(r * (r * r), gc_sin_polynomial(r * r), r);
}
GC_INLINE float gc_cosine_near_f32(float r) {
    float z = r * r;
    return GC_FMA_F32(z * z, gc_cos_polynomial(z), GC_FMA_F32(z, -0.5f, 1.0f));
}
GC_INLINE float gc_with_sign(float x, uint32_t sign) { return gc_float_of(gc_bits_of(x) ^ sign); }

GC_INLINE float gc_sin_f32(float x) {
    gc_angle a = gc_reduced_f32(x);
    float y = a.quadrant & 1 ? gc_cosine_near_f32(a.r) : gc_sine_near_f32(a.r);
    uint32_t sign = (gc_bits_of(x) & 0x80000000u) ^ ((uint32_t)(a.quadrant & 2) << 30);
    return fabsf(x) < GC_INF_F32 ? gc_with_sign(y, sign) : GC_NAN_F32;
}

GC_INLINE float gc_cos_f32(float x) {
    gc_angle a = gc_reduced_f32(x);
    float y = a.quadrant & 1 ? gc_sine_near_f32(a.r) : gc_cosine_near_f32(a.r);
    uint32_t sign = (uint32_t)((a.quadrant + 1) & 2) << 30;
    return fabsf(x) < GC_INF_F32 ? gc_with_sign(y, sign) : GC_NAN_F32;
}

GC_INLINE float gc_tan_f32(float x) {
    gc_angle a = gc_reduced_f32(x);
    float s = gc_sine_near_f32(a.r), c = gc_cosine_near_f32(a.r);
    float y = a.quadrant & 1 ? -c / s : s / c;
    y = gc_with_sign(y, gc_bits_of(x) & 0x80000000u);
    return fabsf(x) < GC_INF_F32 ? y : GC_NAN_F32;
}

/* -1 <= x <= 1 */
GC_INLINE float gc_arctangent_near_f32(float x) {
    float z = x * x;
    return GC_FMA_F32(x * z, gc_atan_polynomial(z), x);
}

GC_INLINE float gc_atan_f32(float x) {
    float a = fabsf(x);
    float y = gc_arctangent_near_f32(a > 1.0f ? 1.0f / a : a);
    y = a > 1.0f ? GC_HALF_PI_F32 - (y - GC_HALF_PI_LOW_F32) : y;
    return x != x ? x : copysignf(y, x);
}

GC_INLINE float gc_atan2_f32(float y, float x) {
    float a = fabsf(x), b = fabsf(y);
    float most = a > b ? a : b, least = a > b ? b : a;
    float ratio = least / most;
    ratio = most == 0 ? 0.0f : ratio;
    ratio = least == GC_INF_F32 ? 1.0f : ratio;
    float t = gc_arctangent_near_f32(ratio);
    t = b > a ? GC_HALF_PI_F32 - (t - GC_HALF_PI_LOW_F32) : t;
    t = gc_bits_of(x) >> 31 ? 2 * GC_HALF_PI_F32 - (t - 2 * GC_HALF_PI_LOW_F32) : t;
    return x != x || y != y ? x + y : copysignf(t, y);
}

/* asin for |x| <= 1/2; beyond, pi/2 - 2 asin(sqrt((1 - x) / 2)) */
GC_INLINE float gc_arcsine_near_f32(float x) {
    float z = x * x;
    return GC_FMA_F32(x * z, gc_asin_polynomial(z), x);
}

GC_INLINE float gc_asin_f32(float x) {
    float a = fabsf(x);
    float t = gc_arcsine_near_f32(a > 0.5f ? sqrtf(0.5f - 0.5f * a) : a);
    float y = a > 0.5f ? GC_HALF_PI_F32 - (2.0f * t - GC_HALF_PI_LOW_F32) : t;
    return x != x ? x : copysignf(y, x);
}

GC_INLINE float gc_acos_f32(float x) {
    float a = fabsf(x);
    float t = gc_arcsine_near_f32(a > 0.5f ? sqrtf(0.5f - 0.5f * a) : x);
    float far = x < 0 ? 2 * GC_HALF_PI_F32 - (2.0f * t - 2 * GC_HALF_PI_LOW_F32) : 2.0f * t;
    return a > 0.5f ? far : GC_HALF_PI_F32 - (t - GC_HALF_PI_LOW_F32);
}

GC_INLINE float gc_sinh_f32(float x) {
    float a = fabsf(x), z = x * x;
    float half = gc_exp_sum_f32(a, -0.0f, 0.5f);
    float y = half - 0.25f / half;
    y = a < 1.0f ? GC_FMA_F32(a * z, gc_sinh_polynomial(z), a) : y;
    return x != x ? x : copysignf(y, x);
}

GC_INLINE float gc_cosh_f32(float x) {
    float half = gc_exp_sum_f32(fabsf(x), -0.0f, 0.5f);
    return half + 0.25f / half;
}

/* log(1 + a + a^2 / (1 + sqrt(a^2 + 1))); for large a, log(2a) */
GC_INLINE float gc_asinh_f32(float x) {
    float a = fabsf(x), z = a * a;
    float t = a > 1e9f ? a : a + z / (1.0f + sqrtf(z + 1.0f));
    float y = gc_log1p_f32(t) + (a > 1e9f ? 0.693147181f : 0.0f);
    return x != x ? x : copysignf(y, x);
}

GC_INLINE float gc_acosh_f32(float x) {
    float t = x - 1.0f;
    float u = x > 1e9f ? x : t + sqrtf(t * (t + 2.0f));
    float y = gc_log1p_f32(u) + (x > 1e9f ? 0.693147181f : 0.0f);
    return x < 1.0f ? GC_NAN_F32 : y;
}

GC_INLINE float gc_atanh_f32(float x) {
    float a = fabsf(x);
    float y = 0.5f * gc_log1p_f32(2.0f * a / (1.0f - a));
    return x != x ? x : copysignf(a > 1.0f ? GC_NAN_F32 : y, x);
}

/* -- float64 */

/* u = 2^e m, sqrt(1/2) <= m < sqrt(2); the halves are taken apart by 32-bit operations, since
 * few processors have arithmetic shifts of 64 bits in vectors */
typedef struct { double m, e; } gc_parts;
GC_INLINE gc_parts gc_parts_f64(double u) {
    uint64_t bits;
    memcpy(&bits, &u, 8);
    int32_t exponent = ((int32_t)(uint32_t)(bits >> 32) - 0x3fe6a09e) >> 20;
    bits -= (uint64_t)(int64_t)exponent << 52;
    gc_parts parts = {0, exponent};
    memcpy(&parts.m, &bits, 8);
    return parts;
}

/* 2^n, -1022 <= n <= 1023, of n + GC_ROUND_F64 */
GC_INLINE double gc_power_of_2_f64(double rounded) {
    uint64_t bits;
    memcpy(&bits, &rounded, 8);
    bits = (bits + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return power;
}

/* e^r - 1 for |r| <= ln(2)/2, by Taylor's series: the first term left out is below 2^-57 of it */
GC_INLINE double gc_expm1_small_f64(double r) {
    double p = 1.0 / 6227020800.0;
    p = GC_FMA_F64(p, r, 1.0 / 479001600.0);
    p = GC_FMA_F64(p, r, 1.0 / 39916800);
    p = GC_FMA_F64(p, r, 1.0 / 3628800);
    p = GC_FMA_F64(p, r, 1.0 / 362880);
    p = GC_FMA_F64(p, r, 1.0 / 40320);
    p = GC_FMA_F64(p, r, 1.0 / 5040);
    p = GC_FMA_F64(p, r, 1.0 / 720);
    p = GC_FMA_F64(p, r, 1.0 / 120);
    p = GC_FMA_F64(p, r, 1.0 / 24);
    p = GC_FMA_F64(p, r, 1.0 / 6);
    p = GC_FMA_F64(p, r, 0.5);
    return GC_FMA_F64(r * r, p, r);
}

#define GC_LN2_HIGH_F64 0x1.62e42fee00000p-1 /* 32 bits: n times it is exact */
#define GC_LN2_LOW_F64 0x1.a39ef35793c76p-33
GC_INLINE double gc_rest_f64(double x, double n) { /* x - n ln(2) */
    return GC_FMA_F64(n, -GC_LN2_LOW_F64, GC_FMA_F64(n, -GC_LN2_HIGH_F64, x));
}

GC_INLINE double gc_exp_f64(double x) {
    double c = x > 710.0 ? 710.0 : x;
    c = c < -746.0 ? -746.0 : c; /* NaN passes both */
    double n = GC_FMA_F64(c, 1.4426950408889634, GC_ROUND_F64) - GC_ROUND_F64;
    double y = 1.0 + gc_expm1_small_f64(gc_rest_f64(c, n));
    double half = n * 0.5 + GC_ROUND_F64, other = n - (half - GC_ROUND_F64) + GC_ROUND_F64;
    return y * gc_power_of_2_f64(half) * gc_power_of_2_f64(other);
}

/* -80 <= x <= 709.9 */
GC_INLINE double gc_expm1_near_f64(double x) {
    double rounded = GC_FMA_F64(x, 1.4426950408889634, GC_ROUND_F64);
    double p = gc_expm1_small_f64(gc_rest_f64(x, rounded - GC_ROUND_F64));
    double half = gc_power_of_2_f64(rounded - 1.0);
    return 2.0 * GC_FMA_F64(half, p, half - 0.5);
}

GC_INLINE double gc_expm1_f64(double x) {
    double c = x > 709.9 ? 709.9 : x;
    c = c < -80.0 ? -80.0 : c;
    double y = gc_expm1_near_f64(c);
    return (x != x) | (fabs(x) < 1e-20) ? x : y;
}

GC_INLINE double gc_sigmoid_f64(double x) {
    double e = gc_exp_f64(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}

GC_INLINE double gc_tanh_f64(double x) {
    double a = fabs(x);
    double t = gc_expm1_near_f64(a > 20.0 ? 40.0 : 2.0 * a);
    double y = copysign(t / (t + 2.0), x);
    return (x != x) | (a < 1e-20) ? x : y;
}

/* log(u + low) as in float32; f - (f^2/2 - s (f^2/2 + R)), s = f / (2 + f), R = s^2 2/3 + ..., the
 * series of atanh */
GC_INLINE double gc_log_sum_f64(double u, double low) {
    double normal = u < 0x1p-1022 ? u * 0x1p54 : u;
    gc_parts parts = gc_parts_f64(normal);
    double e = parts.e - (u < 0x1p-1022 ? 54.0 : 0.0);
    double clipped = parts.e > 100.0 ? 100.0 : parts.e;
    double f = (parts.m - 1.0) + low * gc_power_of_2_f64(GC_ROUND_F64 - clipped);
    double s = f / (2.0 + f), z = s * s, h = 0.5 * f * f;
    double p = 2.0 / 23;
    p = GC_FMA_F64(p, z, 2.0 / 21);
    p = GC_FMA_F64(p, z, 2.0 / 19);
    p = GC_FMA_F64(p, z, 2.0 / 17);
    p = GC_FMA_F64(p, z, 2.0 / 15);
    p = GC_FMA_F64(p, z, 2.0 / 13);
    p = GC_FMA_F64(p, z, 2.0 / 11);
    p = GC_FMA_F64(p, z, 2.0 / 9);
    p = GC_FMA_F64(p, z, 2.0 / 7);
    p = GC_FMA_F64(p, z, 2.0 / 5);
    p = GC_FMA_F64(p, z, 2.0 / 3);
    double tail = GC_FMA_F64(s, GC_FMA_F64(z, p, h), e * GC_LN2_LOW_F64) - h;
    return GC_FMA_F64(e, GC_LN2_HIGH_F64, f + tail);
}

GC_INLINE double gc_log_f64(double x) {
    double y = gc_log_sum_f64(x, 0.0);
    y = x == 0 ? -__builtin_inf() : y;
    y = x < 0 ? __builtin_nan("") : y;
    return (x == __builtin_inf()) | (x != x) ? x : y;
}

GC_INLINE double gc_log1p_f64(double x) {
    double u = 1.0 + x;
    double low = x > 1.0 ? 1.0 - (u - x) : x - (u - 1.0);
    double y = gc_log_sum_f64(u, low);
    y = x == -1.0 ? -__builtin_inf() : y;
    y = x < -1.0 ? __builtin_nan("") : y;
    return (x == __builtin_inf()) | (x != x) | (fabs(x) < 1e-20) ? x : y;
}

/* float32's power, by logarithm and exponential in float64 (to 37 and 30 bits) */
GC_INLINE double gc_log_short_f64(double x) { /* 2 atanh(s), s = f / (2 + f), by Taylor's series */
    gc_parts parts = gc_parts_f64(x);
    double f = parts.m - 1.0, s = f / (2.0 + f), z = s * s;
    double p = 2.0 / 15;
    p = GC_FMA_F64(p, z, 2.0 / 13);
    p = GC_FMA_F64(p, z, 2.0 / 11);
    p = GC_FMA_F64(p, z, 2.0 / 9);
    p = GC_FMA_F64(p, z, 2.0 / 7);
    p = GC_FMA_F64(p, z, 2.0 / 5);
    p = GC_FMA_F64(p, z, 2.0 / 3);
    p = GC_FMA_F64(p, z, 2.0);
    return GC_FMA_F64(p, s, parts.e * 0.69314718055994531);
}
GC_INLINE double gc_exp_short_f64(double x) {
    double rounded = GC_FMA_F64(x, 1.4426950408889634, GC_ROUND_F64);
    double r = GC_FMA_F64(rounded - GC_ROUND_F64, -0.69314718055994531, x);
    double p = 1.0 / 40320;
    p = GC_FMA_F64(p, r, 1.0 / 5040);
    p = GC_FMA_F64(p, r, 1.0 / 720);
    p = GC_FMA_F64(p, r, 1.0 / 120);
    p = GC_FMA_F64(p, r, 1.0 / 24);
    p = GC_FMA_F64(p, r, 1.0 / 6);
    p = GC_FMA_F64(p, r, 0.5);
    p = GC_FMA_F64(p, r, 1.0);
    p = GC_FMA_F64(p, r, 1.0);
    return p * gc_power_of_2_f64(rounded);
}

/* `condition ? x : y` by masks: the compiler makes no branch of it, into which it would move what
 * only one side needs, until no loop is left that it can vectorize */
GC_INLINE float gc_choose_f32(int condition, float x, float y) {
    uint32_t mask = (uint32_t)-condition;
    return gc_float_of((gc_bits_of(x) & mask) | (gc_bits_of(y) & ~mask));
}

GC_INLINE float gc_pow_f32(float x, float y) {
    float a = fabsf(x);
    double log = gc_log_short_f64(a);
    log = a == 0 ? -__builtin_inf() : log;
    log = a == GC_INF_F32 ? __builtin_inf() : log;
    double t = y * log;
    t = t > 100.0 ? 100.0 : t;
    t = t < -120.0 ? -120.0 : t;
    float result = (float)gc_exp_short_f64(t);
    result = gc_choose_f32(a == 1.0f, 1.0f, result);
    float small = gc_choose_f32(fabsf(y) < 16777216.0f, y, 0.0f); /* larger ones are even */
    int32_t whole = (int32_t)small;
    int fraction = (float)whole != small;
    uint32_t odd = (uint32_t)(whole & !fraction) << 31;
    result = gc_with_sign(result, odd & gc_bits_of(x));
    result = gc_choose_f32((x < 0) & (a < GC_INF_F32) & fraction, GC_NAN_F32, result);
    result = gc_choose_f32((x != x) | (y != y), x + y, result);
    return gc_choose_f32((x == 1.0f) | (y == 0), 1.0f, result);
}

#endif
