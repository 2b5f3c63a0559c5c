/* arena.c: see arena.h. */
#define _GNU_SOURCE
#include "arena.h"

#include <string.h>
#include <sys/mman.h>

#define NO_CHUNK UINT32_MAX
#define NO_OBJECT UINT16_MAX

struct edm_chunk {
    uint32_t next, prev;     /* in the list of its class; next: also in the empty list */
    uint16_t used, fresh;    /* objects taken; the first that was never taken */
    uint16_t free, class;    /* first of the free ones */
};

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_DONTFORK);
    return p;
}

int edm_arena_open(edm_arena *a, uint64_t objects, uint32_t page_size, uint64_t cap) {
    memset(a, 0, sizeof *a);
    if (objects + EDM_ARENA_CLASSES >= NO_CHUNK) return -ENOMEM;
    a->granule = page_size / EDM_ARENA_CLASSES;
    a->chunk_bytes = page_size * EDM_ARENA_CHUNK_PAGES;
    a->chunks = (uint32_t)objects + EDM_ARENA_CLASSES; /* each of them may hold a single object, at the worst */
    a->most = cap;
    a->empty = NO_CHUNK;
    for (int c = 0; c <= EDM_ARENA_CLASSES; c++) a->partial[c] = NO_CHUNK;
    a->mapped = (size_t)a->chunks * a->chunk_bytes;
    a->bytes = map(a->mapped); /* address space only, until it is used */
    a->chunk = map(a->chunks * sizeof *a->chunk);
    if (a->bytes && a->chunk) return 0;
    edm_arena_close(a);
    return -ENOMEM;
}

void edm_arena_close(edm_arena *a) {
    if (a->bytes) munmap(a->bytes, a->mapped);
    if (a->chunk) munmap(a->chunk, a->chunks * sizeof *a->chunk);
    a->bytes = NULL;
    a->chunk = NULL;
}

static uint32_t class_of(const edm_arena *a, uint32_t bytes) { return (bytes + a->granule - 1) / a->granule; }

static uint16_t room_of(const edm_arena *a, uint32_t class) {
    return (uint16_t)(a->chunk_bytes / (class * a->granule));
}

static void link_in(edm_arena *a, uint32_t k) {
    struct edm_chunk *c = &a->chunk[k];
    c->prev = NO_CHUNK;
    c->next = a->partial[c->class];
    if (c->next != NO_CHUNK) a->chunk[c->next].prev = k;
    a->partial[c->class] = k;
}

static void link_out(edm_arena *a, uint32_t k) {
    struct edm_chunk *c = &a->chunk[k];
    if (c->prev == NO_CHUNK) a->partial[c->class] = c->next;
    else a->chunk[c->prev].next = c->next;
    if (c->next != NO_CHUNK) a->chunk[c->next].prev = c->prev;
}

static uint32_t chunk_for(edm_arena *a, uint32_t class) {
    uint32_t k = a->partial[class];
    if (k != NO_CHUNK) return k;
    k = a->empty;
    if (k != NO_CHUNK) a->empty = a->chunk[k].next;
    else if (a->fresh < a->chunks) k = a->fresh++;
    else return NO_CHUNK;
    a->chunk[k] = (struct edm_chunk){.free = NO_OBJECT, .class = (uint16_t)class};
    link_in(a, k);
    return k;
}

uint64_t edm_arena_take(edm_arena *a, uint32_t bytes) {
    uint32_t class = class_of(a, bytes), size = class * a->granule, k = NO_CHUNK;
    uint64_t at = EDM_ARENA_NONE;
    edm_lock_take(&a->lock);
    if (a->held + size <= a->most) k = chunk_for(a, class);
    if (k != NO_CHUNK) {
        struct edm_chunk *c = &a->chunk[k];
        uint16_t object = c->free;
        if (object == NO_OBJECT) object = c->fresh++;
        at = (uint64_t)k * a->chunk_bytes + (uint64_t)object * size;
        if (object == c->free) memcpy(&c->free, a->bytes + at, sizeof c->free);
        if (++c->used == room_of(a, class)) link_out(a, k);
        a->held += size;
    }
    edm_lock_give(&a->lock);
    return at;
}

void edm_arena_give(edm_arena *a, uint64_t at, uint32_t bytes) {
    uint32_t class = class_of(a, bytes), size = class * a->granule, k = (uint32_t)(at / a->chunk_bytes);
    edm_lock_take(&a->lock);
    struct edm_chunk *c = &a->chunk[k];
    if (c->used == room_of(a, class)) link_in(a, k);
    memcpy(a->bytes + at, &c->free, sizeof c->free);
    c->free = (uint16_t)(at % a->chunk_bytes / size);
    a->held -= size;
    if (!--c->used) {
        link_out(a, k);
        madvise(a->bytes + (size_t)k * a->chunk_bytes, a->chunk_bytes, MADV_DONTNEED);
        c->next = a->empty;
        a->empty = k;
    }
    edm_lock_give(&a->lock);
}
