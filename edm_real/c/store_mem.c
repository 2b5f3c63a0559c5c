/* store_mem.c: `mem:`, pages kept in this process, in one mapping laid out like the region.
 *
 * With a cap (`mem:?cap=64MiB`) a page that would go beyond it gets -ENOSPC, and is not kept.
 * The kernel gives memory as pages first arrive. A byte per page tells whether it is there
 * and locks it, so that a reader sees the old page or the new one.
 */
#define _GNU_SOURCE
#include "stores.h"
#include "sync.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ABSENT = 0, PRESENT = 1, LOCKED = 2 };

struct mem {
    edm_store base;
    uint8_t *bytes;
    _Atomic uint8_t *state;
    uint64_t most; /* pages */
    _Atomic uint64_t gets, puts, dels, errors, kept, bytes_in, bytes_out;
};

static uint8_t lock_page(struct mem *m, uint64_t page) {
    for (int i = 0;; i++) {
        uint8_t seen = atomic_load_explicit(&m->state[page], memory_order_relaxed);
        if (!(seen & LOCKED) && atomic_compare_exchange_weak_explicit(&m->state[page], &seen, seen | LOCKED,
                                                                      memory_order_acquire, memory_order_relaxed))
            return seen;
        if (i % 64 == 63) sched_yield();
        else edm_relax();
    }
}

static void unlock_page(struct mem *m, uint64_t page, uint8_t state) {
    atomic_store_explicit(&m->state[page], state, memory_order_release);
}

static uint8_t *at(struct mem *m, uint64_t page) { return m->bytes + page * m->base.page_size; }

/* Room for one page more, taken. */
static int take_room(struct mem *m) {
    if (atomic_fetch_add(&m->kept, 1) < m->most) return 1;
    m->kept--;
    return 0;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    int failed = 0;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t state = lock_page(m, io[i].page);
        int fits = state & PRESENT || take_room(m);
        if (fits) memcpy(at(m, io[i].page), io[i].data, edm_io_size(s, &io[i]));
        unlock_page(m, io[i].page, fits ? PRESENT : ABSENT);
        io[i].result = fits ? 0 : -ENOSPC;
        failed += !fits;
    }
    m->puts += n;
    m->bytes_in += edm_io_bytes(s, io, n);
    if (failed) m->errors += (uint64_t)failed;
    return -failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    int failed = 0;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t state = lock_page(m, io[i].page);
        if (state & PRESENT) memcpy(io[i].data, at(m, io[i].page), edm_io_size(s, &io[i]));
        unlock_page(m, io[i].page, state);
        io[i].result = state & PRESENT ? 0 : -ENOENT;
        failed += !(state & PRESENT);
    }
    m->gets += n;
    m->bytes_out += edm_io_bytes(s, io, n);
    if (failed) m->errors += (uint64_t)failed;
    return -failed;
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t state = lock_page(m, io[i].page);
        if (state & PRESENT) {
            madvise(at(m, io[i].page), s->page_size, MADV_DONTNEED);
            m->kept--;
        }
        unlock_page(m, io[i].page, ABSENT);
        io[i].result = 0;
    }
    m->dels += n;
    return 0;
}

static int sync_nothing(edm_store *s, uint64_t deadline_ns) {
    (void)s, (void)deadline_ns;
    return 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    struct mem *m = (struct mem *)s;
    *out = (edm_store_stats){.gets = m->gets, .puts = m->puts, .dels = m->dels, .errors = m->errors,
                             .bytes_in = m->bytes_in, .bytes_out = m->bytes_out,
                             .pages = m->kept, .bytes_held = m->kept * s->page_size};
}

static void close_mem(edm_store *s) {
    struct mem *m = (struct mem *)s;
    if (m->bytes) munmap(m->bytes, s->pages * s->page_size);
    if (m->state) munmap((void *)m->state, s->pages);
    free(m);
}

static const edm_store_ops ops = {"mem", put, get, del, sync_nothing, stats, close_mem};

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_DONTFORK);
    return p;
}

static edm_store *open_mem(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    uint64_t cap = UINT64_MAX;
    edm_url_option options[] = {{"cap", EDM_URL_SIZE, &cap}, {0}};
    if (*rest && *rest != '?') {
        snprintf(why, why_size, "store mem:%s: mem: takes no path; write mem: or mem:?cap=64MiB", rest);
        return NULL;
    }
    if (edm_url_options(*rest ? rest + 1 : rest, options, "mem", why, why_size)) return NULL;
    struct mem *m = calloc(1, sizeof *m);
    if (m) {
        m->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE, page_size, pages};
        m->most = cap / page_size;
        m->bytes = map(pages * page_size);
        m->state = map(pages);
        if (m->bytes && m->state) return &m->base;
        close_mem(&m->base);
    }
    snprintf(why, why_size, "store mem: no address space for %llu pages", (unsigned long long)pages);
    return NULL;
}

const edm_store_kind edm_store_mem = {"mem:", "mem:[?cap=64MiB]", open_mem};
