/* 3 x 3 convolutions at every position, by Winograd's minimal filtering F(4 x 4, 3 x 3).
 *
 * A patch of 6 x 6 pixels gives 4 x 4 results with 36 multiplications per channel instead of 144
 * (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): filters and patches
 * are evaluated at 6 points in each direction, multiplied there, which is 36 products of matrices
 * [tiles, channels] x [channels, columns], and the results are read off. The points are 0, +-a,
 * +-b, infinity with a = sqrt(1/2), b = sqrt(2): the products of their squares are 1, and so sums
 * stay of the size of the numbers that they are made of.
 *
 * A tile whose results are not all finite is computed again directly: one that holds an infinity
 * or NaN would spread it to results whose windows do not.
 */
#include "micro.h"

#define EDGE 6
#define STEP 4
#define POINTS (EDGE * EDGE)
#define TAPS 9
#define MOST_TILES 48
#define PAD 16 /* floats after the matrix of a point, so that those of all share no set of the cache */
#define A 0.70710678118654752f
#define B 1.41421356237309505f

/* d: 6 numbers, s apart; t: their values at the points, u apart */
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

/* g: 3 taps of a filter, s apart; t: their values at the points, divided by what reading the
 * results off multiplies with */
GC_INLINE void take_taps(const vec *g, long s, vec *t, long u) {
    vec even_a = g[0] + 0.5f * g[2 * s], odd_a = A * g[s];
    vec even_b = g[0] + 2.0f * g[2 * s], odd_b = B * g[s];
    t[0] = g[0];
    t[u] = (even_a + odd_a) * (-1.0f / 1.5f);
    t[2 * u] = (even_a - odd_a) * (-1.0f / 1.5f);
    t[3 * u] = (even_b + odd_b) * (1.0f / 6.0f);
    t[4 * u] = (even_b - odd_b) * (1.0f / 6.0f);
    t[5 * u] = g[2 * s];
}

/* t: values at the points, u apart; y: the 4 results, s apart */
GC_INLINE void read_off(const vec *t, long u, vec *y, long s) {
    vec even_a = t[u] + t[2 * u], odd_a = A * (t[u] - t[2 * u]);
    vec even_b = t[3 * u] + t[4 * u], odd_b = B * (t[3 * u] - t[4 * u]);
    y[0] = t[0] + even_a + even_b;
    y[s] = odd_a + odd_b;
    y[2 * s] = 0.5f * even_a + 2.0f * even_b;
    y[3 * s] = 0.5f * odd_a + 2.0f * odd_b + t[5 * u];
}

typedef struct {
    const gc_matmul *p;
    gc_buffers b;
    float *packed; /* by group of columns and by point: panels of the filters' values there */
    long down, across, tiles, blocks, splits, groups;
} windows_t;

/* The pixel at the upper left of a tile, and how many of its rows and columns are in the image. */
typedef struct {
    long pixel, rows, columns;
} tile_t;

static tile_t tile_at(const windows_t *job, long t) {
    const gc_matmul *p = job->p;
    long image = t / (job->down * job->across), y = t / job->across % job->down * STEP;
    long x = t % job->across * STEP;
    return (tile_t){(image * p->high + y) * p->wide + x, least(STEP, p->high - y),
                    least(STEP, p->wide - x)};
}

static const float zeros[GC_MOST_CHANNELS];

/* The addresses of a tile's 6 x 6 pixels: the 3 x 3 of windows in its four corners make them up.
 * What no result needs is zero. */
static void patch_at(const windows_t *job, tile_t tile, const float *at[POINTS]) {
    const gc_matmul *p = job->p;
    for (int i = 0; i < POINTS; i++) at[i] = zeros;
    for (int corner = 0; corner < 4; corner++) {
        long y = corner / 2 ? tile.rows - 1 : 0, x = corner % 2 ? tile.columns - 1 : 0;
        long pixel = tile.pixel + y * p->wide + x;
        const float *runs[TAPS]; /* of one pixel each, or of three */
        p->rows(job->b, runs, NULL, 0, pixel, pixel + 1, 0, p->units);
        for (int tap = 0; tap < TAPS; tap++) {
            long start = (p->flipped ? TAPS - 1 - tap : tap) * p->channels;
            at[(y + tap / 3) * EDGE + x + tap % 3] =
                runs[start / p->length] + start % p->length;
        }
    }
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

/* The filters' values at the points, from their packed taps [9, channels][GC_PANEL]. */
static void take_filters(const float *taps, long channels, float *panel, long apart, long flipped) {
    vec g[TAPS], t[EDGE * 3], u[POINTS];
    for (long c = 0; c < channels * GC_PANEL; c += LANES) {
        for (int tap = 0; tap < TAPS; tap++)
            g[flipped ? TAPS - 1 - tap : tap] =
                *(const loose *)(taps + tap * channels * GC_PANEL + c);
        for (int x = 0; x < 3; x++) take_taps(g + x, 3, t + x, 3);
        for (int y = 0; y < EDGE; y++) take_taps(t + 3 * y, 1, u + EDGE * y, 1);
        for (int i = 0; i < POINTS; i++) *(loose *)(panel + i * apart + c) = u[i];
    }
}

static void pack_filters(gc_buffers table, long first, long last) {
    const windows_t *job = (const windows_t *)table;
    const gc_matmul *p = job->p;
    long apart = p->channels * GC_GROUP;
    float *taps = own_space((size_t)(TAPS * apart * 4));
    for (long g = first; g < last; g++) {
        long n1 = least((g + 1) * GC_GROUP, p->n);
        p->pack(job->b, taps, 0, g * GC_GROUP, n1, 0, p->units);
        for (long n = g * GC_GROUP, i = 0; n < n1; n += GC_PANEL, i++)
            take_filters(taps + i * TAPS * p->channels * GC_PANEL, p->channels,
                         job->packed + g * POINTS * apart + i * p->channels * GC_PANEL, apart,
                         p->flipped);
    }
}

/* The 16 results of a tile, for some columns; gives a number that is finite if they all are. */
static float take_results(const float *products, long apart, long width, float *sums) {
    vec t[POINTS], s[STEP * EDGE], y[STEP * STEP], all = {0};
    for (long j = 0; j < width; j += LANES) {
        _Pragma("GCC unroll 6") for (int x = 0; x < EDGE; x++) {
            for (int i = 0; i < EDGE; i++)
                t[i * EDGE + x] = *(const loose *)(products + (i * EDGE + x) * apart + j);
            read_off(t + x, EDGE, s + x, EDGE);
        }
        _Pragma("GCC unroll 4") for (int i = 0; i < STEP; i++) {
            read_off(s + i * EDGE, 1, y + i * STEP, 1);
            for (int x = 0; x < STEP; x++) {
                *(loose *)(sums + (i * STEP + x) * GC_GROUP + j) = y[i * STEP + x];
                all += y[i * STEP + x] * 0.0f;
            }
        }
    }
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += all[lane];
    return sum;
}

/* The same by the definition. */
static void compute_directly(const windows_t *job, tile_t tile, long n0, long n1, float *sums) {
    const gc_matmul *p = job->p;
    float *taps = aligned_alloc(64, (size_t)(p->k * GC_GROUP * 4));
    const float *at[TAPS * STEP];
    rows_t rows = {.at = at};
    if (!taps) abort();
    p->pack(job->b, taps, 0, n0, n1, 0, p->units);
    for (long y = 0; y < tile.rows; y++) {
        long pixel = tile.pixel + y * p->wide;
        take_rows(p, job->b, &rows, 0, pixel, pixel + tile.columns, 0, p->units);
        add_product(&rows, taps, n1 - n0, sums + y * STEP * GC_GROUP, GC_GROUP, 0);
    }
    free(taps);
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
                                   STEP * STEP * GC_GROUP * 4 + 256));
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
            patch_at(job, tiles[i], pixels);
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
            for (long i = 0; i < rows.count; i++) {
                tile_t tile = tiles[i];
                if (take_results(products + i * GC_GROUP, product_step, n1 - n0, sums) != 0)
                    compute_directly(job, tile, n0, n1, sums);
                for (long y = 0; y < tile.rows; y++) {
                    long pixel = tile.pixel + y * p->wide;
                    p->finish(job->b, sums + y * STEP * GC_GROUP, GC_GROUP, 0, pixel,
                              pixel + tile.columns, n0, n1);
                }
            }
        }
    }
}

void gc_convolve(const gc_matmul *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    windows_t job = {.p = p, .b = b, .packed = host->scratch};
    long ready = 0, *kept = p->kept ? b[p->kept] : NULL;
    job.groups = (p->n + GC_GROUP - 1) / GC_GROUP;
    job.down = (p->high + STEP - 1) / STEP;
    job.across = (p->wide + STEP - 1) / STEP;
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
