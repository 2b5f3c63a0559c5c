/* future.c: where each reference's page is referenced next, for belady. */
#include "core.h"

void edm_next_uses(const uint32_t *page, uint64_t n, uint32_t *last, uint32_t *next) {
    for (uint64_t i = n; i-- > 0;) {
        next[i] = last[page[i]];
        last[page[i]] = (uint32_t)i;
    }
}
