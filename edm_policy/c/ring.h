/* ring.h: on which of several memory units a page goes: consistent hashing. */
#ifndef EDM_RING_H
#define EDM_RING_H

#include <stdint.h>

/* cffi-begin */
#define EDM_RING_UNITS 16   /* at most */
#define EDM_RING_POINTS 128 /* of each unit */

typedef struct edm_ring_point {
    uint32_t at;
    uint32_t unit;
} edm_ring_point;

typedef struct edm_ring { /* the first `points` are sorted */
    uint32_t units, points;
    edm_ring_point point[2048];
} edm_ring;

void edm_ring_make(edm_ring *r, uint32_t units); /* 1 .. EDM_RING_UNITS; the same units give the same ring */
uint32_t edm_ring_first(const edm_ring *r, uint64_t page); /* the page's unit */
void edm_ring_order(const edm_ring *r, uint64_t page, uint8_t *order); /* all units, the page's first */
/* cffi-end */

#endif
