/* prefetch.h: what prefetchers share: the verdict they are called after, and a run of wishes. */
#ifndef EDM_PREFETCH_H
#define EDM_PREFETCH_H

#include "core.h"

/* Is fault() called for the first use of a prefetched page, rather than for a miss? */
EDM_INLINE int edm_prefetch_was_hit(const edm_pager *p) {
    uint8_t verdict = p->out->c[0].op;
    return verdict != EDM_FETCH && verdict != EDM_ZERO_FILL;
}

/* Is the use one that was seen only because it was a write? A mapped page's other uses are not, and it
 * leaves unseen where it had none: counting these would find every guess a good one. */
EDM_INLINE int edm_prefetch_by_write(const edm_pager *p) {
    return p->out && p->out->n && p->out->c[0].op == EDM_ALLOW_WRITE;
}

/* Is the page here, or on its way? */
EDM_INLINE int edm_prefetch_here(const edm_pager *p, int64_t page) {
    return edm_in_lspt(edm_state_of(p, (uint32_t)page));
}

/* Asks for one page of a run; the first that is granted becomes its marker. */
EDM_INLINE void edm_prefetch_next(edm_pager *p, uint32_t page, int *marked) {
    if (*marked) edm_prefetch(p, page);
    else *marked = edm_prefetch_marked(p, page);
}

/* Asks for n pages from `page` on, `step` apart, the first granted as the marker. Returns how
 * many of them need no asking again: up to the end of the region, or of the room. */
EDM_INLINE uint32_t edm_prefetch_run(edm_pager *p, int64_t page, int64_t step, uint32_t n) {
    uint32_t done = n;
    int marked = 0;
    for (uint32_t k = 0; k < n; k++, page += step) {
        if (page < 0 || page >= p->pages) return k < done ? k : done;
        if (done == n && p->lspt >= p->limit && !edm_prefetch_here(p, page)) done = k;
        edm_prefetch_next(p, (uint32_t)page, &marked); /* also beyond the room: the wish counts */
    }
    return done;
}

/* A parameter that must be a whole number from `least` to `most`. -1: refused in words. */
int edm_prefetch_count(edm_pager *p, const char *key, uint32_t otherwise, uint32_t least, uint32_t most, uint32_t *out);

#endif
