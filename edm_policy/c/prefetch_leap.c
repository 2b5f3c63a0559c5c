/* leap: the majority trend of the last faults.
 *
 * Al Maruf, Chowdhury, "Effectively prefetching remote memory with Leap", USENIX ATC 2020: its
 * algorithms 1 (FindTrend) and 2 (DoPrefetch).
 *
 *     deltas of the last `history` faults, newest first
 *     [ 3 3 7 3 | 3 3 -40 3 | 3 3 3 1   3 3 3 3 ]
 *      \ w=H/split            Boyer-Moore vote: has one delta more than half of the last w?
 *       \______ w doubles     no -> w doubles, up to all of H;   yes -> that is the trend
 *
 *     window:  hits since the last one -> the next power of two above them, `max` at most
 *              no hits                 -> 1 if this fault follows the trend, else 0
 *              never less than half of the window before
 *
 * Departs from the paper, where every prefetched page faults once (it waits in the swap cache):
 * here only a window's marker does. A fault on the trend's way into or just past the last window
 * stands for the steps in between: its delta is taken as the trend's, the steps as hits (under
 * exact observation hits are seen and counted as they are). A marker inside a window that still
 * reaches far enough ahead asks for what lies beyond it, not for pages it has. Where the paper goes
 * on along the last trend although none was found, this does so too, only while guesses hit.
 */
#include "prefetch.h"

struct leap {
    uint32_t history, split, max;
    uint32_t n, head;  /* deltas kept, place of the newest */
    uint32_t hits;     /* since the last window */
    uint32_t width;    /* of the last window */
    int64_t last;      /* page of the last fault; -1 none */
    int64_t trend;     /* the last one found; 0 none */
    int64_t frontier;  /* where the last window ended */
    int64_t delta[128];
};

static size_t size(const edm_config *c) { return (void)c, sizeof(struct leap); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct leap *s = mem;
    (void)ctx;
    s->last = -1;
    return edm_prefetch_count(p, "history", 32, 2, 128, &s->history) || edm_prefetch_count(p, "split", 4, 1, 128, &s->split) ||
           edm_prefetch_count(p, "max", 8, 1, 128, &s->max) ? -1 : 0;
}

static int64_t newest(const struct leap *s, uint32_t k) { return s->delta[(s->head + s->history - k) % s->history]; }

/* The delta that more than half of the last w have; 0: there is none. */
static int64_t majority(const struct leap *s, uint32_t w) {
    int64_t candidate = 0;
    uint32_t votes = 0, count = 0;
    for (uint32_t k = 0; k < w; k++) {
        int64_t d = newest(s, k);
        if (!votes) candidate = d;
        votes = d == candidate ? votes + 1 : votes - 1;
    }
    for (uint32_t k = 0; k < w; k++) count += newest(s, k) == candidate;
    return count > w / 2 ? candidate : 0;
}

static int64_t find_trend(const struct leap *s) {
    uint32_t w = s->history / s->split;
    if (w < 2) w = 2;
    for (;; w *= 2) {
        if (w > s->n) w = s->n;
        int64_t found = w > 1 ? majority(s, w) : 0;
        if (found || w == s->n) return found;
    }
}

static void remember(struct leap *s, int64_t delta) {
    s->head = (s->head + 1) % s->history;
    s->delta[s->head] = delta;
    s->n += s->n < s->history;
}

/* Steps along the trend from the last fault to this one, when the last window explains them. */
static int64_t steps_taken(const struct leap *s, int64_t page) {
    int64_t away = page - s->last;
    if (!s->trend || away % s->trend) return 0;
    int64_t steps = away / s->trend, reach = (s->frontier - s->last) / s->trend;
    return steps > 0 && steps <= reach ? steps : 0;
}

static uint32_t window(struct leap *s, int follows) {
    uint32_t width = s->hits ? 2 : follows ? 1 : 0;
    while (s->hits && width < s->hits + 1 && width < s->max) width *= 2;
    if (width > s->max) width = s->max;
    if (width < s->width / 2) width = s->width / 2;
    s->hits = 0;
    return s->width = width;
}

static void fault(edm_pager *p, uint32_t page, int write) {
    struct leap *s = p->pf_mem;
    int64_t before = s->last, steps = before < 0 ? 0 : steps_taken(s, page);
    (void)write;
    if (steps && p->observe != EDM_OBSERVE_EXACT) s->hits += (uint32_t)steps - !edm_prefetch_was_hit(p);
    if (before >= 0 && page != before) remember(s, steps ? s->trend : page - before);
    s->last = page;
    int64_t trend = find_trend(s);
    int follows = trend && (steps || page - before == trend);
    uint32_t width = window(s, follows);
    if (trend && (trend != s->trend || !steps)) s->frontier = page + trend;
    if (trend) s->trend = trend;
    else if (!steps) s->frontier = page + s->trend;
    if (!width || !s->trend) return;
    if (s->frontier == page) s->frontier += s->trend;
    if ((s->frontier - page) / s->trend > (int64_t)s->max + 1) return; /* asked already */
    s->frontier += s->trend * edm_prefetch_run(p, s->frontier, s->trend, width);
}

static void used(edm_pager *p, uint32_t page) {
    struct leap *s = p->pf_mem;
    (void)page;
    s->hits += p->observe == EDM_OBSERVE_EXACT;
}

static void unused(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static const edm_prefetcher edm_leap = {
    .name = "leap",
    .summary = "the majority trend of the last faults, in a window that follows the hits",
    .paper = "Al Maruf, Chowdhury, ATC 2020",
    .params = "history=32 (2..128): faults kept; split=4: the first look is at history/split of them; max=8 (1..128): widest window",
    .size = size,
    .init = init,
    .fault = fault,
    .used = used,
    .unused = unused,
};

const edm_prefetcher *edm_prefetcher_leap(void) { return &edm_leap; }
