/* distance.c: how far two cores are from each other.
 *
 * A cache line goes there and back, again and again. On one machine the answer is one number; the host of a virtual
 * one may move its cores to other places meanwhile, and what two threads share then takes several times as long.
 */
#define _GNU_SOURCE
#include "region.h"

#include <sched.h>

enum { CHUNKS = 9, ROUNDS = 250, DEADLINE_NS = 50000000 };

struct court {
    _Alignas(64) _Atomic uint32_t ball; /* odd: it is on the other side */
    _Alignas(64) int core;
    uint64_t deadline_ns;
};

static int stay_on(int core) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    return sched_setaffinity(0, sizeof one, &one);
}

/* Waits until the ball is `wanted`; 0: it did not come. */
static int comes(struct court *c, uint32_t wanted) {
    for (uint32_t i = 1; atomic_load_explicit(&c->ball, memory_order_acquire) != wanted; i++)
        if (i % 4096 == 0 && edm_now_ns() > c->deadline_ns) return 0;
    return 1;
}

static void *other_side(void *court) {
    struct court *c = court;
    stay_on(c->core);
    for (uint32_t n = 1; n < 2 * CHUNKS * ROUNDS && comes(c, n); n += 2) atomic_store_explicit(&c->ball, n + 1, memory_order_release);
    return NULL;
}

static uint64_t play(struct court *c) {
    uint32_t took[CHUNKS], n = 1;
    if (!comes(c, 0)) return 0;
    for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
        uint64_t begin = edm_now_ns();
        for (uint32_t i = 0; i < ROUNDS; i++, n += 2) {
            atomic_store_explicit(&c->ball, n, memory_order_release);
            if (!comes(c, n + 1)) return 0;
        }
        took[chunk] = (uint32_t)((edm_now_ns() - begin) / ROUNDS);
    }
    edm_sort(took, CHUNKS);
    return took[CHUNKS / 2];
}

uint64_t edm_core_distance_ns(void) {
    struct court c = {.core = -1, .deadline_ns = edm_now_ns() + DEADLINE_NS};
    cpu_set_t before;
    pthread_t other;
    uint64_t found = 0;
    int mine = -1;
    if (sched_getaffinity(0, sizeof before, &before)) return 0;
    for (int core = 0; core < CPU_SETSIZE && c.core < 0; core++) {
        if (!CPU_ISSET(core, &before)) continue;
        if (mine < 0) mine = core;
        else c.core = core;
    }
    if (c.core < 0 || stay_on(mine)) return 0;
    if (!edm_thread_start(&other, other_side, &c)) {
        found = play(&c);
        pthread_join(other, NULL);
    }
    sched_setaffinity(0, sizeof before, &before);
    return found;
}
