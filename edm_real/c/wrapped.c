/* wrapped.c: see wrapped.h. */
#define _GNU_SOURCE
#include "wrapped.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

/* A page's edm_wrapped_page. Read without a lock: version, the rest, version again. */
struct edm_wrapped_entry {
    _Atomic uint64_t version, is, note[2]; /* is: bytes << 32 | kind */
};

void *edm_wrapped_work(edm_wrapped *w, int slot) { return w->slot + (size_t)slot * w->slot_bytes; }

/* Room for EDM_WRAPPED_BATCH pages; small ones lie close together. */
static uint8_t *room_of(edm_wrapped *w, int slot) { return (uint8_t *)edm_wrapped_work(w, slot) + w->work_bytes; }

static uint32_t rounded(uint32_t bytes) { return (bytes + 63) / 64 * 64; }

static void read_entry(const struct edm_wrapped_entry *e, edm_wrapped_page *out) {
    uint64_t is = atomic_load_explicit(&e->is, memory_order_acquire);
    out->bytes = (uint32_t)(is >> 32);
    out->kind = (uint32_t)is;
    for (int i = 0; i < 2; i++) out->note[i] = atomic_load_explicit(&e->note[i], memory_order_acquire);
}

static uint64_t version(const struct edm_wrapped_entry *e) { return atomic_load_explicit(&e->version, memory_order_acquire); }

/* 0: a put or del of it is under way. */
static int look(const struct edm_wrapped_entry *e, edm_wrapped_page *out) {
    uint64_t seen = version(e);
    if (seen & 1) return 0;
    read_entry(e, out);
    out->version = seen - 1; /* of the put that ended with it */
    return version(e) == seen;
}

/* ---- writers: they hold their pages, by an odd version ---- */

static int hold_one(struct edm_wrapped_entry *e) {
    uint64_t seen = version(e);
    return !(seen & 1) && atomic_compare_exchange_strong(&e->version, &seen, seen + 1);
}

/* Nothing was done: the page is what its version says, as before. */
static void back_off(struct edm_wrapped_entry *e) { atomic_fetch_sub(&e->version, 1); }

static void let_go(struct edm_wrapped_entry *e) { atomic_fetch_add(&e->version, 1); }

/* All or none, so that two batches never wait for each other. */
static int hold(edm_wrapped *w, const edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    for (;;) {
        uint32_t k = 0;
        while (k < n && hold_one(&w->entry[io[k].page])) k++;
        if (k == n) return 0;
        while (k) back_off(&w->entry[io[--k].page]);
        if (edm_now_ns() >= deadline_ns) return -ETIMEDOUT;
        sched_yield();
    }
}

/* The page's last version is what `p` says (kind 0: it is gone), and let go. */
static void settle(edm_wrapped *w, uint64_t page, const edm_wrapped_page *p) {
    struct edm_wrapped_entry *e = &w->entry[page];
    edm_wrapped_page old;
    read_entry(e, &old);
    if (p->kind && !old.kind) w->kept++;
    if (!p->kind && old.kind) w->kept--;
    int is_same = p->kind && !p->bytes, was_same = old.kind && !old.bytes;
    if (is_same && !was_same) w->same++;
    if (!is_same && was_same) w->same--;
    atomic_store_explicit(&e->is, (uint64_t)p->bytes << 32 | p->kind, memory_order_release);
    for (int i = 0; i < 2; i++) atomic_store_explicit(&e->note[i], p->note[i], memory_order_release);
    let_go(e);
}

static int all_failed(edm_store_io *io, uint32_t n, int error) {
    for (uint32_t i = 0; i < n; i++) io[i].result = error;
    return -(int)n;
}

/* Those whose bytes inside nobody will ask for any more. */
static void clear(edm_wrapped *w, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    if (n) w->inner->ops->del(w->inner, io, n, deadline_ns);
}

static int put_some(edm_wrapped *w, int slot, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_wrapped_page now[EDM_WRAPPED_BATCH], old;
    uint8_t *room = room_of(w, slot);
    edm_store_io in[EDM_WRAPPED_BATCH], gone[EDM_WRAPPED_BATCH];
    uint32_t of[EDM_WRAPPED_BATCH], k = 0, m = 0;
    int failed = 0;
    if (hold(w, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) {
        struct edm_wrapped_entry *e = &w->entry[io[i].page];
        const void *inside = NULL;
        now[i] = (edm_wrapped_page){.version = version(e)};
        io[i].result = w->wrapper->wrap(w, edm_wrapped_work(w, slot), io[i].page, &now[i], io[i].data,
                                        edm_io_size(&w->base, &io[i]), room, &inside);
        if (inside == room) room += rounded(now[i].bytes);
        read_entry(e, &old);
        if (!io[i].result && now[i].bytes) {
            of[k] = i;
            in[k++] = (edm_store_io){.page = io[i].page, .data = (void *)inside, .size = now[i].bytes};
        } else if (old.bytes) {
            gone[m++] = (edm_store_io){.page = io[i].page};
        }
    }
    if (k) w->inner->ops->put(w->inner, in, k, deadline_ns);
    clear(w, gone, m, deadline_ns);
    for (uint32_t j = 0; j < k; j++) io[of[j]].result = in[j].result;
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result) now[i] = (edm_wrapped_page){0}; /* inside may be the old page or none: it is gone */
        settle(w, io[i].page, &now[i]);
        failed += io[i].result != 0;
    }
    return -failed;
}

static int del_some(edm_wrapped *w, int slot, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    const edm_wrapped_page none = {0};
    int failed;
    (void)slot;
    if (hold(w, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    failed = w->inner->ops->del(w->inner, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++) settle(w, io[i].page, &none);
    return failed;
}

/* ---- readers ---- */

/* What is to be had at once gets its result; the others stay -EINPROGRESS. How many those are. */
static uint32_t get_once(edm_wrapped *w, int slot, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_wrapped_page seen[EDM_WRAPPED_BATCH];
    uint8_t *room = room_of(w, slot);
    edm_store_io in[EDM_WRAPPED_BATCH];
    uint32_t of[EDM_WRAPPED_BATCH], k = 0, left = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result != -EINPROGRESS) continue;
        uint32_t size = edm_io_size(&w->base, &io[i]);
        if (!look(&w->entry[io[i].page], &seen[i])) {
            left++;
        } else if (!seen[i].kind) {
            io[i].result = -ENOENT;
        } else if (!seen[i].bytes) {
            io[i].result = w->wrapper->unwrap(w, edm_wrapped_work(w, slot), io[i].page, &seen[i], NULL, io[i].data, size);
        } else {
            of[k] = i;
            in[k] = (edm_store_io){.page = io[i].page, .data = io[i].data, .size = seen[i].bytes};
            if (seen[i].bytes != size) {
                in[k].data = room;
                room += rounded(seen[i].bytes);
            }
            k++;
        }
    }
    if (k) w->inner->ops->get(w->inner, in, k, deadline_ns);
    for (uint32_t j = 0; j < k; j++) {
        edm_store_io *asked = &io[of[j]];
        int error = in[j].result;
        if (!error)
            error = w->wrapper->unwrap(w, edm_wrapped_work(w, slot), asked->page, &seen[of[j]], in[j].data, asked->data,
                                       edm_io_size(&w->base, asked));
        if (version(&w->entry[asked->page]) == seen[of[j]].version + 1) asked->result = error;
        else left++; /* it was put meanwhile: what came is of no version */
    }
    return left;
}

static int get_some(edm_wrapped *w, int slot, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) io[i].result = -EINPROGRESS;
    while (get_once(w, slot, io, n, deadline_ns) && edm_now_ns() < deadline_ns) sched_yield();
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result == -EINPROGRESS) io[i].result = -ETIMEDOUT;
        failed += io[i].result != 0;
    }
    return -failed;
}

/* ---- the store ---- */

typedef int (*some)(edm_wrapped *w, int slot, edm_store_io *io, uint32_t n, uint64_t deadline_ns);

static int in_batches(edm_wrapped *w, some fn, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    int slot = edm_slot_take(&w->slots, deadline_ns), failed = 0;
    if (slot < 0) failed = all_failed(io, n, slot);
    for (uint32_t i = 0; slot >= 0 && i < n; i += EDM_WRAPPED_BATCH)
        failed += fn(w, slot, io + i, n - i < EDM_WRAPPED_BATCH ? n - i : EDM_WRAPPED_BATCH, deadline_ns);
    if (slot >= 0) edm_slot_give(&w->slots, slot);
    if (failed) w->errors += (uint64_t)-failed;
    return failed;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_wrapped *w = (edm_wrapped *)s;
    w->puts += n;
    w->bytes_in += edm_io_bytes(s, io, n);
    return in_batches(w, put_some, io, n, deadline_ns);
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_wrapped *w = (edm_wrapped *)s;
    w->gets += n;
    w->bytes_out += edm_io_bytes(s, io, n);
    return in_batches(w, get_some, io, n, deadline_ns);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_wrapped *w = (edm_wrapped *)s;
    w->dels += n;
    return in_batches(w, del_some, io, n, deadline_ns);
}

static int sync_inner(edm_store *s, uint64_t deadline_ns) {
    edm_store *inner = ((edm_wrapped *)s)->inner;
    return inner->ops->sync(inner, deadline_ns);
}

/* What the inner store holds and has been through; pages, and what was asked of it, as seen here. */
static void stats(edm_store *s, edm_store_stats *out) {
    edm_wrapped *w = (edm_wrapped *)s;
    w->inner->ops->stats(w->inner, out);
    out->gets = w->gets;
    out->puts = w->puts;
    out->dels = w->dels;
    out->errors = w->errors;
    out->bytes_in = w->bytes_in;
    out->bytes_out = w->bytes_out;
    out->pages = w->kept;
    out->same = w->same;
    out->bytes_held += w->same * sizeof(uint64_t);
}

static void *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    madvise(at, bytes, MADV_DONTFORK);
    return at;
}

int edm_wrapped_open(edm_wrapped *w, const edm_wrapper *wrapper, size_t work_bytes) {
    uint32_t page_size = w->inner->page_size;
    w->ops = (edm_store_ops){wrapper->name, put, get, del, sync_inner, stats, .close = edm_wrapped_close};
    /* What is known of the pages here does not outlive the process. */
    w->base = (edm_store){&w->ops, w->inner->caps & ~(uint32_t)EDM_STORE_PERSISTENT, page_size, w->inner->pages};
    w->wrapper = wrapper;
    w->work_bytes = (work_bytes + page_size - 1) / page_size * page_size; /* so that rooms begin at pages */
    w->slot_bytes = w->work_bytes + (size_t)EDM_WRAPPED_BATCH * page_size;
    w->entry = map(w->base.pages * sizeof *w->entry);
    w->slot = map(EDM_SLOTS * w->slot_bytes); /* used from the first on: the others stay without memory */
    return w->entry && w->slot ? 0 : -ENOMEM;
}

void edm_wrapped_close(edm_store *s) {
    edm_wrapped *w = (edm_wrapped *)s;
    for (int i = 0; w->slot && w->wrapper->end && i < EDM_SLOTS; i++) w->wrapper->end(w, edm_wrapped_work(w, i));
    if (w->inner) w->inner->ops->close(w->inner);
    if (w->slot) munmap(w->slot, EDM_SLOTS * w->slot_bytes);
    if (w->entry) munmap(w->entry, w->base.pages * sizeof *w->entry);
    free(w);
}
