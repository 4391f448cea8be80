/* What generated kernels call: scalar functions that the compiler vectorizes, and the team.
 *
 * Every function is free of branches where it is meant for a vectorized loop, and follows IEEE:
 * NaN travels, overflow gives inf. The meaning is that of graphc.ir.elementwise.
 */
#ifndef GRAPHC_H
#define GRAPHC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GC_INLINE static inline __attribute__((always_inline, unused))
#define GC_KERNEL static __attribute__((noinline))

typedef void *const *gc_buffers;                                  /* one pointer per buffer */
typedef void (*gc_kernel)(gc_buffers b, long first, long last);   /* part of a loop nest */

/* Columns that a panel of a product's second factor has: two vectors of the machine. */
#if defined(__AVX512F__)
#define GC_PANEL 32
#elif defined(__AVX__)
#define GC_PANEL 16
#else
#define GC_PANEL 8
#endif
#define GC_PANEL_F64 (GC_PANEL / 2) /* of float64 */
#define GC_GROUP 64 /* columns that are computed and finished together: some panels */
#define GC_MOST_CHANNELS (1 << 12) /* of pixels that are read in place */
#define GC_MOST_PARTIAL (1 << 17) /* results of a product whose depth is cut into 8 parts */

/* A product of matrices, of float32 or float64, per batch [m, k] x [k, n], with what comes before
 * and after.
 *
 * The depth k is `units` times as much as a unit holds; the functions are given which units
 * d0..d1 are wanted. `rows` gives the addresses from which rows m0..m1 of the first factor are
 * read, in runs: run s of row m at rows[s * (m1 - m0) + m - m0]. Where they lie in memory as they
 * are, a unit has `segments` runs of `length` numbers `step` apart (segments = 0: the units
 * together are one run). Else they are computed into `space`, as one run per row: row by row, or,
 * with `across`, number by number, rows side by side. `pack` writes columns n0..n1 of the second
 * factor in panels [k][GC_PANEL], with zeros beyond the last column. `finish` takes
 * sums[m - m0][n - n0], whose rows lie `stride` apart, and does what the kernel does with them.
 * `kept`, where it is not 0, is the slot of memory in which the packed factor stays valid once its
 * first number, a long, is not 0; the columns begin 64 bytes later.
 *
 * Where `channels` is not 0, rows are the pixels of images of `high` x `wide`, and their runs are
 * of the `window` x `window` pixels around, one step apart (with `flipped`, from the last to the
 * first). `patch` gives the addresses of the 6 x 6 pixels that the window at (m, n) begins with:
 * those of the first `high` rows and `wide` columns, as far as they are in the image, and else
 * `zeros`. Products of float64 leave these fields out. */
#define GC_MATMUL_OF(name, number) \
    typedef struct name { \
        long batch, m, n, k, units, segments, length, step, computed, across, kept; \
        long high, wide, channels, window, flipped; \
        void (*rows)(gc_buffers b, const number **rows, number *space, long batch, long m0, \
                     long m1, long d0, long d1); \
        void (*patch)(gc_buffers b, const number **at, const number *zeros, long image, long m, \
                      long n, long high, long wide); \
        void (*pack)(gc_buffers b, number *to, long batch, long n0, long n1, long d0, long d1); \
        void (*finish)(gc_buffers b, const number *sums, long stride, long batch, long m0, \
                       long m1, long n0, long n1); \
    } name;
GC_MATMUL_OF(gc_matmul, float)
GC_MATMUL_OF(gc_matmul_f64, double)

/* Attention of `heads` matrices q [n, d], k [m, d], v [m, e], forward or backward: the slots of
 * what it reads and writes. The mask's element for a row and a key of a head is at
 * (sum over i of place[i] * mask_strides[i]) + row * mask_row + key * mask_key, where place is the
 * head's place among mask_dims; strides are 0 along what it is broadcast. */
enum { GC_FLOAT32, GC_BFLOAT16, GC_FLOAT16 };
enum { GC_NO_MASK, GC_KEEPING, GC_ADDED };
typedef struct gc_attention {
    long heads, n, m, d, e, causal, dtype;
    float scale;
    double flops;
    long q, k, v, mask, out, lse, g, delta, dq, dk, dv;
    long mask_kind, mask_row, mask_key, mask_rank;
    const long *mask_dims, *mask_strides;
} gc_attention;

/* What the host gives a program: the threads, products, attention, library routines, and the
 * memory that kernels share. */
typedef struct gc_host {
    void (*parallel)(const struct gc_host *host, gc_kernel kernel, gc_buffers b, long extent,
                     long grain);
    void (*matmul)(const gc_matmul *plan, gc_buffers b);
    void (*matmul_f64)(const gc_matmul_f64 *plan, gc_buffers b);
    void (*convolve)(const gc_matmul *plan, gc_buffers b);
    void (*convolve_kept)(const gc_matmul *plan, gc_buffers b); /* with filters that stay */
    void (*attend)(const gc_attention *plan, gc_buffers b);
    void (*attend_backward)(const gc_attention *plan, gc_buffers b);
    int (*call)(long routine, void *const *arrays);
    void *team;
    void *scratch;
    long threads;
} gc_host;

/* Slot 0 of every table of buffers. */
#define GC_HOST(b) ((const gc_host *)(b)[0])
#define GC_PARALLEL(kernel, b, extent, grain) \
    GC_HOST(b)->parallel(GC_HOST(b), kernel, b, extent, grain)

#define GC_MATMUL(plan, b) GC_HOST(b)->matmul(plan, b)
#define GC_MATMUL_F64(plan, b) GC_HOST(b)->matmul_f64(plan, b)
#define GC_CONVOLVE(plan, b) GC_HOST(b)->convolve(plan, b)
#define GC_CONVOLVE_KEPT(plan, b) GC_HOST(b)->convolve_kept(plan, b)
#define GC_ATTEND(plan, b) GC_HOST(b)->attend(plan, b)
#define GC_ATTEND_BACKWARD(plan, b) GC_HOST(b)->attend_backward(plan, b)

/* -- bits */

GC_INLINE float gc_float_of(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
GC_INLINE uint32_t gc_bits_of(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }

/* A value of a 16-bit type is computed with as a float that the type can hold. */
GC_INLINE float gc_load_bfloat16(uint16_t x) { return gc_float_of((uint32_t)x << 16); }
GC_INLINE float gc_round_bfloat16(float x) { /* to nearest, ties to even; NaN stays NaN */
    uint32_t u = gc_bits_of(x);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u;
    return gc_float_of(x != x ? (u & 0xffff0000u) | 0x400000u : rounded);
}
GC_INLINE uint16_t gc_store_bfloat16(float x) { return (uint16_t)(gc_bits_of(x) >> 16); }
/* float16 by integers: what _Float16 compiles to is vectorized by few compilers. Its exponent is
 * 112 below float's; a product with 2^112 gives denormals too. */
GC_INLINE float gc_load_float16(uint16_t x) {
    uint32_t a = (uint32_t)(x & 0x7fff) << 13;
    float finite = gc_float_of(a) * 0x1p112f, other = gc_float_of(a | 0x7f800000u);
    float y = a < 0x0f800000u ? finite : other;
    return gc_float_of(gc_bits_of(y) | (uint32_t)(x & 0x8000) << 16);
}
GC_INLINE float gc_round_float16(float x) { /* to nearest, ties to even; NaN stays NaN */
    float a = fabsf(x);
    uint32_t u = gc_bits_of(a);
    float normal = gc_float_of((u + 0xfff + ((u >> 13) & 1)) & 0xffffe000u);
    float y = a < 0x1p-14f ? (a + 0.5f) - 0.5f : normal; /* a denormal is a multiple of 2^-24 */
    y = a >= 65520.0f ? __builtin_inff() : y;
    return copysignf(a != a ? gc_float_of(0x7fc00000u) : y, x);
}
GC_INLINE uint16_t gc_store_float16(float x) { /* of what float16 can hold */
    float a = fabsf(x);
    uint32_t u = gc_bits_of(a);
    uint32_t y = a < 0x1p-14f ? gc_bits_of(a + 0.5f) - 0x3f000000u : (u - 0x38000000u) >> 13;
    y = u >= 0x7f800000u ? 0x7c00u | (u >> 13 & 0x3ff) : y;
    return (uint16_t)(y | (gc_bits_of(x) >> 16 & 0x8000));
}

/* -- by type: what C's operators lack */

#define GC_ORDER(T, S) \
    /* what becomes one instruction and, of floats, a selection that no other step waits for */ \
    GC_INLINE T gc_maximum_##S(T x, T y) { \
        T greater = x > y ? x : y; \
        return x != x ? x : greater; \
    } \
    GC_INLINE T gc_minimum_##S(T x, T y) { \
        T smaller = x < y ? x : y; \
        return x != x ? x : smaller; \
    } \
    GC_INLINE int gc_above_##S(T x, T y) { return x > y || (x != x && y == y); } \
    GC_INLINE int gc_below_##S(T x, T y) { return x < y || (x != x && y == y); }

#define GC_SIGN(T, S) \
    GC_INLINE T gc_sign_##S(T x) { return x != x ? x : (T)((x > 0) - (x < 0)); }

#define GC_FLOAT(T, S, F) \
    GC_ORDER(T, S) \
    GC_SIGN(T, S) \
    GC_INLINE T gc_abs_##S(T x) { return fabs##F(x); } \
    GC_INLINE int gc_is_nan_##S(T x) { return x != x; } \
    GC_INLINE int gc_is_inf_##S(T x) { return fabs##F(x) == (T)__builtin_inf(); } \
    GC_INLINE int gc_is_finite_##S(T x) { return fabs##F(x) < (T)__builtin_inf(); } \
    GC_INLINE T gc_floormod_##S(T x, T y) { \
        T m = fmod##F(x, y); \
        T moved = (m != 0 && (m < 0) != (y < 0)) ? m + y : m; \
        return (moved == 0) ? copysign##F(0, y) : moved; \
    } \
    GC_INLINE T gc_floordiv_##S(T x, T y) { \
        T m = fmod##F(x, y); \
        T d = (x - m) / y - (m != 0 && (m < 0) != (y < 0)); \
        T f = floor##F(d); \
        f = d - f > (T)0.5 ? f + 1 : f; \
        f = d != 0 ? f : copysign##F(0, x / y); \
        return y == 0 ? x / y : f; \
    }

/* Division by zero gives 0; the least number divided by -1 wraps around. */
#define GC_SIGNED(T, S, U) \
    GC_ORDER(T, S) \
    GC_SIGN(T, S) \
    GC_INLINE T gc_abs_##S(T x) { return x < 0 ? (T)(0 - (U)x) : x; } \
    GC_INLINE T gc_floordiv_##S(T x, T y) { \
        if (y == 0) return 0; \
        if (y == -1) return (T)(0 - (U)x); \
        return (T)(x / y - (x % y != 0 && (x < 0) != (y < 0))); \
    } \
    GC_INLINE T gc_floormod_##S(T x, T y) { \
        if (y == 0 || y == -1) return 0; \
        T m = (T)(x % y); \
        return (T)((m != 0 && (m < 0) != (y < 0)) ? m + y : m); \
    } \
    GC_INLINE T gc_left_shift_##S(T x, T y) { \
        return (y < 0 || y >= (T)(8 * sizeof(T))) ? 0 : (T)((U)x << y); \
    } \
    GC_INLINE T gc_right_shift_##S(T x, T y) { \
        return (y < 0 || y >= (T)(8 * sizeof(T))) ? (T)(x < 0 ? -1 : 0) : (T)(x >> y); \
    }

#define GC_UNSIGNED(T, S) \
    GC_ORDER(T, S) \
    GC_INLINE T gc_floordiv_##S(T x, T y) { return y == 0 ? 0 : (T)(x / y); } \
    GC_INLINE T gc_floormod_##S(T x, T y) { return y == 0 ? 0 : (T)(x % y); } \
    GC_INLINE T gc_left_shift_##S(T x, T y) { \
        return y >= 8 * sizeof(T) ? 0 : (T)(x << y); \
    } \
    GC_INLINE T gc_right_shift_##S(T x, T y) { return y >= 8 * sizeof(T) ? 0 : (T)(x >> y); }

GC_FLOAT(float, f32, f)
GC_FLOAT(double, f64, )
GC_SIGNED(int8_t, i8, uint8_t)
GC_SIGNED(int16_t, i16, uint16_t)
GC_SIGNED(int32_t, i32, uint32_t)
GC_SIGNED(int64_t, i64, uint64_t)
GC_UNSIGNED(uint8_t, u8)
GC_UNSIGNED(uint16_t, u16)
GC_UNSIGNED(uint32_t, u32)
GC_UNSIGNED(uint64_t, u64)

/* Reductions that OpenMP lacks: those through which NaN travels. */
#define GC_REDUCTION(T, S, LEAST, MOST) \
    _Pragma(GC_TEXT(omp declare reduction(maximum_##S: T: \
        omp_out = gc_maximum_##S(omp_in, omp_out)) initializer(omp_priv = LEAST))) \
    _Pragma(GC_TEXT(omp declare reduction(minimum_##S: T: \
        omp_out = gc_minimum_##S(omp_in, omp_out)) initializer(omp_priv = MOST)))
#define GC_TEXT(...) #__VA_ARGS__

GC_REDUCTION(float, f32, -__builtin_inff(), __builtin_inff())
GC_REDUCTION(double, f64, -__builtin_inf(), __builtin_inf())

/* -- elementary functions */

#include "vector.h"

/* -- the rest of libm, under names that no variable takes */

#define GC_LIBM(name) \
    GC_INLINE float gc_##name##_f32(float x) { return name##f(x); } \
    GC_INLINE double gc_##name##_f64(double x) { return name(x); }
#define GC_DOUBLE(name) GC_INLINE double gc_##name##_f64(double x) { return name(x); }

GC_LIBM(sqrt)
GC_LIBM(floor)
GC_LIBM(ceil)
GC_LIBM(rint)
GC_DOUBLE(erf)
GC_DOUBLE(erfc)
GC_DOUBLE(sin)
GC_DOUBLE(cos)
GC_DOUBLE(tan)
GC_DOUBLE(asin)
GC_DOUBLE(acos)
GC_DOUBLE(atan)
GC_DOUBLE(sinh)
GC_DOUBLE(cosh)
GC_DOUBLE(asinh)
GC_DOUBLE(acosh)
GC_DOUBLE(atanh)
GC_INLINE double gc_pow_f64(double x, double y) { return pow(x, y); }
GC_INLINE double gc_atan2_f64(double y, double x) { return atan2(y, x); }

/* -- random bits: Philox 4x32-10 (Salmon et al., SC 2011), the first word at (index, run) */

GC_INLINE uint32_t gc_philox(int64_t index, int64_t run, uint64_t key) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)((uint64_t)index >> 32);
    uint32_t c2 = (uint32_t)run, c3 = (uint32_t)((uint64_t)run >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    _Pragma("GCC unroll 10") /* no loop may be left where a loop is to be vectorized */
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

/* -- memory that is going to be read: into the second cache, the first one is in use */

GC_INLINE void gc_fetch(const void *from, long bytes) {
    for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
}

/* -- stores past the cache: what is larger than it is not read before it is overwritten */

/* by the compiler's builtins: immintrin.h alone takes longer to compile than most programs */
#if defined(__AVX__)
typedef float gc_eight __attribute__((vector_size(32)));
typedef float gc_loose_eight __attribute__((vector_size(32), aligned(4), may_alias));
GC_INLINE void gc_stream(float *to, const float *from, long n) {
    long i = 0;
    for (; i < n && ((uintptr_t)(to + i) & 31); i++) to[i] = from[i];
    for (; i + 8 <= n; i += 8)
        __builtin_ia32_movntps256(to + i, (gc_eight)*(const gc_loose_eight *)(from + i));
    for (; i < n; i++) to[i] = from[i];
}
GC_INLINE void gc_stream_end(void) { __builtin_ia32_sfence(); }
#else
GC_INLINE void gc_stream(float *to, const float *from, long n) { memcpy(to, from, (size_t)n * 4); }
GC_INLINE void gc_stream_end(void) {}
#endif

#endif
