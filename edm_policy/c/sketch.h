/* sketch.h: how often a page was used lately, in a few bits: W-TinyLFU's count-min sketch.
 *
 * Four rows of w counters of 4 bits, w the smallest power of two >= max(16, 4 * frames); each
 * page has one counter in each row, and its estimate is the least of them: never too low (until
 * a counter is full, at 15). After 10 * frames records all counters are halved.
 *
 * With the doorkeeper, a Bloom filter of 8 * w bits stands before the counters: a page's first
 * record since the last halving only sets its four bits.
 *
 * Row i's slot for a page: (lo + i * hi) mod w, lo and hi the halves of splitmix64's first draw
 * from the page as seed, hi made odd (Kirsch, Mitzenmacher, "Less hashing, same
 * performance", 2006).
 */
#ifndef EDM_SKETCH_H
#define EDM_SKETCH_H

#include "core.h"

#include <string.h>

enum {
    EDM_SKETCH_ROWS = 4,
    /* w < 8 * frames (of 2 and more): rows 4 * w / 2 bytes; the doorkeeper, if there is one, w bytes */
    EDM_SKETCH_BYTES_PER_FRAME = 16
};

typedef struct edm_sketch {
    uint64_t *row;       /* row i's counters from word i * w / 16 on, 16 in a word */
    uint64_t *door;      /* 8 * w bits; NULL without doorkeeper */
    uint32_t mask;       /* w - 1 */
    uint64_t additions, sample;
} edm_sketch;

static inline uint64_t edm_sketch_width(uint32_t frames) {
    uint64_t w = 16;
    while (w < 4 * (uint64_t)frames) w *= 2;
    return w;
}

/* Room for the rows, and the doorkeeper if there is one. */
static inline size_t edm_sketch_bytes(uint32_t frames, int doorkeeper) {
    return (size_t)edm_sketch_width(frames) * (EDM_SKETCH_ROWS / 2 + (doorkeeper != 0));
}

static inline void edm_sketch_init(edm_sketch *k, void *mem, uint32_t frames, int doorkeeper) {
    uint64_t w = edm_sketch_width(frames);
    k->row = mem;
    k->door = doorkeeper ? k->row + w * EDM_SKETCH_ROWS / 16 : NULL;
    k->mask = (uint32_t)(w - 1);
    k->sample = 10 * (uint64_t)frames;
    k->additions = 0;
}

EDM_INLINE uint64_t edm_sketch_hash(uint32_t page) {
    uint64_t z = page + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Whether all bits of the page are set; they are afterwards, where `set`. */
static inline int edm_sketch_door(uint64_t *door, uint64_t mask, uint64_t h, int set) {
    uint64_t lo = (uint32_t)h, hi = (h >> 32) | 1;
    int all = 1;
    for (unsigned i = 0; i < EDM_SKETCH_ROWS; i++) {
        uint64_t bit = (lo + i * hi) & mask;
        all &= (int)(door[bit / 64] >> (bit & 63) & 1);
        if (set) door[bit / 64] |= UINT64_C(1) << (bit & 63);
    }
    return all;
}

static inline void edm_sketch_halve(edm_sketch *k) {
    uint64_t words = ((uint64_t)k->mask + 1) * EDM_SKETCH_ROWS / 16;
    for (uint64_t i = 0; i < words; i++) k->row[i] = k->row[i] >> 1 & UINT64_C(0x7777777777777777);
    if (k->door) memset(k->door, 0, (size_t)k->mask + 1);
    k->additions = k->sample / 2;
}

EDM_INLINE void edm_sketch_record(edm_sketch *k, uint32_t page) {
    uint64_t h = edm_sketch_hash(page);
    if (EDM_LIKELY(!k->door) || edm_sketch_door(k->door, (uint64_t)k->mask * 8 + 7, h, 1)) {
        uint32_t lo = (uint32_t)h, hi = (uint32_t)(h >> 32) | 1;
        uint64_t *row = k->row;
        for (unsigned i = 0; i < EDM_SKETCH_ROWS; i++, lo += hi, row += ((uint64_t)k->mask + 1) / 16) {
            uint32_t slot = lo & k->mask, shift = (slot & 15) * 4;
            uint64_t word = row[slot / 16];
            row[slot / 16] = word + ((uint64_t)((word >> shift & 15) != 15) << shift);
        }
    }
    if (EDM_UNLIKELY(++k->additions == k->sample)) edm_sketch_halve(k);
}

EDM_INLINE void edm_sketch_warm(const edm_sketch *k, uint32_t page) {
    uint64_t h = edm_sketch_hash(page);
    uint32_t lo = (uint32_t)h, hi = (uint32_t)(h >> 32) | 1;
    const uint64_t *row = k->row;
    for (unsigned i = 0; i < EDM_SKETCH_ROWS; i++, lo += hi, row += ((uint64_t)k->mask + 1) / 16)
        __builtin_prefetch(&row[(lo & k->mask) / 16], 1);
}

EDM_INLINE unsigned edm_sketch_estimate(const edm_sketch *k, uint32_t page) {
    uint64_t h = edm_sketch_hash(page);
    uint32_t lo = (uint32_t)h, hi = (uint32_t)(h >> 32) | 1;
    const uint64_t *row = k->row;
    unsigned least = 15;
    for (unsigned i = 0; i < EDM_SKETCH_ROWS; i++, lo += hi, row += ((uint64_t)k->mask + 1) / 16) {
        uint32_t slot = lo & k->mask;
        unsigned count = row[slot / 16] >> (slot & 15) * 4 & 15;
        if (count < least) least = count;
    }
    return least + (unsigned)(k->door && edm_sketch_door(k->door, (uint64_t)k->mask * 8 + 7, h, 0));
}

#endif
