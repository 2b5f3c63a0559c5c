/* store_mem.c: `mem:`, pages kept in this process.
 *
 * Whole pages have their place in one mapping laid out like the region; the kernel gives memory as they
 * first arrive. Smaller ones (packed, mostly) live in an arena, made when the first of them
 * comes. A byte per page tells where it is and locks it, so that a reader sees the old page or the
 * new one. With a cap (`mem:?cap=64MiB`) a page that would go beyond it gets -ENOSPC, and the one
 * it was to replace stays. `mem:?placed=0` offers no places: pages are put, as into any other store.
 */
#define _GNU_SOURCE
#include "arena.h"
#include "stores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ABSENT = 0, WHOLE = 1, SMALL = 2, LOCKED = 4 };
enum { SPARE = 64 }; /* objects of the arena beyond one a page: a page being replaced has two */

struct small { /* guarded by the page's lock */
    uint64_t at; /* in the arena */
    uint32_t bytes;
};

struct mem {
    edm_store base;
    uint8_t *bytes;
    _Atomic uint8_t *state;
    uint64_t cap, placed; /* placed: place() gives a place */
    edm_lock making; /* guards the making of the two below */
    _Atomic int made;
    struct small *small; /* per page */
    edm_arena arena;
    _Atomic uint64_t gets, puts, dels, errors, kept, held, bytes_in, bytes_out; /* held: bytes, as the arena rounds them */
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

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_DONTFORK);
    return p;
}

/* No malloc: address space, which the kernel fills as it is used. */
static int make_arena(struct mem *m) {
    edm_lock_take(&m->making);
    if (!m->made) {
        struct small *small = map(m->base.pages * sizeof *small);
        int error = small ? edm_arena_open(&m->arena, m->base.pages + SPARE, m->base.page_size, UINT64_MAX) : -ENOMEM;
        if (!error) m->small = small;
        else if (small) munmap(small, m->base.pages * sizeof *small);
        m->made = !error;
    }
    edm_lock_give(&m->making);
    return m->made ? 0 : -ENOMEM;
}

static uint64_t taken_by(const struct mem *m, uint64_t page, uint8_t state) {
    return state & WHOLE ? m->base.page_size : state & SMALL ? edm_arena_rounded(&m->arena, m->small[page].bytes) : 0;
}

static void release(struct mem *m, uint64_t page, uint8_t state) {
    if (state & WHOLE) madvise(at(m, page), m->base.page_size, MADV_DONTNEED);
    if (state & SMALL) edm_arena_give(&m->arena, m->small[page].at, m->small[page].bytes);
}

/* `more` bytes are taken and `less` given back, or neither. */
static int take_room(struct mem *m, uint64_t more, uint64_t less) {
    uint64_t held = m->held;
    do
        if (more > less && held + (more - less) > m->cap) return 0;
    while (!atomic_compare_exchange_weak(&m->held, &held, held + more - less));
    return 1;
}

static int put_small(struct mem *m, uint64_t page, uint8_t *state, const void *data, uint32_t size) {
    if (!m->made && make_arena(m)) return -ENOMEM;
    uint64_t more = edm_arena_rounded(&m->arena, size), less = taken_by(m, page, *state);
    if (!take_room(m, more, less)) return -ENOSPC;
    uint64_t to = edm_arena_take(&m->arena, size);
    if (to == EDM_ARENA_NONE) {
        m->held -= more - less;
        return -ENOSPC;
    }
    memcpy(m->arena.bytes + to, data, size);
    release(m, page, *state);
    m->small[page] = (struct small){to, size};
    *state = SMALL;
    return 0;
}

static int make_whole(struct mem *m, uint64_t page, uint8_t *state) {
    if (*state & WHOLE) return 0;
    if (!take_room(m, m->base.page_size, taken_by(m, page, *state))) return -ENOSPC;
    release(m, page, *state);
    *state = WHOLE;
    return 0;
}

static int put_whole(struct mem *m, uint64_t page, uint8_t *state, const void *data) {
    int error = make_whole(m, page, state);
    if (!error) memcpy(at(m, page), data, m->base.page_size);
    return error;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    int failed = 0;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = edm_io_size(s, &io[i]);
        uint8_t was = lock_page(m, io[i].page), state = was;
        io[i].result = size < s->page_size ? put_small(m, io[i].page, &state, io[i].data, size)
                                           : put_whole(m, io[i].page, &state, io[i].data);
        if (state && !was) m->kept++;
        unlock_page(m, io[i].page, state);
        failed += io[i].result != 0;
    }
    m->puts += n;
    m->bytes_in += edm_io_bytes(s, io, n);
    if (failed) m->errors += (uint64_t)failed;
    return -failed;
}

static int get_one(struct mem *m, uint64_t page, uint8_t state, void *to, uint32_t size) {
    if (!state) return -ENOENT;
    if (size != (state & WHOLE ? m->base.page_size : m->small[page].bytes)) return -EBADMSG;
    memcpy(to, state & WHOLE ? at(m, page) : m->arena.bytes + m->small[page].at, size);
    return 0;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    int failed = 0;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t state = lock_page(m, io[i].page);
        io[i].result = get_one(m, io[i].page, state, io[i].data, edm_io_size(s, &io[i]));
        unlock_page(m, io[i].page, state);
        failed += io[i].result != 0;
    }
    m->gets += n;
    m->bytes_out += edm_io_bytes(s, io, n);
    if (failed) m->errors += (uint64_t)failed;
    return -failed;
}

static const void *lend(edm_store *s, uint64_t page) {
    struct mem *m = (struct mem *)s;
    if (!(atomic_load_explicit(&m->state[page], memory_order_acquire) & WHOLE)) return NULL;
    m->gets++;
    m->bytes_out += s->page_size;
    return at(m, page);
}

static void *place(edm_store *s, uint64_t page) {
    struct mem *m = (struct mem *)s;
    if (!m->placed) return NULL;
    uint8_t was = lock_page(m, page), state = was;
    int error = make_whole(m, page, &state);
    if (state && !was) m->kept++;
    unlock_page(m, page, state);
    if (error) return NULL;
    m->puts++;
    m->bytes_in += s->page_size;
    return at(m, page);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct mem *m = (struct mem *)s;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t state = lock_page(m, io[i].page);
        m->held -= taken_by(m, io[i].page, state);
        release(m, io[i].page, state);
        if (state) m->kept--;
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
                             .pages = m->kept, .bytes_held = m->held};
}

static void close_mem(edm_store *s) {
    struct mem *m = (struct mem *)s;
    if (m->bytes) munmap(m->bytes, s->pages * s->page_size);
    if (m->state) munmap((void *)m->state, s->pages);
    if (m->small) munmap(m->small, s->pages * sizeof *m->small);
    edm_arena_close(&m->arena);
    free(m);
}

static const edm_store_ops ops = {"mem", put, get, del, sync_nothing, stats, close_mem, lend, place};

static edm_store *open_mem(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    uint64_t cap = INT64_MAX, placed = 1;
    edm_url_option options[] = {{"cap", EDM_URL_SIZE, &cap}, {"placed", EDM_URL_SWITCH, &placed}, {0}};
    if (*rest && *rest != '?') {
        snprintf(why, why_size, "store mem:%s: mem: takes no path; write mem: or mem:?cap=64MiB", rest);
        return NULL;
    }
    if (edm_url_options(*rest ? rest + 1 : rest, options, "mem", why, why_size)) return NULL;
    struct mem *m = calloc(1, sizeof *m);
    if (m) {
        m->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE, page_size, pages};
        m->cap = cap;
        m->placed = placed;
        m->bytes = map(pages * page_size);
        m->state = map(pages);
        if (m->bytes && m->state) return &m->base;
        close_mem(&m->base);
    }
    snprintf(why, why_size, "store mem: no address space for %llu pages", (unsigned long long)pages);
    return NULL;
}

const edm_store_kind edm_store_mem = {"mem:", "mem:[?cap=64MiB&placed=0]", open_mem};
