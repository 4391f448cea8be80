/* Convolutions at every position, by Winograd's minimal filtering F(4 x 4, 3 x 3), F(2 x 2, 5 x 5).
 *
 * A patch of 6 x 6 pixels gives 4 x 4 results of 3 x 3 windows with 36 multiplications per channel
 * instead of 144, or 2 x 2 of 5 x 5 windows instead of 100 (Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks", 2016): filters and patches are evaluated at 6 points in each
 * direction, multiplied there, which is 36 products of matrices [tiles, channels] x
 * [channels, columns], and the results are read off. The points are 0, +-a,
 * +-b, infinity with a = sqrt(1/2), b = sqrt(2): the products of their squares are 1, and so sums
 * stay of the size of the numbers that they are made of.
 *
 * A tile whose results are not all finite is computed again directly: one that holds an infinity
 * or NaN would spread it to results whose windows do not.
 */
#include "micro.h"

#define EDGE 6
#define POINTS (EDGE * EDGE)
#define STEP 4  /* results of a patch in one direction, at most */
#define TAPS 25 /* of a window, at most */
#define MOST_TILES 48
#define RUN 4 /* tiles whose results are finished together */
#define PAD 16 /* floats after the matrix of a point, so that those of all share no set of the cache */
#define A 0.70710678118654752f
#define B 1.41421356237309505f

/* d: 6 numbers, s apart; t: their values at the points, u apart */
static const float zeros[GC_MOST_CHANNELS];

GC_INLINE void take_in(const vec *d, long s, vec *t, long u) {
    vec even_a = d[4 * s] - 2.0f * d[2 * s], odd_a = A * (d[3 * s] - 2.0f * d[s]);
    vec even_b = d[4 * s] - 0.5f * d[2 * s], odd_b = B * (d[3 * s] - 0.5f * d[s]);
    t[0] = d[0] - 2.5f * d[2 * s] + d[4 * s];
    t[u] = even_a + odd_a;
    t[2 * u] = even_a - odd_a;
    t[3 * u] = even_b + odd_b;
    t[4 * u] = even_b - odd_b;
    t[5 * u] = d[s] - 2.5f * d[3 * s] + d[5 * s];
}

/* g: 3 or 5 taps of a filter, s apart; t: their values at the points, divided by what reading the
 * results off multiplies with */
GC_INLINE void take_taps(long window, const vec *g, long s, vec *t, long u) {
    vec even_a = g[0] + 0.5f * g[2 * s], odd_a = A * g[s];
    vec even_b = g[0] + 2.0f * g[2 * s], odd_b = B * g[s];
    if (window == 5) {
        even_a += 0.25f * g[4 * s], odd_a += 0.5f * A * g[3 * s];
        even_b += 4.0f * g[4 * s], odd_b += 2.0f * B * g[3 * s];
    }
    t[0] = g[0];
    t[u] = (even_a + odd_a) * (-1.0f / 1.5f);
    t[2 * u] = (even_a - odd_a) * (-1.0f / 1.5f);
    t[3 * u] = (even_b + odd_b) * (1.0f / 6.0f);
    t[4 * u] = (even_b - odd_b) * (1.0f / 6.0f);
    t[5 * u] = g[(window - 1) * s];
}

/* t: values at the points, u apart; y: the 4 or 2 results, s apart */
GC_INLINE void read_off(long step, const vec *t, long u, vec *y, long s) {
    vec even_a = t[u] + t[2 * u], odd_a = A * (t[u] - t[2 * u]);
    vec even_b = t[3 * u] + t[4 * u], odd_b = B * (t[3 * u] - t[4 * u]);
    y[0] = t[0] + even_a + even_b;
    y[s] = odd_a + odd_b;
    if (step == 2) {
        y[s] += t[5 * u];
        return;
    }
    y[2 * s] = 0.5f * even_a + 2.0f * even_b;
    y[3 * s] = 0.5f * odd_a + 2.0f * odd_b + t[5 * u];
}

typedef struct {
    const gc_matmul *p;
    gc_buffers b;
    float *packed; /* by group of columns and by point: panels of the filters' values there */
    long step, down, across, tiles, blocks, splits, groups;
} windows_t;

/* Where a tile lies: its upper left pixel, and how many of its rows and columns are results. */
typedef struct {
    long image, y, x, rows, columns;
} tile_t;

static tile_t tile_at(const windows_t *job, long t) {
    const gc_matmul *p = job->p;
    long y = t / job->across % job->down * job->step, x = t % job->across * job->step;
    return (tile_t){t / (job->down * job->across), y, x, least(job->step, p->high - y),
                    least(job->step, p->wide - x)};
}

/* values[point * apart + channel] of a tile */
static void take_patch(const float *const *at, long channels, float *values, long apart) {
    vec d[POINTS], t[POINTS];
    for (long c = 0; c < channels; c += LANES) {
        _Pragma("GCC unroll 6") for (int x = 0; x < EDGE; x++) {
            for (int y = 0; y < EDGE; y++) d[y * EDGE + x] = *(const loose *)(at[y * EDGE + x] + c);
            take_in(d + x, EDGE, t + x, EDGE);
        }
        _Pragma("GCC unroll 6") for (int y = 0; y < EDGE; y++) {
            take_in(t + y * EDGE, 1, d + y * EDGE, 1);
            for (int x = 0; x < EDGE; x++)
                *(loose *)(values + (y * EDGE + x) * apart + c) = d[y * EDGE + x];
        }
    }
}

/* The filters' values at the points, from their packed taps [window^2, channels][GC_PANEL]. */
GC_INLINE void take_filters(long window, const float *taps, long channels, float *panel, long apart,
                            long flipped) {
    vec g[TAPS], t[EDGE * EDGE], u[POINTS];
    long count = window * window;
    for (long c = 0; c < channels * GC_PANEL; c += LANES) {
        for (long tap = 0; tap < count; tap++)
            g[flipped ? count - 1 - tap : tap] =
                *(const loose *)(taps + tap * channels * GC_PANEL + c);
        for (long x = 0; x < window; x++) take_taps(window, g + x, window, t + x, window);
        for (long y = 0; y < EDGE; y++) take_taps(window, t + window * y, 1, u + EDGE * y, 1);
        for (int i = 0; i < POINTS; i++) *(loose *)(panel + i * apart + c) = u[i];
    }
}

static void pack_filters(gc_buffers table, long first, long last) {
    const windows_t *job = (const windows_t *)table;
    const gc_matmul *p = job->p;
    long apart = p->channels * GC_GROUP, count = p->window * p->window;
    float *taps = own_space((size_t)(count * apart * 4));
    for (long g = first; g < last; g++) {
        long n1 = least((g + 1) * GC_GROUP, p->n);
        p->pack(job->b, taps, 0, g * GC_GROUP, n1, 0, p->units);
        for (long n = g * GC_GROUP, i = 0; n < n1; n += GC_PANEL, i++) {
            const float *from = taps + i * count * p->channels * GC_PANEL;
            float *to = job->packed + g * POINTS * apart + i * p->channels * GC_PANEL;
            if (p->window == 5)
                take_filters(5, from, p->channels, to, apart, p->flipped);
            else
                take_filters(3, from, p->channels, to, apart, p->flipped);
        }
    }
}

/* The results of a tile, for some columns: sums[y * line + x * GC_GROUP + column]. Gives 0 if they
 * are all finite, else NaN. */
GC_INLINE float take_results(long step, const float *products, long apart, long width, float *sums,
                             long line) {
    vec t[POINTS], s[STEP * EDGE], y[STEP * STEP], all = {0};
    for (long j = 0; j < width; j += LANES) {
        _Pragma("GCC unroll 6") for (int x = 0; x < EDGE; x++) {
            for (int i = 0; i < EDGE; i++)
                t[i * EDGE + x] = *(const loose *)(products + (i * EDGE + x) * apart + j);
            read_off(step, t + x, EDGE, s + x, EDGE);
        }
        _Pragma("GCC unroll 4") for (int i = 0; i < step; i++) {
            read_off(step, s + i * EDGE, 1, y + i * step, 1);
            for (int x = 0; x < step; x++) {
                *(loose *)(sums + i * line + x * GC_GROUP + j) = y[i * step + x];
                all += y[i * step + x] * 0.0f;
            }
        }
    }
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += all[lane];
    return sum;
}

static long pixel_of(const gc_matmul *p, tile_t tile, long y) {
    return (tile.image * p->high + tile.y + y) * p->wide + tile.x;
}

/* The same by the definition. */
static void compute_directly(const windows_t *job, tile_t tile, long n0, long n1, float *sums,
                             long line) {
    const gc_matmul *p = job->p;
    float *taps = aligned_alloc(64, (size_t)(p->k * GC_GROUP * 4));
    const float *at[TAPS * STEP];
    rows_t rows = {.at = at};
    if (!taps) abort();
    p->pack(job->b, taps, 0, n0, n1, 0, p->units);
    for (long y = 0; y < tile.rows; y++) {
        long pixel = pixel_of(p, tile, y);
        take_rows(p, job->b, &rows, 0, pixel, pixel + tile.columns, 0, p->units);
        add_product(&rows, taps, n1 - n0, sums + y * line, GC_GROUP, 0);
    }
    free(taps);
}

/* Reads off and finishes some tiles that lie side by side; gives how many. */
static long finish_run(const windows_t *job, const tile_t *tiles, long count,
                       const float *products, long apart, float *sums, long n0, long n1) {
    const gc_matmul *p = job->p;
    long line = RUN * job->step * GC_GROUP, run = 0, columns = 0;
    do {
        float *own = sums + columns * GC_GROUP;
        const float *from = products + run * GC_GROUP;
        float all = job->step == 2 ? take_results(2, from, apart, n1 - n0, own, line)
                                   : take_results(4, from, apart, n1 - n0, own, line);
        if (all != 0) compute_directly(job, tiles[run], n0, n1, own, line);
        columns += tiles[run++].columns;
    } while (run < RUN && run < count && tiles[run].x);
    for (long y = 0; y < tiles->rows; y++) {
        long pixel = pixel_of(p, *tiles, y);
        p->finish(job->b, sums + y * line, GC_GROUP, 0, pixel, pixel + columns, n0, n1);
    }
    return run;
}

/* Blocks of tiles, each against all columns or, split, against one group of them. */
static void tile_blocks(gc_buffers table, long first, long last) {
    const windows_t *job = (const windows_t *)table;
    const gc_matmul *p = job->p;
    long most = (job->tiles + job->blocks - 1) / job->blocks, known = -1, channels = p->channels;
    long value_step = most * channels + PAD, product_step = most * GC_GROUP + PAD;
    long tile_bytes = most * (long)sizeof(tile_t), row_bytes = most * (long)sizeof(float *);
    long value_bytes = POINTS * value_step * 4, product_bytes = POINTS * product_step * 4;
    char *own = own_space((size_t)(tile_bytes + row_bytes + value_bytes + product_bytes +
                                   RUN * STEP * STEP * GC_GROUP * 4 + 256));
    tile_t *tiles = (tile_t *)cut(&own, tile_bytes);
    const float **at = (const float **)cut(&own, row_bytes);
    float *values = (float *)cut(&own, value_bytes), *products = (float *)cut(&own, product_bytes);
    float *sums = (float *)own;
    rows_t rows = {.at = at, .runs = 1, .length = channels, .step = 1};
    for (long t = first; t < last; t++) {
        long block = t / job->splits, start = job->tiles * block / job->blocks;
        rows.count = job->tiles * (block + 1) / job->blocks - start;
        for (long i = 0; block != known && i < rows.count; i++) {
            const float *pixels[POINTS];
            tiles[i] = tile_at(job, start + i);
            p->patch(job->b, pixels, zeros, tiles[i].image, tiles[i].y, tiles[i].x,
                     tiles[i].rows + p->window - 1, tiles[i].columns + p->window - 1);
            take_patch(pixels, channels, values + i * channels, value_step);
        }
        known = block;
        long g0 = job->splits == 1 ? 0 : t % job->splits;
        long g1 = job->splits == 1 ? job->groups : g0 + 1;
        for (long g = g0; g < g1; g++) {
            long n0 = g * GC_GROUP, n1 = least(n0 + GC_GROUP, p->n);
            for (long point = 0; point < POINTS; point++) {
                for (long i = 0; i < rows.count; i++)
                    at[i] = values + point * value_step + i * channels;
                add_product(&rows, job->packed + (g * POINTS + point) * channels * GC_GROUP,
                            n1 - n0, products + point * product_step, GC_GROUP, 0);
            }
            for (long i = 0, run; i < rows.count; i += run) {
                run = finish_run(job, tiles + i, rows.count - i, products + i * GC_GROUP,
                                 product_step, sums, n0, n1);
            }
        }
    }
}

void gc_convolve(const gc_matmul *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    windows_t job = {.p = p, .b = b, .packed = host->scratch};
    long ready = 0, *kept = p->kept ? b[p->kept] : NULL;
    job.groups = (p->n + GC_GROUP - 1) / GC_GROUP;
    job.step = EDGE + 1 - p->window;
    job.down = (p->high + job.step - 1) / job.step;
    job.across = (p->wide + job.step - 1) / job.step;
    job.tiles = p->m / (p->high * p->wide) * job.down * job.across;
    if (kept) {
        job.packed = (float *)(kept + 8);
        ready = *kept;
        *kept = 1;
    }
    if (!ready) host->parallel(host, pack_filters, (gc_buffers)&job, job.groups, 1);
    job.blocks = (job.tiles + MOST_TILES - 1) / MOST_TILES;
    /* with few tiles, threads share the columns, and read each filter once */
    job.splits = job.blocks < host->threads ? job.groups : 1;
    if (job.splits == 1) job.blocks = rounded(job.blocks, host->threads);
    host->parallel(host, tile_blocks, (gc_buffers)&job, job.blocks * job.splits, 1);
}
