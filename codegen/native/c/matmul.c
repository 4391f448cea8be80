/* Products of matrices: register tiles of GC_ROWS x GC_PANEL over packed panels.
 *
 * by rows      the second factor is packed by all threads; then each takes blocks of rows
 * by columns   each thread takes groups of columns, packs them, and goes through all rows
 * by depth     few results from long rows: each thread takes part of the depth, for all of them
 *
 * Sums of a group of columns stay in the first cache, where the kernel finishes them while hot.
 */
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
#define MOST_ROWS 96          /* of a block */
#define SPACE_BYTES (1 << 18) /* of computed rows, which then stay in the second cache */
#define PARTS 8               /* of a depth that is cut: the same with any number of threads */

typedef float vec __attribute__((vector_size(VECTOR_BYTES)));
typedef float loose __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
#define LANES (VECTOR_BYTES / 4)

/* sums[r][0..GC_PANEL) (+)= sum over s < runs, i < k of rows[s * count + r][at + i * step] *
 * panel[s * k + i]; a function per number of rows, so that the sums stay in registers */
#define MICRO(R) \
    static __attribute__((noinline)) void micro_##R( \
        long runs, long k, const float *const *rows, long count, long at, long step, \
        const float *panel, float *sums, long stride, long add) { \
        vec c[R][2]; \
        _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) { \
            c[r][0] = add ? (vec)*(const loose *)(sums + r * stride) : (vec){0}; \
            c[r][1] = add ? (vec)*(const loose *)(sums + r * stride + LANES) : (vec){0}; \
        } \
        for (long s = 0; s < runs; s++, rows += count) { \
            const float *a[R]; \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) a[r] = rows[r] + at; \
            for (long i = 0; i < k; i++) { \
                vec b0 = *(const loose *)(panel), b1 = *(const loose *)(panel + LANES); \
                panel += GC_PANEL; \
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

typedef void (*micro_t)(long, long, const float *const *, long, long, long, const float *, float *,
                        long, long);
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
    const float **at;
    float *space;
    long count, runs, length, step;
} rows_t;

static void take_rows(const gc_matmul *p, gc_buffers b, rows_t *rows, long batch, long m0, long m1,
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

/* sums (+)= rows times one packed group of `width` columns */
static void add_product(const rows_t *rows, const float *group, long width, float *sums,
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
            for (long j = 0; j < width; j += GC_PANEL) {
                const float *panel = group + j * depth + (s * rows->length + at) * GC_PANEL;
                for (long t = 0, i = 0; t < tiles; t++) {
                    long height = rows->count * (t + 1) / tiles - i;
                    micros[height](these, run, rows->at + s * rows->count + i, rows->count,
                                   at * rows->step, rows->step, panel, sums + i * stride + j,
                                   stride, more);
                    i += height;
                }
            }
        }
}

/* What the threads' functions need besides the buffers; they are given this as their table. */
typedef struct {
    const gc_matmul *p;
    gc_buffers b;
    float *packed; /* columns, or the sums of parts */
    long batch, rows, groups, slab, ready; /* ready: the columns are packed already */
} job_t;

/* Memory of one thread, cut into what its function needs. */
static char *cut(char **space, long bytes) {
    char *start = *space;
    *space += rounded(bytes, 64);
    return start;
}

static long row_bytes(const gc_matmul *p, long rows, long units) {
    long runs = p->computed ? 1 : p->segments ? units * p->segments : 1;
    return rounded(rows * runs * 8, 64);
}

static long space_bytes(const gc_matmul *p, long rows, long units) {
    return p->computed ? rounded(rows * units * (p->k / p->units) * 4, 64) : 0;
}

static void pack_groups(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const gc_matmul *p = job->p;
    for (long g = first; g < last; g++)
        p->pack(job->b, job->packed + g * GC_GROUP * p->k, job->batch, g * GC_GROUP,
                least((g + 1) * GC_GROUP, p->n), 0, p->units);
}

/* Blocks of rows against all columns; computed rows in slabs of the depth, if they are long. */
static void row_blocks(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const gc_matmul *p = job->p;
    long most = job->rows, unit = p->k / p->units, whole = job->slab >= p->units;
    long stride = whole ? GC_GROUP : job->groups * GC_GROUP;
    long sum_bytes = rounded(most * stride * 4, 64), table_bytes = row_bytes(p, most, job->slab);
    char *own = own_space((size_t)(sum_bytes + table_bytes + space_bytes(p, most, job->slab)));
    float *sums = (float *)cut(&own, sum_bytes);
    rows_t rows = {.at = (const float **)cut(&own, table_bytes), .space = (float *)own};
    for (long i = first; i < last; i++) {
        long m0 = i * most, m1 = least(m0 + most, p->m);
        for (long d = 0; d < p->units; d += job->slab) {
            long end = least(d + job->slab, p->units);
            take_rows(p, job->b, &rows, job->batch, m0, m1, d, end);
            for (long n = 0; n < p->n; n += GC_GROUP) {
                long width = least(GC_GROUP, p->n - n);
                float *own_sums = whole ? sums : sums + n;
                /* the panels of a slab are parts of those of the whole depth */
                const float *group = job->packed + n * p->k;
                if (whole)
                    add_product(&rows, group, width, own_sums, stride, 0);
                else
                    for (long j = 0; j < width; j += GC_PANEL)
                        add_product(&rows, group + j * p->k + d * unit * GC_PANEL, 1,
                                    own_sums + j, stride, d > 0);
                if (end == p->units)
                    p->finish(job->b, own_sums, stride, job->batch, m0, m1, n, n + width);
            }
        }
    }
}

/* Groups of columns of one batch after the other, against all rows. */
static void column_groups(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const gc_matmul *p = job->p;
    long most = least(MOST_ROWS, p->m), blocks = (p->m + most - 1) / most, known = -1;
    long sum_bytes = rounded(most * GC_GROUP * 4, 64), packed_bytes = GC_GROUP * p->k * 4;
    long table_bytes = row_bytes(p, most, p->units), space = space_bytes(p, most, p->units);
    long bytes = sum_bytes + packed_bytes + blocks * (table_bytes + space + (long)sizeof(rows_t));
    char *own = own_space((size_t)bytes + 64);
    float *sums = (float *)cut(&own, sum_bytes), *packed = (float *)cut(&own, packed_bytes);
    rows_t *rows = (rows_t *)cut(&own, blocks * (long)sizeof(rows_t));
    for (long i = 0; i < blocks; i++) {
        rows[i].at = (const float **)cut(&own, table_bytes);
        rows[i].space = (float *)cut(&own, space);
    }
    for (long t = first; t < last; t++) {
        long batch = t / job->groups, n0 = t % job->groups * GC_GROUP;
        long n1 = least(n0 + GC_GROUP, p->n);
        const float *group = job->ready ? job->packed + n0 * p->k : packed;
        if (!job->ready) p->pack(job->b, packed, batch, n0, n1, 0, p->units);
        for (long i = 0; i < blocks; i++) {
            long m0 = i * most, m1 = least(m0 + most, p->m);
            if (batch != known) take_rows(p, job->b, &rows[i], batch, m0, m1, 0, p->units);
            add_product(&rows[i], group, n1 - n0, sums, GC_GROUP, 0);
            p->finish(job->b, sums, GC_GROUP, batch, m0, m1, n0, n1);
        }
        known = batch;
    }
}

/* Parts of the depth, each with sums of its own for all results. */
static void depth_parts(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const gc_matmul *p = job->p;
    long most = least(MOST_ROWS, p->m), unit = p->k / p->units, stride = job->groups * GC_GROUP;
    long packed_bytes = stride * job->slab * unit * 4;
    long table_bytes = row_bytes(p, most, job->slab), space = space_bytes(p, most, job->slab);
    char *own = own_space((size_t)(packed_bytes + table_bytes + space) + 64);
    float *packed = (float *)cut(&own, packed_bytes);
    rows_t rows = {.at = (const float **)cut(&own, table_bytes), .space = (float *)own};
    for (long part = first; part < last; part++) {
        float *sums = job->packed + part * p->m * stride;
        long start = p->units * part / PARTS, stop = p->units * (part + 1) / PARTS;
        for (long d = start; d < stop; d += job->slab) {
            long end = least(d + job->slab, stop), depth = (end - d) * unit;
            for (long n = 0; n < p->n; n += GC_GROUP)
                p->pack(job->b, packed + n * depth, job->batch, n, least(n + GC_GROUP, p->n), d,
                        end);
            for (long m0 = 0; m0 < p->m; m0 += most) {
                long m1 = least(m0 + most, p->m);
                take_rows(p, job->b, &rows, job->batch, m0, m1, d, end);
                for (long n = 0; n < p->n; n += GC_GROUP)
                    add_product(&rows, packed + n * depth, least(GC_GROUP, p->n - n),
                                sums + m0 * stride + n, stride, d > start);
            }
        }
    }
}

/* The parts' sums added up, and finished, for some rows. */
static void depth_total(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const gc_matmul *p = job->p;
    long stride = job->groups * GC_GROUP;
    float *total = job->packed + first * stride;
    for (long part = 1; part < PARTS; part++) {
        const float *more = total + part * p->m * stride;
        for (long i = 0; i < (last - first) * stride; i++) total[i] += more[i];
    }
    p->finish(job->b, total, stride, job->batch, first, last, 0, p->n);
}

static void by_depth(const gc_matmul *p, gc_buffers b, job_t *job) {
    const gc_host *host = GC_HOST(b);
    long unit = p->k / p->units, wide = GC_GROUP * job->groups;
    job->slab = SPACE_BYTES / 4 / (unit * (wide > MOST_ROWS ? wide : MOST_ROWS));
    if (job->slab < 1) job->slab = 1;
    for (job->batch = 0; job->batch < p->batch; job->batch++) {
        host->parallel(host, depth_parts, (gc_buffers)job, PARTS, 1);
        host->parallel(host, depth_total, (gc_buffers)job, p->m, p->m / 16 + 1);
    }
}

static void by_rows(const gc_matmul *p, gc_buffers b, job_t *job, long serial) {
    const gc_host *host = GC_HOST(b);
    long unit = p->k / p->units;
    long rows = rounded((p->m + 4 * host->threads - 1) / (4 * host->threads), GC_ROWS);
    job->rows = least(rows, MOST_ROWS);
    job->slab = p->units;
    if (p->computed && job->rows * p->k * 4 > SPACE_BYTES) {
        job->slab = SPACE_BYTES / 4 / (job->rows * unit);
        if (job->slab < 1) job->slab = 1;
    }
    long blocks = (p->m + job->rows - 1) / job->rows;
    for (job->batch = 0; job->batch < p->batch; job->batch++) {
        if (!job->ready)
            host->parallel(host, pack_groups, (gc_buffers)job, job->groups,
                           serial ? job->groups : 1);
        host->parallel(host, row_blocks, (gc_buffers)job, blocks, serial ? blocks : 1);
    }
}

/* Scratch memory: the packed columns, or 8 times the results when they are few. */
void gc_multiply(const gc_matmul *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    long groups = (p->n + GC_GROUP - 1) / GC_GROUP, tasks = p->batch * groups;
    job_t job = {.p = p, .b = b, .packed = host->scratch, .groups = groups};
    double work = (double)p->m * (double)p->n * (double)p->k * (double)p->batch;
    long serial = work < 1e5; /* some microseconds: not worth handing out */
    long all_rows = p->computed ? p->m * p->k * 4 : 0;
    if (!serial && p->units >= 2 * PARTS && p->k >= 2048 &&
        p->m * groups * GC_GROUP <= GC_MOST_PARTIAL && p->m * p->n * 4 <= p->k * (p->m + p->n)) {
        by_depth(p, b, &job);
        return;
    }
    if (p->kept) {
        long *kept = b[p->kept];
        job.packed = (float *)(kept + 8);
        if (!*kept) host->parallel(host, pack_groups, (gc_buffers)&job, groups, 1);
        *kept = job.ready = 1;
    }
    if (p->m <= 48 || (tasks >= 2 * host->threads && p->m <= 512 && all_rows <= 1 << 20)) {
        long grain = (tasks + 4 * host->threads - 1) / (4 * host->threads);
        host->parallel(host, column_groups, (gc_buffers)&job, tasks, serial ? tasks : grain);
    } else
        by_rows(p, b, &job, serial);
}
