/* advice.c: what the program says of its accesses to come: where prefetching would be in vain.
 *
 * Ranges of pages, few, apart and in no order; a fault in one of them asks no prefetcher. Its
 * cost where none was given is one comparison a miss.
 */
#include "core.h"

static int add(edm_pager *p, uint32_t first, uint32_t end) {
    if (p->quiet_n == EDM_QUIET_MAX) return -1;
    p->quiet[p->quiet_n].first = first;
    p->quiet[p->quiet_n++].end = end;
    return 0;
}

/* Leaves the ranges without [first, end); there is room for them. */
static void cut(edm_pager *p, uint32_t first, uint32_t end) {
    uint32_t n = p->quiet_n;
    for (uint32_t i = 0; i < n;) {
        uint32_t a = p->quiet[i].first, b = p->quiet[i].end;
        if (b <= first || a >= end) {
            i++;
            continue;
        }
        p->quiet[i] = p->quiet[--n];
        p->quiet[n] = p->quiet[--p->quiet_n];
        if (a < first) add(p, a, first);
        if (b > end) add(p, end, b);
    }
}

/* How many ranges are left without [first, end). */
static uint32_t after_cut(const edm_pager *p, uint32_t first, uint32_t end) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->quiet_n; i++) {
        uint32_t a = p->quiet[i].first, b = p->quiet[i].end;
        n += b <= first || a >= end ? 1 : (uint32_t)(a < first) + (uint32_t)(b > end);
    }
    return n;
}

int edm_advise(edm_pager *p, uint32_t first, uint32_t n, int random, uint64_t now) {
    uint32_t end = first + n;
    if (first >= p->pages || n > p->pages - first) return -1;
    p->now = now;
    edm_log(p, EDM_EV_ADVISE, first, random != 0);
    edm_log(p, EDM_EV_ADVISE, n, 2);
    if (!n) return 0;
    if (after_cut(p, first, end) + (random != 0) > EDM_QUIET_MAX) return -1;
    cut(p, first, end);
    return random ? add(p, first, end) : 0;
}

int edm_quiet(const edm_pager *p, uint32_t page) {
    for (uint32_t i = 0; i < p->quiet_n; i++)
        if (page >= p->quiet[i].first && page < p->quiet[i].end) return 1;
    return 0;
}
