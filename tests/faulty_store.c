/* faulty_store.c: a store around another one that fails, hangs or lies as often as it is told.
 *
 * Chances are in a million of a page's call, drawn from one seeded counter. `hang` waits for the
 * deadline and says -ETIMEDOUT; `flip` changes one bit of what get hands out. Compiled by faulty.py.
 */
#include "store.h"
#include "sync.h"

#include <stdlib.h>

struct faulty {
    edm_store base;
    edm_store *inner;
    _Atomic uint64_t draws, failed_gets, failed_puts, hung, flipped;
    _Atomic uint32_t get, put, hang, flip;
};

static int chance(struct faulty *f, uint32_t in_a_million, uint64_t *drawn) {
    uint64_t z = atomic_fetch_add(&f->draws, 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    *drawn = z ^ (z >> 31);
    return *drawn % 1000000 < in_a_million;
}

static int hangs(struct faulty *f, uint64_t deadline_ns) {
    uint64_t drawn;
    if (!chance(f, f->hang, &drawn)) return 0;
    f->hung++;
    for (uint64_t now; (now = edm_now_ns()) < deadline_ns;) {
        struct timespec t = {(time_t)((deadline_ns - now) / 1000000000u), (long)((deadline_ns - now) % 1000000000u)};
        nanosleep(&t, NULL);
    }
    return 1;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct faulty *f = (struct faulty *)s;
    uint64_t drawn;
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (hangs(f, deadline_ns)) io[i].result = -ETIMEDOUT;
        else if (chance(f, f->put, &drawn)) io[i].result = -ENOSPC;
        else f->inner->ops->put(f->inner, &io[i], 1, deadline_ns);
        failed += io[i].result != 0;
    }
    f->failed_puts += (uint64_t)failed;
    return -failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct faulty *f = (struct faulty *)s;
    uint64_t drawn;
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (hangs(f, deadline_ns)) io[i].result = -ETIMEDOUT;
        else if (chance(f, f->get, &drawn)) io[i].result = -EIO;
        else f->inner->ops->get(f->inner, &io[i], 1, deadline_ns);
        if (!io[i].result && chance(f, f->flip, &drawn)) {
            ((uint8_t *)io[i].data)[drawn / 1000000 % s->page_size] ^= 1;
            f->flipped++;
        }
        failed += io[i].result != 0;
    }
    f->failed_gets += (uint64_t)failed;
    return -failed;
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_store *inner = ((struct faulty *)s)->inner;
    return inner->ops->del(inner, io, n, deadline_ns);
}

static int sync_inner(edm_store *s, uint64_t deadline_ns) {
    edm_store *inner = ((struct faulty *)s)->inner;
    return inner->ops->sync(inner, deadline_ns);
}

static void stats(edm_store *s, edm_store_stats *out) {
    edm_store *inner = ((struct faulty *)s)->inner;
    inner->ops->stats(inner, out);
}

static void close_both(edm_store *s) {
    edm_store *inner = ((struct faulty *)s)->inner;
    inner->ops->close(inner);
    free(s);
}

static const edm_store_ops ops = {
    .scheme = "faulty", .put = put, .get = get, .del = del, .sync = sync_inner, .stats = stats, .close = close_both};

edm_store *faulty_open(edm_store *inner) {
    struct faulty *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->base = (edm_store){&ops, inner->caps, inner->page_size, inner->pages};
    f->inner = inner;
    return &f->base;
}

void faulty_set(edm_store *s, uint32_t get, uint32_t put, uint32_t hang, uint32_t flip) {
    struct faulty *f = (struct faulty *)s;
    f->get = get;
    f->put = put;
    f->hang = hang;
    f->flip = flip;
}

void faulty_counts(edm_store *s, uint64_t out[4]) {
    struct faulty *f = (struct faulty *)s;
    out[0] = f->failed_gets, out[1] = f->failed_puts, out[2] = f->hung, out[3] = f->flipped;
}
