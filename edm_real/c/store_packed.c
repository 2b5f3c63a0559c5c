/* store_packed.c: `zstd+mem:` and `lz4+mem:`, pages compressed in this process's memory.
 *
 * A page of one repeated 64-bit word (zeros, mostly) is that word and takes no memory; a page
 * that does not get smaller is kept as it is. Compressed pages live in an arena (arena.h), the
 * compressors' contexts in slots made at the start: nothing is allocated on get and put, which
 * run in the fault handler. Other inner stores keep pages of one size: there is nothing to win
 * by packing for them, so they are refused.
 */
#define _GNU_SOURCE
#include "arena.h"
#include "codec.h"
#include "stores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOTS = 32 }; /* threads that pack or unpack at a time; more of them wait */

enum kind { ABSENT = 0, SAME, PACKED, RAW };

struct entry {
    uint64_t at; /* SAME: the word; else the place in the arena */
    uint32_t bytes;
    edm_lock lock; /* guards the entry, and its bytes in the arena */
    uint8_t kind;
};

struct packed {
    edm_store base;
    edm_store_ops ops;
    const edm_codec *codec;
    int level;
    struct entry *entry;
    edm_arena arena;
    uint8_t *slots;
    size_t slot_bytes, work_bytes;
    _Atomic uint32_t taken; /* bit per slot */
    _Atomic uint64_t gets, puts, dels, errors, kept, same, bytes_in, bytes_out;
};

static uint8_t *slot_take(struct packed *p, uint32_t *which) {
    for (int i = 0;; i++) {
        uint32_t taken = atomic_load_explicit(&p->taken, memory_order_relaxed);
        if (taken == UINT32_MAX) {
            if (i % 64 == 63) sched_yield();
            continue;
        }
        *which = (uint32_t)__builtin_ctz(~taken);
        if (atomic_compare_exchange_weak_explicit(&p->taken, &taken, taken | 1u << *which, memory_order_acquire,
                                                  memory_order_relaxed))
            return p->slots + *which * p->slot_bytes;
    }
}

static void slot_give(struct packed *p, uint32_t which) {
    atomic_fetch_and_explicit(&p->taken, ~(1u << which), memory_order_release);
}

static int is_same(const void *page, uint32_t size, uint64_t *word) {
    if (size % sizeof *word) return 0;
    memcpy(word, page, sizeof *word);
    return !memcmp(page, (const uint8_t *)page + sizeof *word, size - sizeof *word);
}

static void fill(void *page, uint32_t size, uint64_t word) {
    for (uint8_t *to = page, *end = to + size; to < end; to += sizeof word) memcpy(to, &word, sizeof word);
}

/* What the page becomes; `e` gets its kind, size and, kept in the arena, its place. 0 or -ENOSPC. */
static int pack(struct packed *p, uint8_t *slot, const void *page, uint32_t size, struct entry *e) {
    if (is_same(page, size, &e->at)) {
        e->kind = SAME;
        return 0;
    }
    uint8_t *room = slot + p->work_bytes;
    size_t n = p->codec->pack(slot, p->level, room, page, size);
    int smaller = n > 0 && n + p->arena.granule <= size;
    e->kind = smaller ? PACKED : RAW;
    e->bytes = smaller ? (uint32_t)n : size;
    e->at = edm_arena_take(&p->arena, e->bytes);
    if (e->at == EDM_ARENA_NONE) return -ENOSPC;
    memcpy(p->arena.bytes + e->at, smaller ? room : page, e->bytes);
    return 0;
}

static void forget(struct packed *p, const struct entry *e) {
    if (e->kind == PACKED || e->kind == RAW) edm_arena_give(&p->arena, e->at, e->bytes);
    if (e->kind == SAME) p->same--;
    if (e->kind != ABSENT) p->kept--;
}

/* The page's entry becomes `new`; what was there is given back. */
static void replace(struct packed *p, uint64_t page, const struct entry *new) {
    struct entry *e = &p->entry[page], old;
    edm_lock_take(&e->lock);
    old = *e;
    e->at = new->at;
    e->bytes = new->bytes;
    e->kind = new->kind;
    edm_lock_give(&e->lock);
    forget(p, &old);
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct packed *p = (struct packed *)s;
    uint32_t which;
    int failed = 0;
    (void)deadline_ns;
    uint8_t *slot = slot_take(p, &which);
    for (uint32_t i = 0; i < n; i++) {
        struct entry new = {0};
        io[i].result = pack(p, slot, io[i].data, edm_io_size(s, &io[i]), &new);
        failed += io[i].result != 0;
        if (io[i].result) continue;
        p->kept++;
        if (new.kind == SAME) p->same++;
        replace(p, io[i].page, &new);
    }
    slot_give(p, which);
    p->puts += n;
    p->bytes_in += edm_io_bytes(s, io, n);
    if (failed) p->errors += (uint64_t)failed;
    return -failed;
}

static int get_one(struct packed *p, uint8_t *slot, uint64_t page, void *to, uint32_t size) {
    struct entry *e = &p->entry[page];
    int error = 0;
    edm_lock_take(&e->lock);
    const uint8_t *from = p->arena.bytes + (e->kind == SAME ? 0 : e->at);
    switch (e->kind) {
    case SAME: fill(to, size, e->at); break;
    case RAW:
        if (e->bytes == size) memcpy(to, from, size);
        else error = -EBADMSG;
        break;
    case PACKED: error = p->codec->unpack(slot, to, size, from, e->bytes); break;
    default: error = -ENOENT;
    }
    edm_lock_give(&e->lock);
    return error;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct packed *p = (struct packed *)s;
    uint32_t which;
    int failed = 0;
    (void)deadline_ns;
    uint8_t *slot = slot_take(p, &which);
    for (uint32_t i = 0; i < n; i++) {
        io[i].result = get_one(p, slot, io[i].page, io[i].data, edm_io_size(s, &io[i]));
        failed += io[i].result != 0;
    }
    slot_give(p, which);
    p->gets += n;
    p->bytes_out += edm_io_bytes(s, io, n);
    if (failed) p->errors += (uint64_t)failed;
    return -failed;
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct packed *p = (struct packed *)s;
    const struct entry none = {0};
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        replace(p, io[i].page, &none);
        io[i].result = 0;
    }
    p->dels += n;
    return 0;
}

static int sync_nothing(edm_store *s, uint64_t deadline_ns) {
    (void)s, (void)deadline_ns;
    return 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    struct packed *p = (struct packed *)s;
    edm_lock_take(&p->arena.lock);
    uint64_t held = p->arena.held;
    edm_lock_give(&p->arena.lock);
    *out = (edm_store_stats){.gets = p->gets, .puts = p->puts, .dels = p->dels, .errors = p->errors,
                             .bytes_in = p->bytes_in, .bytes_out = p->bytes_out,
                             .pages = p->kept, .bytes_held = held + p->same * sizeof(uint64_t), .same = p->same};
}

static void close_packed(edm_store *s) {
    struct packed *p = (struct packed *)s;
    edm_arena_close(&p->arena);
    if (p->slots) munmap(p->slots, SLOTS * p->slot_bytes);
    if (p->entry) munmap(p->entry, s->pages * sizeof *p->entry);
    free(p);
}

static void *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static int set_up(struct packed *p, uint64_t cap) {
    const edm_codec *c = p->codec;
    uint32_t page_size = p->base.page_size;
    p->work_bytes = (c->work_bytes(p->level, page_size) + 63) / 64 * 64;
    p->slot_bytes = p->work_bytes + page_size;
    p->entry = map(p->base.pages * sizeof *p->entry);
    p->slots = map(SLOTS * p->slot_bytes);
    if (!p->entry || !p->slots) return -ENOMEM;
    for (int i = 0; i < SLOTS; i++)
        if (c->prepare(p->slots + (size_t)i * p->slot_bytes, p->level, page_size)) return -EINVAL;
    return edm_arena_open(&p->arena, p->base.pages + SLOTS, page_size, cap); /* a page being replaced has two */
}

static edm_store *open_packed(const edm_codec *codec, const char *rest, uint32_t page_size, uint64_t pages, char *why,
                              size_t why_size) {
    uint64_t cap = UINT64_MAX, level = (uint64_t)codec->level;
    edm_url_option options[] = {{"cap", EDM_URL_SIZE, &cap}, {"level", EDM_URL_COUNT, &level}, {0}};
    if (!codec->built) {
        snprintf(why, why_size, "store %s+: built without it; sudo apt install pkg-config %s, then make clean setup", codec->name,
                 codec->package);
        return NULL;
    }
    if (strncmp(rest, "mem:", 4) || (rest[4] && rest[4] != '?')) {
        snprintf(why, why_size, "store %s+: it packs pages in this process's memory only; write %s+mem:", codec->name,
                 codec->name);
        return NULL;
    }
    if (edm_url_options(rest + 4 + (rest[4] == '?'), options, codec->name, why, why_size)) return NULL;
    if (level < (uint64_t)codec->level_least || level > (uint64_t)codec->level_most) {
        snprintf(why, why_size, "store %s+mem:: level must be %d to %d", codec->name, codec->level_least, codec->level_most);
        return NULL;
    }
    struct packed *p = calloc(1, sizeof *p);
    if (p) {
        p->ops = (edm_store_ops){codec->name, put, get, del, sync_nothing, stats, close_packed};
        p->base = (edm_store){&p->ops, EDM_STORE_SIGNAL_SAFE, page_size, pages};
        p->codec = codec;
        p->level = (int)level;
        if (!set_up(p, cap)) return &p->base;
        close_packed(&p->base);
    }
    snprintf(why, why_size, "store %s+mem:: no memory for %llu pages", codec->name, (unsigned long long)pages);
    return NULL;
}

static edm_store *open_zstd(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_packed(&edm_codec_zstd, rest, page_size, pages, why, why_size);
}

static edm_store *open_lz4(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_packed(&edm_codec_lz4, rest, page_size, pages, why, why_size);
}

const edm_store_kind edm_store_zstd = {"zstd+", "zstd+mem:[?level=1&cap=64MiB]", open_zstd};
const edm_store_kind edm_store_lz4 = {"lz4+", "lz4+mem:[?cap=64MiB]", open_lz4};
