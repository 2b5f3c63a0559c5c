/* planned: along the order recorded in an earlier run.
 *
 * Branco et al., "3PO: Programmed far-memory prefetching for oblivious applications", 2022: a
 * program whose page accesses do not depend on its data is run once, its misses are recorded
 * (post-processed for the memory it will have), and later runs prefetch along that tape.
 *
 *     plan   a b c d e f g h i j k ...
 *              ^ at      ^ frontier       fault on b: at = after b; asks for the next `window`
 *                M = the first asked for  pages that are not here, from the frontier on
 *
 * The fault is looked for in the next `search` entries of the plan; one that is not there (the
 * run is not the recorded one) is let pass and changes nothing: far ahead, a page would be found
 * by chance, and the plan up to there lost. The plan is the caller's
 * (edm_set_plan), this keeps two places in it.
 */
#include "prefetch.h"

struct planned {
    uint32_t window, search;
    uint64_t at;       /* the plan up to here is done */
    uint64_t frontier; /* up to here asked for */
};

static size_t size(const edm_config *c) { return (void)c, sizeof(struct planned); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct planned *s = mem;
    (void)ctx;
    return edm_prefetch_count(p, "window", 32, 1, 128, &s->window) ||
           edm_prefetch_count(p, "search", 128, 1, 1u << 20, &s->search) ? -1 : 0;
}

static void fault(edm_pager *p, uint32_t page, int write) {
    struct planned *s = p->pf_mem;
    uint64_t left = p->plan_n - s->at, end = s->at + (left < s->search ? left : s->search), i = s->at;
    int marked = 0;
    (void)write;
    while (i < end && p->plan[i] != page) i++;
    if (i == end) return;
    s->at = i + 1;
    if (s->frontier < s->at) s->frontier = s->at;
    if (s->frontier - s->at > s->window) return; /* asked already */
    uint64_t last = s->at + s->search < p->plan_n ? s->at + s->search : p->plan_n;
    for (uint32_t asked = 0; asked < s->window && s->frontier < last; s->frontier++) {
        uint32_t next = p->plan[s->frontier];
        if (edm_prefetch_here(p, next)) continue;
        edm_prefetch_next(p, next, &marked);
        if (!edm_prefetch_here(p, next) && p->lspt >= p->limit) break; /* no room: here again next time */
        asked++;
    }
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static const edm_prefetcher edm_planned = {
    .name = "planned",
    .summary = "along the order of pages recorded in an earlier run",
    .paper = "Branco et al., 3PO, 2022",
    .params = "window=32 (1..128): pages asked for at one go; search=128: entries of the plan a fault is looked for in",
    .size = size,
    .init = init,
    .fault = fault,
    .used = nothing,
    .unused = nothing,
    .needs_plan = 1,
};

const edm_prefetcher *edm_prefetcher_planned(void) { return &edm_planned; }
