/* What products and convolutions are made of: register tiles of GC_ROWS x PANEL numbers, of
 * float32 or, with GC_FLOAT64, float64. */
#ifndef GRAPHC_MICRO_H
#define GRAPHC_MICRO_H

#include "graphc.h"

#include <stdlib.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define GC_ROWS 12
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define GC_ROWS 6
#else
#define VECTOR_BYTES 16
#define GC_ROWS 6
#endif
#define K_BLOCK 512           /* of a panel, which then stays in the first cache */

#ifdef GC_FLOAT64
typedef double number;
typedef gc_matmul_f64 plan_t;
#define PANEL GC_PANEL_F64
#else
typedef float number;
typedef gc_matmul plan_t;
#define PANEL GC_PANEL
#endif
#define NUMBER_BYTES ((long)sizeof(number))

typedef number vec __attribute__((vector_size(VECTOR_BYTES)));
typedef number loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(number)), may_alias));
#define LANES (VECTOR_BYTES / NUMBER_BYTES)

/* sums[r][0..PANEL) (+)= sum over s < runs, i < k of rows[s * count + r][at + i * step] *
 * panel[s * k + i]; a function per number of rows, so that the sums stay in registers */
#define MICRO(R) \
    static __attribute__((noinline)) void micro_##R( \
        long runs, long k, const number *const *rows, long count, long at, long step, \
        const number *panel, number *sums, long stride, long add) { \
        vec c[R][2]; \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) { \
            c[r][0] = add ? (vec)*(const loose *)(sums + r * stride) : (vec){0}; \
            c[r][1] = add ? (vec)*(const loose *)(sums + r * stride + LANES) : (vec){0}; \
        } \
        for (long s = 0; s < runs; s++, rows += count) { \
            const number *a[R]; \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) a[r] = rows[r] + at; \
            for (long i = 0; i < k; i++) { \
                vec b0 = *(const loose *)(panel), b1 = *(const loose *)(panel + LANES); \
                panel += PANEL; \
                _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) { \
                    vec x = a[r][i * step] - (vec){0}; \
                    c[r][0] += x * b0; \
                    c[r][1] += x * b1; \
                } \
            } \
        } \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) { \
            *(loose *)(sums + r * stride) = c[r][0]; \
            *(loose *)(sums + r * stride + LANES) = c[r][1]; \
        } \
    }
MICRO(1)
MICRO(2)
MICRO(3)
MICRO(4)
MICRO(5)
MICRO(6)
#if GC_ROWS == 12
MICRO(7)
MICRO(8)
MICRO(9)
MICRO(10)
MICRO(11)
MICRO(12)
#endif

typedef void (*micro_t)(long, long, const number *const *, long, long, long, const number *,
                        number *, long, long);
static const micro_t micros[GC_ROWS + 1] = {
    NULL, micro_1, micro_2, micro_3, micro_4, micro_5, micro_6,
#if GC_ROWS == 12
    micro_7, micro_8, micro_9, micro_10, micro_11, micro_12,
#endif
};

/* Memory of a thread, which grows to what is needed and stays. */
static void *own_space(size_t bytes) {
    static _Thread_local void *space;
    static _Thread_local size_t size;
    if (bytes > size) {
        free(space);
        size = (bytes + 4095) / 4096 * 4096;
        space = aligned_alloc(4096, size);
        if (!space) abort();
    }
    return space;
}

static long rounded(long n, long unit) { return (n + unit - 1) / unit * unit; }
static long least(long x, long y) { return x < y ? x : y; }

/* Some rows of the first factor, for some units of the depth. */
typedef struct {
    const number **at;
    number *space;
    long count, runs, length, step;
    long far; /* the second factor comes from beyond the second cache */
} rows_t;

static void take_rows(const plan_t *p, gc_buffers b, rows_t *rows, long batch, long m0, long m1,
                      long d0, long d1) {
    long unit = p->k / p->units;
    rows->count = m1 - m0;
    if (p->computed) {
        rows->runs = 1;
        rows->length = (d1 - d0) * unit;
        rows->step = p->across ? rows->count : 1;
    } else {
        rows->runs = p->segments ? (d1 - d0) * p->segments : 1;
        rows->length = p->segments ? p->length : (d1 - d0) * p->length;
        rows->step = p->step;
    }
    p->rows(b, rows->at, rows->space, batch, m0, m1, d0, d1);
}

/* Some of the lines of the part of a panel that comes next, into the second cache: the processor
 * does not look ahead beyond a page. */
GC_INLINE void fetch(const number *panel, long count, long part, long parts) {
    for (long i = count * part / parts; i < count * (part + 1) / parts; i += 64 / NUMBER_BYTES)
        __builtin_prefetch(panel + i, 0, 2);
}

/* sums (+)= rows times one packed group of `width` columns */
static void add_product(const rows_t *rows, const number *group, long width, number *sums,
                        long stride, long add) {
    long depth = rows->runs * rows->length;
    long blocks = (rows->length + K_BLOCK - 1) / K_BLOCK; /* of a run, nearly equal */
    long block = blocks ? (rows->length + blocks - 1) / blocks : 1;
    long runs = blocks > 1 ? 1 : K_BLOCK / block;
    long tiles = (rows->count + GC_ROWS - 1) / GC_ROWS; /* of nearly the same height */
    for (long s = 0; s < rows->runs; s += runs)
        for (long at = 0; at < rows->length; at += block) {
            long run = least(block, rows->length - at), more = add || s > 0 || at > 0;
            long these = least(runs, rows->runs - s);
            for (long j = 0; j < width; j += PANEL) {
                const number *panel = group + j * depth + (s * rows->length + at) * PANEL;
                const number *next = j + PANEL < width
                                         ? panel + depth * PANEL
                                         : panel - j * depth + these * run * PANEL;
                for (long t = 0, i = 0; t < tiles; t++) {
                    long height = rows->count * (t + 1) / tiles - i;
                    if (rows->far) fetch(next, these * run * PANEL, t, tiles);
                    micros[height](these, run, rows->at + s * rows->count + i, rows->count,
                                   at * rows->step, rows->step, panel, sums + i * stride + j,
                                   stride, more);
                    i += height;
                }
            }
        }
}

/* Memory of one thread, cut into what its function needs. */
static char *cut(char **space, long bytes) {
    char *start = *space;
    *space += rounded(bytes, 64);
    return start;
}

#endif
