/* The threads that all programs share: one team, whose members wait between kernels.
 *
 * The parts of a kernel are handed out one by one, and the caller waits for the parts that were
 * taken, not for the members: one that sleeps or comes late is not missed. A member without
 * work spins for some microseconds, since the next kernel is near, and then sleeps on a futex.
 * One program has the team at a time; another that runs meanwhile computes alone.
 */
#define _GNU_SOURCE
#include "graphc.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 4000 /* of some 10 ns each */

/* Which kernel, how many parts it has, and the next part to be taken, in one word: who swaps it
 * has a part of that very kernel, whose fields stay until all its parts are done. */
#define KERNEL(state) ((uint32_t)((state) >> 40))
#define PARTS(state) ((long)((state) >> 20 & 0xfffff))
#define NEXT(state) ((long)((state) & 0xfffff))
#define MOST_PARTS 0xfffff

typedef struct {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) atomic_long done; /* parts */
    _Alignas(64) atomic_uint call; /* counts the kernels, for those that sleep */
    atomic_int asleep;
    _Alignas(64) gc_kernel kernel;
    gc_buffers b;
    long extent, grain;
    atomic_flag taken;
    atomic_int stopping;
    int members;
    pthread_t *threads;
} team_t;

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Take parts until none is left. */
static void work(team_t *team) {
    uint64_t state = atomic_load_explicit(&team->state, memory_order_acquire);
    while (NEXT(state) < PARTS(state)) {
        if (!atomic_compare_exchange_weak_explicit(&team->state, &state, state + 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        long first = NEXT(state) * team->grain, last = first + team->grain;
        team->kernel(team->b, first, last < team->extent ? last : team->extent);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
        state = atomic_load_explicit(&team->state, memory_order_acquire);
    }
}

static void *member(void *argument) {
    team_t *team = argument;
    unsigned seen = 0;
    while (!atomic_load(&team->stopping)) {
        int spins = 0;
        while (atomic_load_explicit(&team->call, memory_order_acquire) == seen) {
            if (++spins < SPINS) {
                pause_briefly();
                continue;
            }
            atomic_fetch_add(&team->asleep, 1);
            syscall(SYS_futex, &team->call, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
            atomic_fetch_sub(&team->asleep, 1);
            spins = 0;
        }
        seen = atomic_load_explicit(&team->call, memory_order_acquire);
        work(team);
    }
    return NULL;
}

static void wake(team_t *team) {
    atomic_fetch_add(&team->call, 1);
    if (atomic_load(&team->asleep))
        syscall(SYS_futex, &team->call, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A team of `threads`, the caller's included; fewer where the system refuses some. */
void *gc_team_new(long threads) {
    team_t *team = aligned_alloc(64, (sizeof(team_t) + 63) / 64 * 64);
    if (!team) return NULL;
    memset(team, 0, sizeof *team);
    atomic_flag_clear(&team->taken);
    team->threads = calloc((size_t)threads, sizeof(pthread_t));
    for (long i = 1; team->threads && i < threads; i++) {
        if (pthread_create(&team->threads[team->members], NULL, member, team)) break;
        team->members++;
    }
    return team;
}

void gc_team_free(void *handle) {
    team_t *team = handle;
    atomic_store(&team->stopping, 1);
    wake(team);
    for (int i = 0; i < team->members; i++) pthread_join(team->threads[i], NULL);
    free(team->threads);
    free(team);
}

/* kernel(b, first, last) over range(extent), in parts of at least `grain`. */
void gc_parallel(const gc_host *host, gc_kernel kernel, gc_buffers b, long extent, long grain) {
    team_t *team = host->team;
    if (!team || extent <= grain || !team->members) {
        kernel(b, 0, extent);
        return;
    }
    if (extent / grain >= MOST_PARTS) grain = extent / MOST_PARTS + 1;
    long parts = (extent + grain - 1) / grain;
    uint64_t before = atomic_load_explicit(&team->state, memory_order_relaxed);
    team->kernel = kernel;
    team->b = b;
    team->extent = extent;
    team->grain = grain;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->state,
                          (uint64_t)(KERNEL(before) + 1) << 40 | (uint64_t)parts << 20,
                          memory_order_release);
    wake(team);
    work(team);
    while (atomic_load_explicit(&team->done, memory_order_acquire) < parts) pause_briefly();
}

/* Run a program: the threads are its own meanwhile, unless another program has them. */
int gc_run(int (*program)(gc_buffers), void **b, void *handle) {
    gc_host *host = b[0];
    team_t *team = handle;
    host->team = team && !atomic_flag_test_and_set(&team->taken) ? team : NULL;
    int status = program(b);
    if (host->team) atomic_flag_clear(&team->taken);
    return status;
}
