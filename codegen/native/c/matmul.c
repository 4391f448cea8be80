/* Products of matrices: register tiles of GC_ROWS x PANEL over packed panels.
 *
 * by rows      the second factor is packed by all threads; then each takes blocks of rows
 * by columns   each thread takes groups of columns, packs them, and goes through all rows
 * by depth     few results from long rows: each thread takes part of the depth, for all of them
 *
 * Sums of a group of columns stay in the first cache, where the kernel finishes them while hot.
 */
#include "micro.h"

#define MOST_ROWS 96          /* of a block */
#define SPACE_BYTES (1 << 18) /* of computed rows, which then stay in the second cache */
#define FAR_BYTES (1 << 19)   /* of columns, beyond which they leave the second cache */
#define PARTS 8               /* of a depth that is cut: the same with any number of threads */

/* What the threads' functions need besides the buffers; they are given this as their table. */
typedef struct {
    const plan_t *p;
    gc_buffers b;
    number *packed; /* columns, or the sums of parts */
    long batch, rows, groups, slab, ready; /* ready: the columns are packed already */
} job_t;

static long row_bytes(const plan_t *p, long rows, long units) {
    long runs = p->computed ? 1 : p->segments ? units * p->segments : 1;
    return rounded(rows * runs * 8, 64);
}

static long space_bytes(const plan_t *p, long rows, long units) {
    return p->computed ? rounded(rows * units * (p->k / p->units) * NUMBER_BYTES, 64) : 0;
}

static void pack_groups(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const plan_t *p = job->p;
    for (long g = first; g < last; g++)
        p->pack(job->b, job->packed + g * GC_GROUP * p->k, job->batch, g * GC_GROUP,
                least((g + 1) * GC_GROUP, p->n), 0, p->units);
}

/* Blocks of rows against all columns; computed rows in slabs of the depth, if they are long. */
static void row_blocks(gc_buffers table, long first, long last) {
    const job_t *job = (const job_t *)table;
    const plan_t *p = job->p;
    long most = job->rows, unit = p->k / p->units, whole = job->slab >= p->units;
    long stride = whole ? GC_GROUP : job->groups * GC_GROUP;
    long sum_bytes = rounded(most * stride * NUMBER_BYTES, 64);
    long table_bytes = row_bytes(p, most, job->slab);
    char *own = own_space((size_t)(sum_bytes + table_bytes + space_bytes(p, most, job->slab)));
    number *sums = (number *)cut(&own, sum_bytes);
    rows_t rows = {.at = (const number **)cut(&own, table_bytes), .space = (number *)own};
    rows.far = p->n * p->k * NUMBER_BYTES > FAR_BYTES;
    for (long i = first; i < last; i++) {
        long m0 = i * most, m1 = least(m0 + most, p->m);
        for (long d = 0; d < p->units; d += job->slab) {
            long end = least(d + job->slab, p->units);
            take_rows(p, job->b, &rows, job->batch, m0, m1, d, end);
            for (long n = 0; n < p->n; n += GC_GROUP) {
                long width = least(GC_GROUP, p->n - n);
                number *own_sums = whole ? sums : sums + n;
                /* the panels of a slab are parts of those of the whole depth */
                const number *group = job->packed + n * p->k;
                if (whole)
                    add_product(&rows, group, width, own_sums, stride, 0);
                else
                    for (long j = 0; j < width; j += PANEL)
                        add_product(&rows, group + j * p->k + d * unit * PANEL, 1,
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
    const plan_t *p = job->p;
    long most = least(MOST_ROWS, p->m), blocks = (p->m + most - 1) / most, known = -1;
    long sum_bytes = rounded(most * GC_GROUP * NUMBER_BYTES, 64);
    long packed_bytes = GC_GROUP * p->k * NUMBER_BYTES;
    long table_bytes = row_bytes(p, most, p->units), space = space_bytes(p, most, p->units);
    long bytes = sum_bytes + packed_bytes + blocks * (table_bytes + space + (long)sizeof(rows_t));
    char *own = own_space((size_t)bytes + 64);
    number *sums = (number *)cut(&own, sum_bytes), *packed = (number *)cut(&own, packed_bytes);
    rows_t *rows = (rows_t *)cut(&own, blocks * (long)sizeof(rows_t));
    for (long i = 0; i < blocks; i++) {
        rows[i].at = (const number **)cut(&own, table_bytes);
        rows[i].space = (number *)cut(&own, space);
        rows[i].far = job->ready;
    }
    for (long t = first; t < last; t++) {
        long batch = t / job->groups, n0 = t % job->groups * GC_GROUP;
        long n1 = least(n0 + GC_GROUP, p->n);
        const number *group = job->ready ? job->packed + n0 * p->k : packed;
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
    const plan_t *p = job->p;
    long most = least(MOST_ROWS, p->m), unit = p->k / p->units, stride = job->groups * GC_GROUP;
    long packed_bytes = stride * job->slab * unit * NUMBER_BYTES;
    long table_bytes = row_bytes(p, most, job->slab), space = space_bytes(p, most, job->slab);
    char *own = own_space((size_t)(packed_bytes + table_bytes + space) + 64);
    number *packed = (number *)cut(&own, packed_bytes);
    rows_t rows = {.at = (const number **)cut(&own, table_bytes), .space = (number *)own};
    for (long part = first; part < last; part++) {
        number *sums = job->packed + part * p->m * stride;
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
    const plan_t *p = job->p;
    long stride = job->groups * GC_GROUP;
    number *total = job->packed + first * stride;
    for (long part = 1; part < PARTS; part++) {
        const number *more = total + part * p->m * stride;
        for (long i = 0; i < (last - first) * stride; i++) total[i] += more[i];
    }
    p->finish(job->b, total, stride, job->batch, first, last, 0, p->n);
}

static void by_depth(const plan_t *p, gc_buffers b, job_t *job) {
    const gc_host *host = GC_HOST(b);
    long unit = p->k / p->units, wide = GC_GROUP * job->groups;
    job->slab = SPACE_BYTES / NUMBER_BYTES / (unit * (wide > MOST_ROWS ? wide : MOST_ROWS));
    if (job->slab < 1) job->slab = 1;
    for (job->batch = 0; job->batch < p->batch; job->batch++) {
        host->parallel(host, depth_parts, (gc_buffers)job, PARTS, 1);
        host->parallel(host, depth_total, (gc_buffers)job, p->m, p->m / 16 + 1);
    }
}

static void by_rows(const plan_t *p, gc_buffers b, job_t *job, long serial) {
    const gc_host *host = GC_HOST(b);
    long unit = p->k / p->units;
    long rows = rounded((p->m + 4 * host->threads - 1) / (4 * host->threads), GC_ROWS);
    job->rows = least(rows, MOST_ROWS);
    job->slab = p->units;
    if (p->computed && job->rows * p->k * NUMBER_BYTES > SPACE_BYTES) {
        job->slab = SPACE_BYTES / NUMBER_BYTES / (job->rows * unit);
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
void gc_multiply(const plan_t *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    long groups = (p->n + GC_GROUP - 1) / GC_GROUP, tasks = p->batch * groups;
    job_t job = {.p = p, .b = b, .packed = host->scratch, .groups = groups};
    double work = (double)p->m * (double)p->n * (double)p->k * (double)p->batch;
    long serial = work < 1e5; /* some microseconds: not worth handing out */
    long all_rows = p->computed ? p->m * p->k * NUMBER_BYTES : 0;
    long wide = tasks >= host->threads || p->m > 48; /* enough for all threads as it is */
    if (!serial && !(p->kept && wide) && p->units >= 2 * PARTS && p->k >= 2048 &&
        p->m * groups * GC_GROUP <= GC_MOST_PARTIAL && p->m * p->n * 4 <= p->k * (p->m + p->n)) {
        by_depth(p, b, &job);
        return;
    }
    if (p->kept) {
        long *kept = b[p->kept];
        job.packed = (number *)(kept + 8);
        if (!*kept) host->parallel(host, pack_groups, (gc_buffers)&job, groups, 1);
        *kept = job.ready = 1;
    }
    if (p->m <= 48 || (tasks >= 2 * host->threads && p->m <= 512 && all_rows <= 1 << 20)) {
        long grain = (tasks + 4 * host->threads - 1) / (4 * host->threads);
        host->parallel(host, column_groups, (gc_buffers)&job, tasks, serial ? tasks : grain);
    } else
        by_rows(p, b, &job, serial);
}
