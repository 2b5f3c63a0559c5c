/* frames.h: pages in a ring of frames with a hand, for the clocks.
 *
 * A page keeps its frame as long as it is resident, so a hand that goes round reads one
 * array in order. Whoever leaves leaves a hole; a new page takes the hole that is there
 * for longest, which is the last victim's frame, just behind the hand, if one page
 * leaves at a time, and keeps the order of insertion if a batch leaves first. The hand
 * steps over holes.
 */
#ifndef EDM_FRAMES_H
#define EDM_FRAMES_H

#include "core.h"

#define EDM_HOLE 0x80000000u /* in at[]: no page here; the lower bits are the next hole */
#define EDM_HOLES_END 0x7fffffffu

typedef struct edm_frames {
    uint32_t hand;               /* the next frame to look at */
    uint32_t used;               /* frames 0 .. used - 1 hold a page or a hole */
    uint32_t count;              /* pages */
    uint32_t first, last;        /* holes, oldest and newest; EDM_HOLES_END: none */
    uint32_t *at;                /* frame -> page */
    uint32_t *where;             /* page -> frame */
} edm_frames;

EDM_INLINE size_t edm_frames_size(const edm_config *c) { return 2 * (size_t)c->pages * sizeof(uint32_t); }

/* `mem`: edm_frames_size() bytes. -1: more pages than it can count. */
EDM_INLINE int edm_frames_init(edm_pager *p, edm_frames *f, void *mem) {
    if (p->pages >= EDM_HOLES_END) return edm_refuse(p, "a clock counts up to 2^31 - 2 pages");
    f->at = mem;
    f->where = f->at + p->pages;
    f->first = f->last = EDM_HOLES_END;
    return 0;
}

EDM_INLINE void edm_frames_enter(edm_frames *f, uint32_t page) {
    uint32_t frame = f->first;
    if (frame == EDM_HOLES_END) frame = f->used++;
    else f->first = f->at[frame] & ~EDM_HOLE;
    f->at[frame] = page;
    f->where[page] = frame;
    f->count++;
}

EDM_INLINE void edm_frames_exit(edm_frames *f, uint32_t page) {
    uint32_t frame = f->where[page];
    if (f->first == EDM_HOLES_END) f->first = frame;
    else f->at[f->last] = EDM_HOLE | frame;
    f->last = frame;
    f->at[frame] = EDM_HOLE | EDM_HOLES_END;
    f->count--;
}

EDM_INLINE void edm_frames_step(edm_frames *f) {
    if (++f->hand >= f->used) f->hand = 0;
}

/* The hand will be here soon: a hint. */
EDM_INLINE void edm_frames_warm(const edm_pager *p, const edm_frames *f) {
    uint32_t soon = f->hand + EDM_AHEAD;
    if (EDM_LIKELY(soon < f->used)) {
        uint32_t page = f->at[soon] & ~EDM_HOLE;
        if (EDM_LIKELY(page < p->pages)) __builtin_prefetch(&p->word[page], 1);
    }
}

/* The page under the hand; there must be one in the ring. */
EDM_INLINE uint32_t edm_frames_look(edm_frames *f) {
    while (EDM_UNLIKELY(f->at[f->hand] & EDM_HOLE)) edm_frames_step(f);
    return f->at[f->hand];
}

/* For check() hooks: 0 = it holds the pages that the evictor must hold, and every other frame is a hole. */
EDM_INLINE int edm_frames_check(const edm_pager *p, const edm_frames *f) {
    uint32_t pages = 0, holes = 0;
    if (f->used > p->pages || (f->used && f->hand >= f->used)) return -1;
    for (uint32_t i = 0; i < f->used; i++) {
        uint32_t page = f->at[i];
        if (page & EDM_HOLE) continue;
        if (page >= p->pages || f->where[page] != i || !edm_known(p, page)) return -1;
        pages++;
    }
    for (uint32_t h = f->first; h != EDM_HOLES_END; h = f->at[h] & ~EDM_HOLE, holes++)
        if (h >= f->used || !(f->at[h] & EDM_HOLE) || holes >= f->used) return -1;
    return pages == f->count && pages + holes == f->used && pages == edm_known_pages(p) ? 0 : -1;
}

#endif
