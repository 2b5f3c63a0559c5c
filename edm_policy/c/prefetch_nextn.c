/* nextn: the pages that follow, in a window that grows and shrinks as Linux's readahead does.
 *
 * Linux mm/readahead.c (page_cache_ra_order and its callers; Wu, Xi, Xu, "On the design of a new
 * Linux readahead framework", ACM SIGOPS OSR 42(5), 2008) for the window, the marker and the
 * doubling; mm/swap_state.c for shrinking by half at a time when guesses fail.
 *
 *     begin            page                    end
 *       [ window before | M window under way... )  -- next window: M at `end`, twice as wide -->
 *                         ^ marker: its first touch is seen, and asks for the next window
 *
 * Sequential is: the marker, the page after the last fault, or the page at the window's end. A
 * miss elsewhere reads that page alone and halves the window the next run starts with, as does a
 * page seen to leave unused. A marker of another run (runs that are interleaved) takes its width
 * from how far that run is read already, and a miss with pages here just before it is one of a
 * run, both as the kernel does.
 *
 * Departs from the kernel: the first miss of the region starts no window; growth is always by two;
 * `min` pages must be here before a miss (2 there), or much of a region that is a quarter
 * resident would look like runs. Of random accesses still one miss in 256 would, and what that
 * brings makes more of it look so: each page that leaves unused asks for twice as many, four times
 * `min` at most, and each one used for one less. (One seen unused stands for a window: of the pages
 * that leave while mapped nobody knows.)
 */
#include "prefetch.h"

struct nextn {
    uint32_t min, max;   /* pages of the first window, of the widest */
    uint32_t width;      /* of the last window; 0: none yet, or too many guesses failed */
    uint32_t begin, end; /* the last two windows of the run; equal: no run */
    uint32_t last;       /* page of the last fault seen */
    uint32_t before;     /* pages that must be here before a miss for it to be one of a run */
};

static size_t size(const edm_config *c) { return (void)c, sizeof(struct nextn); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct nextn *s = mem;
    (void)ctx;
    if (edm_prefetch_count(p, "min", 4, 1, 128, &s->min) || edm_prefetch_count(p, "max", 32, 1, 128, &s->max)) return -1;
    if (s->min > s->max) return edm_refuse(p, "nextn: min must not be more than max");
    s->last = EDM_NO_PAGE - 1;
    s->before = s->min;
    return 0;
}

static void shrink(struct nextn *s) {
    s->width /= 2;
    if (s->width < s->min) s->width = 0;
}

static void grow(struct nextn *s) {
    s->width = s->width ? s->width * 2 : s->min;
    if (s->width > s->max) s->width = s->max;
}

/* The first page after `page` that is not here, looking no farther than the widest window. */
static uint32_t first_gap(const edm_pager *p, const struct nextn *s, uint32_t page) {
    uint32_t at = page + 1;
    while (at < p->pages && at - page <= s->max && edm_prefetch_here(p, at)) at++;
    return at;
}

/* Are enough pages just before `page` here? */
static int history(const edm_pager *p, const struct nextn *s, uint32_t page) {
    uint32_t n = 0;
    while (n < s->before && n < page && edm_prefetch_here(p, page - 1 - n)) n++;
    return n == s->before;
}

static void fault(edm_pager *p, uint32_t page, int write) {
    struct nextn *s = p->pf_mem;
    uint32_t from = s->end, begin = s->begin;
    int in_run = page >= s->begin && page < s->end, follows = page == s->last + 1 || (s->end && page == s->end);
    (void)write;
    s->last = page;
    if (in_run && (edm_prefetch_was_hit(p) || follows)) {
        if (s->end - page > s->width) return; /* asked already */
        begin = page;
    } else if (follows) {
        from = begin = page + 1;
    } else if (edm_prefetch_was_hit(p) && !edm_prefetch_by_write(p)) {
        from = first_gap(p, s, page);
        begin = page;
        s->width = from - page;
    } else if (history(p, s, page)) {
        from = begin = page + 1;
        s->width = s->min;
    } else {
        if (!in_run) shrink(s);
        return;
    }
    grow(s);
    s->begin = begin;
    s->end = from + edm_prefetch_run(p, from, 1, s->width);
}

static void used(edm_pager *p, uint32_t page) {
    struct nextn *s = p->pf_mem;
    (void)page;
    if (!edm_prefetch_by_write(p)) s->before -= s->before > s->min;
}

static void unused(edm_pager *p, uint32_t page) {
    struct nextn *s = p->pf_mem;
    (void)page;
    s->before = s->before < 2 * s->min ? s->before * 2 : 4 * s->min;
    shrink(s);
}

static const edm_prefetcher edm_nextn = {
    .name = "nextn",
    .summary = "the pages that follow, in a window that grows and shrinks as Linux's readahead",
    .paper = "Linux mm/readahead.c; Wu, Xi, Xu 2008",
    .params = "min=4 (1..128): first window, pages; max=32 (1..128): widest",
    .size = size,
    .init = init,
    .fault = fault,
    .used = used,
    .unused = unused,
};

const edm_prefetcher *edm_prefetcher_nextn(void) { return &edm_nextn; }
