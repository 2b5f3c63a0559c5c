/* ring.c: a ring of hashes: a page belongs to the unit whose point follows the page's own hash.
 *
 * Karger et al., Consistent hashing and random trees, STOC 1997. Each unit has EDM_RING_POINTS
 * points, so that its share of the pages is within some 9 % (1 / sqrt(128)) of the others'. A unit
 * that is added takes about 1 / n of the pages, from all others alike, and no other page moves. The
 * units that follow on the ring are where a page goes when its own is down or full.
 */
#include "ring.h"

_Static_assert(sizeof(((edm_ring *)0)->point) == EDM_RING_UNITS * EDM_RING_POINTS * sizeof(edm_ring_point),
               "points of all units");

static uint32_t hash(uint64_t z) { /* splitmix64's (Steele, Lea, Flood 2014) */
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static int before(const edm_ring_point *a, const edm_ring_point *b) {
    return a->at != b->at ? a->at < b->at : a->unit < b->unit;
}

/* Into the sorted points: only some hundred of them, and made once. */
static void insert(edm_ring *r, edm_ring_point p) {
    uint32_t i = r->points++;
    for (; i && before(&p, &r->point[i - 1]); i--) r->point[i] = r->point[i - 1];
    r->point[i] = p;
}

void edm_ring_make(edm_ring *r, uint32_t units) {
    r->units = units;
    r->points = 0;
    for (uint32_t unit = 0; unit < units; unit++)
        for (uint32_t k = 0; k < EDM_RING_POINTS; k++)
            insert(r, (edm_ring_point){hash((uint64_t)1 << 63 | (uint64_t)unit << 32 | k), unit});
}

/* The first point at or after the page's hash; past the last comes the first. */
static uint32_t start(const edm_ring *r, uint64_t page) {
    uint32_t at = hash(page), low = 0, high = r->points;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (r->point[middle].at < at) low = middle + 1;
        else high = middle;
    }
    return low == r->points ? 0 : low;
}

uint32_t edm_ring_first(const edm_ring *r, uint64_t page) { return r->point[start(r, page)].unit; }

void edm_ring_order(const edm_ring *r, uint64_t page, uint8_t *order) {
    uint32_t seen = 0, n = 0;
    for (uint32_t i = start(r, page); n < r->units; i = i + 1 == r->points ? 0 : i + 1) {
        uint32_t unit = r->point[i].unit;
        if (seen >> unit & 1) continue;
        seen |= 1u << unit;
        order[n++] = (uint8_t)unit;
    }
}
