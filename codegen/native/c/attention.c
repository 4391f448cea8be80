/* Attention without its matrix of scores: blocks of ROW_BLOCK rows by KEY_BLOCK keys.
 *
 * Forward: a row carries the maximum and the sum of its exponentials from block to block of keys
 * (Milakov and Gimelshein, 2018). Backward: the probabilities of a block follow from the rows'
 * log-sum-exp (Dao et al., 2022); the sums of a row go over the keys in order, those of a key over
 * the rows in order, so that they are the same whoever computes them.
 *
 * Every product is one of register tiles (micro.h) over panels that are packed here.
 */
#include "micro.h"

#define ROW_BLOCK 48   /* a multiple of GC_ROWS */
#define KEY_BLOCK 256  /* a multiple of GC_PANEL */
#define MOST_BLOCKS 12 /* of rows, for which keys are packed together */
#define SCORES (ROW_BLOCK * (KEY_BLOCK + 16)) /* numbers of a block, with distances between rows */

/* What the threads' functions need; they are given this as their table. */
typedef struct {
    const gc_attention *p;
    gc_buffers b;
    long blocks, groups; /* of rows in a task; tasks of a head */
} attend_t;

static void widen(float *to, const void *from, long at, long count, long dtype) {
    const uint16_t *half = (const uint16_t *)from + at;
    if (dtype == GC_BFLOAT16)
        for (long i = 0; i < count; i++) to[i] = gc_load_bfloat16(half[i]);
    else if (dtype == GC_FLOAT16)
        for (long i = 0; i < count; i++) to[i] = gc_load_float16(half[i]);
    else
        memcpy(to, (const float *)from + at, (size_t)count * 4);
}

static void narrow(void *to, long at, const float *from, long count, long dtype) {
    uint16_t *half = (uint16_t *)to + at;
    if (dtype == GC_BFLOAT16)
        for (long i = 0; i < count; i++) half[i] = gc_store_bfloat16(gc_round_bfloat16(from[i]));
    else if (dtype == GC_FLOAT16)
        for (long i = 0; i < count; i++) half[i] = gc_store_float16(gc_round_float16(from[i]));
    else
        memcpy((float *)to + at, from, (size_t)count * 4);
}

/* Bytes that `matrix` needs. */
static long matrix_bytes(const gc_attention *p, long count) {
    return p->dtype == GC_FLOAT32 ? 0 : rounded(count * 4, 64);
}

/* A head's matrix of `count` numbers, as float32: where it lies, or widened. */
static const float *matrix(const attend_t *job, long slot, long head, long count, char **space) {
    const void *all = job->b[slot];
    if (job->p->dtype == GC_FLOAT32) return (const float *)all + head * count;
    float *to = (float *)cut(space, count * 4);
    widen(to, all, head * count, count, job->p->dtype);
    return to;
}

/* Rows of [count][width] as panels [width / GC_PANEL][count][GC_PANEL], with zeros at the end. */
static void pack(float *to, const float *from, long count, long width) {
    for (long c = 0; c < width; c += GC_PANEL) {
        long n = least(GC_PANEL, width - c);
        for (long r = 0; r < count; r++, to += GC_PANEL)
            if (n == GC_PANEL)
                memcpy(to, from + r * width + c, GC_PANEL * 4);
            else
                for (long i = 0; i < GC_PANEL; i++) to[i] = i < n ? from[r * width + c + i] : 0;
    }
}

/* The same of its transpose: panels [count / GC_PANEL][width][GC_PANEL]. By squares of 8 x 8, of
 * which the compiler makes shuffles. */
static void pack_turned(float *to, const float *from, long count, long width) {
    for (long r = 0; r < count; r += GC_PANEL, to += width * GC_PANEL)
        for (long i0 = 0; i0 < width; i0 += 8)
            for (long j0 = 0; j0 < GC_PANEL; j0 += 8) {
                const float *rows = from + (r + j0) * width;
                float *square = to + j0;
                long i1 = least(i0 + 8, width), n = count - r - j0;
                for (long i = i0; n >= 8 && i < i1; i++)
#pragma omp simd
                    for (long j = 0; j < 8; j++) square[i * GC_PANEL + j] = rows[j * width + i];
                for (long i = i0; n < 8 && i < i1; i++)
                    for (long j = 0; j < 8; j++)
                        square[i * GC_PANEL + j] = j < n ? rows[j * width + i] : 0;
            }
}

/* Rows of a first factor: number i of row r is at[r * row + i * step]. */
typedef struct {
    const float *at;
    long row, step;
} rows_at;

/* sums[r][0..width) (+)= rows times panels, which are `tall` rows high: `depth` of them count */
static void multiply(rows_at a, long count, long depth, const float *panels, long tall, long width,
                     float *sums, long stride, long add) {
    const float *at[KEY_BLOCK];
    for (long r = 0; r < count; r++) at[r] = a.at + r * a.row;
    long tiles = (count + GC_ROWS - 1) / GC_ROWS;
    for (long j = 0; j < width; j += GC_PANEL, panels += tall * GC_PANEL)
        for (long t = 0, i = 0; t < tiles; t++) {
            long height = count * (t + 1) / tiles - i;
            micros[height](1, depth, at + i, count, 0, a.step, panels, sums + i * stride + j,
                           stride, add);
            i += height;
        }
}

/* Where a head's mask begins: its leading dims may be 1. */
static long mask_start(const gc_attention *p, long head) {
    long at = 0;
    for (long i = p->mask_rank - 1; i >= 0; head /= p->mask_dims[i], i--)
        at += head % p->mask_dims[i] * p->mask_strides[i];
    return at;
}

/* What scores are still multiplied with when `finish_scores` is done: without a mask, the scale. */
static float factor_of(const gc_attention *p) {
    return p->mask_kind == GC_NO_MASK && p->scale > 0 ? p->scale : 1;
}

/* scale * scores + mask, but for factor_of; -inf where the mask excludes. `start` is mask_start's */
static void finish_scores(const attend_t *job, float *s, long start, long row, long key,
                          long count) {
    const gc_attention *p = job->p;
    float scale = p->scale / factor_of(p), added[KEY_BLOCK];
    long at = start + row * p->mask_row + key * p->mask_key;
    if (p->mask_kind == GC_NO_MASK) {
        for (long j = 0; scale != 1 && j < count; j++) s[j] *= scale;
    } else if (p->mask_kind == GC_KEEPING) {
        const uint8_t *keep = (const uint8_t *)job->b[p->mask] + at;
        if (p->mask_key)
            for (long j = 0; j < count; j++) s[j] = keep[j] ? s[j] * scale : -GC_INF_F32;
        else
            for (long j = 0; j < count; j++) s[j] = keep[0] ? s[j] * scale : -GC_INF_F32;
    } else {
        widen(added, job->b[p->mask], at, p->mask_key ? count : 1, p->dtype);
        for (long j = p->mask_key ? count : 1; j < count; j++) added[j] = added[0];
        for (long j = 0; j < count; j++) s[j] = s[j] * scale + added[j];
    }
}

/* How many of the keys from `key` on row `row` takes. */
static long taken(const gc_attention *p, long row, long key, long count) {
    if (!p->causal) return count;
    long most = row + 1 - key;
    return most < 0 ? 0 : least(most, count);
}

/* Between rows of scores: an odd number of lines of the cache, lest the numbers of one key, which
 * the gradients read, lie in the same few places of it. */
static long scores_row(long count) { return rounded(count, GC_PANEL) | 16; }

/* -- forward */

/* Scores to exponentials, for one row and one block of keys; what the row has so far is scaled.
 * Scores are scaled before they are compared: rounded at once with the difference, large ones would
 * be above their maximum. */
static void exponentials(float *s, long count, float factor, float *top, float *sum, float *result,
                         long e, long first) {
    float most = -GC_INF_F32, total = 0;
#pragma omp simd reduction(max : most)
    for (long j = 0; j < count; j++) {
        s[j] *= factor;
        most = s[j] > most ? s[j] : most;
    }
    most = most > *top ? most : *top;
    float shift = most == -GC_INF_F32 ? 0 : most;
#pragma omp simd reduction(+ : total)
    for (long j = 0; j < count; j++) {
        s[j] = gc_exp_below_f32(s[j] - shift);
        total += s[j];
    }
    if (!first && most > *top) {
        float less = gc_exp_below_f32(*top - shift);
        *sum *= less;
        for (long i = 0; i < e; i++) result[i] *= less;
    }
    *top = most;
    *sum = first ? total : *sum + total;
}

static void finish_rows(const attend_t *job, long head, long row, long count, float *result,
                        long stride, const float *top, const float *sum) {
    const gc_attention *p = job->p;
    float *lse = job->b[p->lse];
    for (long r = 0; r < count; r++) {
        float *x = result + r * stride, total = sum[r] == 0 ? 1 : sum[r];
        for (long i = 0; i < p->e; i++) x[i] /= total;
        narrow(job->b[p->out], (head * p->n + row + r) * p->e, x, p->e, p->dtype);
        lse[head * p->n + row + r] = (top[r] == -GC_INF_F32 ? 0 : top[r]) + gc_log_f32(sum[r]);
    }
}

/* Tasks: groups of blocks of rows of one head after the other. */
static void attend_rows(gc_buffers table, long begin, long end) {
    const attend_t *job = (const attend_t *)table;
    const gc_attention *p = job->p;
    long d = p->d, e = p->e, most = job->blocks * ROW_BLOCK, stride = rounded(e, GC_PANEL);
    long packed_k = KEY_BLOCK * d * 4, packed_v = KEY_BLOCK * stride * 4;
    long bytes = packed_k + packed_v + most * (stride + 2) * 4 + SCORES * 4;
    bytes += matrix_bytes(p, p->m * d) + matrix_bytes(p, p->m * e) + matrix_bytes(p, p->n * d);
    char *whole = own_space((size_t)bytes + 1024);
    float factor = factor_of(p);
    for (long task = begin; task < end; task++) {
        char *own = whole;
        long head = task / job->groups, row0 = task % job->groups * most;
        long row1 = least(row0 + most, p->n), start = mask_start(p, head);
        float *keys = (float *)cut(&own, packed_k), *values = (float *)cut(&own, packed_v);
        float *s = (float *)cut(&own, SCORES * 4);
        float *result = (float *)cut(&own, most * stride * 4);
        float *top = (float *)cut(&own, most * 4), *sum = (float *)cut(&own, most * 4);
        const float *q = matrix(job, p->q, head, p->n * d, &own);
        const float *k = matrix(job, p->k, head, p->m * d, &own);
        const float *v = matrix(job, p->v, head, p->m * e, &own);
        for (long r = 0; r < row1 - row0; r++) top[r] = -GC_INF_F32;
        long last_key = taken(p, row1 - 1, 0, p->m);
        memset(sum, 0, (size_t)most * 4);
        if (!last_key) memset(result, 0, (size_t)(most * stride) * 4);
        for (long key = 0; key < last_key; key += KEY_BLOCK) {
            long count = least(KEY_BLOCK, last_key - key), line = scores_row(count);
            pack_turned(keys, k + key * d, count, d);
            pack(values, v + key * e, count, e);
            for (long row = row0; row < row1; row += ROW_BLOCK) {
                long rows = least(ROW_BLOCK, row1 - row), at = row - row0;
                long used = taken(p, row + rows - 1, key, count);
                if (!used) continue;
                multiply((rows_at){q + row * d, d, 1}, rows, d, keys, d, used, s, line, 0);
                for (long r = 0; r < rows; r++) {
                    long own_keys = taken(p, row + r, key, used);
                    float *x = s + r * line;
                    finish_scores(job, x, start, row + r, key, own_keys);
                    exponentials(x, own_keys, factor, top + at + r, sum + at + r,
                                 result + (at + r) * stride, e, key == 0);
                    for (long j = own_keys; j < used; j++) x[j] = 0;
                }
                multiply((rows_at){s, line, 1}, rows, used, values, count, e,
                         result + at * stride, stride, key > 0);
            }
        }
        finish_rows(job, head, row0, row1 - row0, result, stride, top, sum);
    }
}

/* Thread functions are handed out in parts of which the least takes some microseconds. */
static long grain_of(long tasks, double flops) {
    double per_task = flops / (double)(tasks ? tasks : 1);
    return per_task < 1e5 ? (long)(1e5 / (per_task + 1)) + 1 : 1;
}

void gc_attend(const gc_attention *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    long blocks = (p->n + ROW_BLOCK - 1) / ROW_BLOCK, together = p->heads * blocks;
    attend_t job = {.p = p, .b = b};
    job.blocks = least(together / (4 * host->threads), MOST_BLOCKS);
    if (job.blocks < 1) job.blocks = 1;
    job.groups = (blocks + job.blocks - 1) / job.blocks;
    host->parallel(host, attend_rows, (gc_buffers)&job, p->heads * job.groups,
                   grain_of(p->heads * job.groups, p->flops));
}

/* -- backward */

/* A head's matrices, and the memory for one block of rows by keys. */
typedef struct {
    const float *q, *k, *v, *g, *lse, *delta;
    float *turned_k, *turned_v, *keys; /* panels of a block of keys */
    float *queries, *gradients;        /* panels of a block of rows */
    float *p, *ds;                     /* a block of scores */
    float *dq, *dk, *dv;               /* sums */
    long head, start;
} head_t;

static long head_bytes(const gc_attention *p, long rows) {
    long wide_d = rounded(p->d, GC_PANEL), wide_e = rounded(p->e, GC_PANEL);
    long bytes = KEY_BLOCK * (p->d + p->e + wide_d) + ROW_BLOCK * (wide_d + wide_e);
    bytes += 2 * SCORES + rows * wide_d + KEY_BLOCK * (wide_d + wide_e);
    bytes = bytes * 4 + 1024;
    bytes += matrix_bytes(p, p->n * p->d) + matrix_bytes(p, p->m * p->d);
    return bytes + matrix_bytes(p, p->m * p->e) + matrix_bytes(p, p->n * p->e);
}

/* The matrices of a head, with sums of gradients for as many rows. */
static head_t enter_head(const attend_t *job, long head, long rows) {
    const gc_attention *p = job->p;
    long d = p->d, e = p->e, wide_d = rounded(d, GC_PANEL), wide_e = rounded(e, GC_PANEL);
    char *own = own_space((size_t)head_bytes(p, rows));
    head_t h = {.head = head, .start = mask_start(p, head)};
    h.q = matrix(job, p->q, head, p->n * d, &own);
    h.k = matrix(job, p->k, head, p->m * d, &own);
    h.v = matrix(job, p->v, head, p->m * e, &own);
    h.g = matrix(job, p->g, head, p->n * e, &own);
    h.lse = (const float *)job->b[p->lse] + head * p->n;
    h.delta = (const float *)job->b[p->delta] + head * p->n;
    h.turned_k = (float *)cut(&own, KEY_BLOCK * d * 4);
    h.turned_v = (float *)cut(&own, KEY_BLOCK * e * 4);
    h.keys = (float *)cut(&own, KEY_BLOCK * wide_d * 4);
    h.queries = (float *)cut(&own, ROW_BLOCK * wide_d * 4);
    h.gradients = (float *)cut(&own, ROW_BLOCK * wide_e * 4);
    h.p = (float *)cut(&own, SCORES * 4);
    h.ds = (float *)cut(&own, SCORES * 4);
    h.dk = (float *)cut(&own, KEY_BLOCK * wide_d * 4);
    h.dv = (float *)cut(&own, KEY_BLOCK * wide_e * 4);
    h.dq = (float *)cut(&own, rows * wide_d * 4);
    memset(h.dq, 0, (size_t)(rows * wide_d) * 4);
    return h;
}

/* h->p and h->ds of some rows and keys */
static void probabilities(const attend_t *job, const head_t *h, long row, long rows, long key,
                          long used, long line) {
    const gc_attention *p = job->p;
    multiply((rows_at){h->q + row * p->d, p->d, 1}, rows, p->d, h->turned_k, p->d, used, h->p,
             line, 0);
    multiply((rows_at){h->g + row * p->e, p->e, 1}, rows, p->e, h->turned_v, p->e, used, h->ds,
             line, 0);
    for (long r = 0; r < rows; r++) {
        float *x = h->p + r * line, *dx = h->ds + r * line;
        float sum = h->lse[row + r], delta = h->delta[row + r], scale = p->scale;
        float factor = factor_of(p), known = sum == -GC_INF_F32 ? GC_INF_F32 : sum;
        long count = taken(p, row + r, key, used);
        finish_scores(job, x, h->start, row + r, key, count);
        for (long j = 0; j < count; j++) x[j] *= factor; /* see `exponentials` */
        for (long j = 0; j < count; j++) {
            x[j] = gc_exp_f32(x[j] - known);
            dx[j] = x[j] * (dx[j] - delta) * scale;
        }
        for (long j = count; j < used; j++) x[j] = dx[j] = 0;
    }
}

/* The gradients of some rows (`dq`) and of some keys (`dk` and `dv`), of those that meet. */
static void gradients(const attend_t *job, head_t *h, long row0, long row1, long key0, long key1,
                      int of_rows, int of_keys) {
    const gc_attention *p = job->p;
    long d = p->d, e = p->e, wide_d = rounded(d, GC_PANEL), wide_e = rounded(e, GC_PANEL);
    for (long key = key0; key < key1; key += KEY_BLOCK) {
        long count = least(KEY_BLOCK, key1 - key), line = scores_row(count);
        pack_turned(h->turned_k, h->k + key * d, count, d);
        pack_turned(h->turned_v, h->v + key * e, count, e);
        if (of_rows) pack(h->keys, h->k + key * d, count, d);
        memset(h->dk, 0, (size_t)(KEY_BLOCK * wide_d) * 4);
        memset(h->dv, 0, (size_t)(KEY_BLOCK * wide_e) * 4);
        for (long row = row0; row < row1; row += ROW_BLOCK) {
            long rows = least(ROW_BLOCK, row1 - row);
            long used = taken(p, row + rows - 1, key, count);
            if (!used) continue;
            probabilities(job, h, row, rows, key, used, line);
            if (of_rows)
                multiply((rows_at){h->ds, line, 1}, rows, used, h->keys, count, d,
                         h->dq + (row - row0) * wide_d, wide_d, 1);
            if (!of_keys) continue;
            pack(h->queries, h->q + row * d, rows, d);
            pack(h->gradients, h->g + row * e, rows, e);
            multiply((rows_at){h->ds, 1, line}, used, rows, h->queries, rows, d, h->dk,
                     wide_d, 1);
            multiply((rows_at){h->p, 1, line}, used, rows, h->gradients, rows, e, h->dv,
                     wide_e, 1);
        }
        for (long r = 0; of_keys && r < count; r++) {
            long at = h->head * p->m + key + r;
            narrow(job->b[p->dk], at * d, h->dk + r * wide_d, d, p->dtype);
            narrow(job->b[p->dv], at * e, h->dv + r * wide_e, e, p->dtype);
        }
    }
    for (long r = 0; of_rows && r < row1 - row0; r++)
        narrow(job->b[p->dq], (h->head * p->n + row0 + r) * d, h->dq + r * wide_d, d, p->dtype);
}

/* Tasks: heads. */
static void whole_heads(gc_buffers table, long begin, long end) {
    const attend_t *job = (const attend_t *)table;
    const gc_attention *p = job->p;
    for (long head = begin; head < end; head++) {
        head_t h = enter_head(job, head, p->n);
        gradients(job, &h, 0, p->n, 0, p->m, 1, 1);
    }
}

/* Tasks: groups of blocks of rows of one head after the other. */
static void gradient_rows(gc_buffers table, long begin, long end) {
    const attend_t *job = (const attend_t *)table;
    const gc_attention *p = job->p;
    long most = job->blocks * ROW_BLOCK;
    for (long task = begin; task < end; task++) {
        long row = task % job->groups * most, row1 = least(row + most, p->n);
        head_t h = enter_head(job, task / job->groups, most);
        gradients(job, &h, row, row1, 0, taken(p, row1 - 1, 0, p->m), 1, 0);
    }
}

/* Tasks: blocks of keys of one head after the other. */
static void gradient_keys(gc_buffers table, long begin, long end) {
    const attend_t *job = (const attend_t *)table;
    const gc_attention *p = job->p;
    long blocks = (p->m + KEY_BLOCK - 1) / KEY_BLOCK;
    for (long task = begin; task < end; task++) {
        long key = task % blocks * KEY_BLOCK;
        long row = p->causal ? least(key / ROW_BLOCK * ROW_BLOCK, p->n) : 0;
        head_t h = enter_head(job, task / blocks, 0);
        gradients(job, &h, row, p->n, key, least(key + KEY_BLOCK, p->m), 0, 1);
    }
}

/* A head alone takes 5 products; rows and keys by themselves, of which there are more parts, 7. */
void gc_attend_backward(const gc_attention *p, gc_buffers b) {
    const gc_host *host = GC_HOST(b);
    long threads = host->threads, rounds = (p->heads + threads - 1) / threads;
    long blocks = (p->n + ROW_BLOCK - 1) / ROW_BLOCK;
    long key_tasks = p->heads * ((p->m + KEY_BLOCK - 1) / KEY_BLOCK);
    attend_t job = {.p = p, .b = b};
    if (5 * rounds * threads <= 7 * p->heads) {
        host->parallel(host, whole_heads, (gc_buffers)&job, p->heads,
                       grain_of(p->heads, p->flops));
        return;
    }
    job.blocks = least(p->heads * blocks / (4 * threads), MOST_BLOCKS);
    if (job.blocks < 1) job.blocks = 1;
    job.groups = (blocks + job.blocks - 1) / job.blocks;
    host->parallel(host, gradient_rows, (gc_buffers)&job, p->heads * job.groups,
                   grain_of(p->heads * job.groups, p->flops));
    host->parallel(host, gradient_keys, (gc_buffers)&job, key_tasks,
                   grain_of(key_tasks, p->flops));
}
