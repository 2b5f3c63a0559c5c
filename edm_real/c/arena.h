/* arena.h: memory for objects of any size up to a page, with no malloc: for pages that were
 * made smaller.
 *
 * Sizes are rounded up to 1/64 of a page: 64 classes. A chunk of 16 pages holds objects of one
 * class; the free ones are linked through their own first bytes. A chunk with nothing in it
 * goes back to the kernel and may serve another class. (zsmalloc of Linux does the same, and
 * moves objects to empty chunks besides.)
 */
#ifndef EDM_ARENA_H
#define EDM_ARENA_H

#include "sync.h"

#include <stddef.h>

enum { EDM_ARENA_CLASSES = 64, EDM_ARENA_CHUNK_PAGES = 16 };
#define EDM_ARENA_NONE UINT64_MAX

typedef struct edm_arena {
    edm_lock lock;
    uint8_t *bytes;
    size_t mapped;
    uint32_t granule, chunk_bytes, chunks;
    uint64_t held, most;               /* (lock) bytes in objects, rounded up; the cap */
    struct edm_chunk *chunk;           /* (lock) */
    uint32_t fresh, empty;             /* (lock) chunks never used; list of empty ones */
    uint32_t partial[EDM_ARENA_CLASSES + 1]; /* (lock) lists of chunks with room */
} edm_arena;

/* For `objects` objects at a time of at most page_size bytes. 0 or -ENOMEM. */
int edm_arena_open(edm_arena *a, uint64_t objects, uint32_t page_size, uint64_t cap);
void edm_arena_close(edm_arena *a);
/* An object of `bytes` (1 .. page_size): its offset in a->bytes, or EDM_ARENA_NONE at the cap. */
uint64_t edm_arena_take(edm_arena *a, uint32_t bytes);
void edm_arena_give(edm_arena *a, uint64_t at, uint32_t bytes);

/* What an object of `bytes` takes. */
static inline uint32_t edm_arena_rounded(const edm_arena *a, uint32_t bytes) {
    return (bytes + a->granule - 1) / a->granule * a->granule;
}

#endif
