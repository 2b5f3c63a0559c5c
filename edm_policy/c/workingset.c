/* workingset.c: how far away were the misses?
 *
 * Linux mm/workingset.c (Johannes Weiner, 2012). A page that leaves takes a stamp with it: how
 * many pages had left by then. When it misses again, the difference is its refault distance:
 *
 *     leaves                                        misses again
 *     page p  . q . r . . s . . . . . t . . . . . . p
 *       stamp \________ distance = pages that left ____/
 *
 * In that time `distance` other pages were put out, and the resident pages were all used or
 * brought in after p: with one frame more than `distance` p would still be here. So the refaults
 * at a distance below d are those that d more frames would have saved (under LRU; a fair guess
 * under others), and one at no more than the limit is a working-set refault: the page belongs to what
 * the program uses now, twice the memory would have held it, and it is not just streaming by.
 * (Under auto the limit meant is config.limit, all it may grow to, or a small limit stayed small.)
 *
 * 4 bytes a page. The stamp is 32 bits: a page that stays away for 2^32 evictions seems nearer
 * than it was. Departs from Linux, where activations age the pages that left, too; here is one list.
 */
#include "core.h"

static uint32_t bucket_of(uint32_t distance) {
    uint32_t k = 0;
    while (distance >> k && k < 32) k++;
    return k;
}

void edm_refault(edm_pager *p, uint32_t page) {
    if (!p->left_at[page]) return;
    uint32_t distance = p->left - p->left_at[page];
    p->stats.refaults++;
    p->stats.workingset_refaults += distance <= p->config.limit;
    p->refault_distance[bucket_of(distance)]++;
}

void edm_refault_distances(const edm_pager *p, uint64_t out[33]) {
    for (uint32_t k = 0; k < 33; k++) out[k] = p->refault_distance[k];
}
