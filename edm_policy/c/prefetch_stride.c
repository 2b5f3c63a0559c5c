/* stride: several streams at once, each with a stride of its own.
 *
 * Chen, Baer, "Effective hardware-based data prefetching for high-performance processors", IEEE
 * ToC 44(5), 1995: the reference prediction table and its confidence. Pages carry no program
 * counter, so a stream is found by place, as in Palacharla, Kessler, "Evaluating stream buffers as
 * a secondary cache replacement", ISCA 1994: the fault belongs to the stream whose next pages it
 * meets, else to the nearest one within `reach`, else it displaces the stream idle longest.
 *
 *               same delta              same delta
 *     new ------------------> seen once ------------> sure: window of 2, doubling up to `depth`
 *      ^  another delta: it is           \_________________|
 *      |_ the stride to prove now            another delta: one confidence less
 *
 *     last      (used unseen)         frontier
 *      x . . . x . . . x . . . M . . . x . . . x . . .  -- asked for next, when M is touched
 */
#include "prefetch.h"

enum { SURE = 2, MOST_SURE = 3 };

struct stream {
    int64_t last;     /* its last fault */
    int64_t frontier; /* the first page of it that was not asked for */
    int64_t stride;   /* pages; 0: unknown */
    uint32_t sure;    /* how often the stride was met again */
    uint32_t width;   /* of the last window */
    uint64_t turn;    /* of its last fault; 0: free */
};

struct stride {
    uint32_t streams, depth, reach;
    uint64_t turn;
    struct stream at[64];
};

static size_t size(const edm_config *c) { return (void)c, sizeof(struct stride); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct stride *s = mem;
    (void)ctx;
    return edm_prefetch_count(p, "streams", 8, 1, 64, &s->streams) || edm_prefetch_count(p, "depth", 16, 1, 128, &s->depth) ||
           edm_prefetch_count(p, "reach", 256, 1, 1u << 20, &s->reach) ? -1 : 0;
}

/* How many strides ahead of the stream's last fault the page is; 0: not on its way. */
static int64_t steps_to(const struct stream *t, int64_t page) {
    if (!t->turn || t->sure < SURE) return 0;
    int64_t away = page - t->last, reach = t->frontier - t->last;
    if (away % t->stride) return 0;
    int64_t steps = away / t->stride;
    return steps > 0 && steps <= reach / t->stride ? steps : 0;
}

static struct stream *find(struct stride *s, int64_t page, int *on_its_way) {
    struct stream *nearest = NULL, *oldest = &s->at[0];
    int64_t least = (int64_t)s->reach + 1;
    for (uint32_t i = 0; i < s->streams; i++) {
        struct stream *t = &s->at[i];
        if (steps_to(t, page)) return *on_its_way = 1, t;
        int64_t away = page > t->last ? page - t->last : t->last - page;
        if (t->turn && away < least) least = away, nearest = t;
        if (t->turn < oldest->turn) oldest = t;
    }
    *on_its_way = 0;
    if (nearest) return nearest;
    *oldest = (struct stream){.last = page, .frontier = page};
    return oldest;
}

static void learn(struct stream *t, int64_t page) {
    int64_t delta = page - t->last;
    if (!delta) return;
    if (delta == t->stride) {
        t->sure += t->sure < MOST_SURE;
    } else if (t->sure) {
        t->sure--;
    } else {
        t->stride = delta;
        t->sure = 1;
        t->width = 0;
    }
    t->frontier = page + t->stride;
}

static void fault(edm_pager *p, uint32_t page, int write) {
    struct stride *s = p->pf_mem;
    int on_its_way;
    struct stream *t = find(s, page, &on_its_way);
    (void)write;
    t->turn = ++s->turn;
    if (!on_its_way) learn(t, page);
    else t->sure += t->sure < MOST_SURE;
    int met = on_its_way || (t->last != page && page - t->last == t->stride);
    t->last = page;
    if (on_its_way && t->frontier == page) t->frontier += t->stride;
    int64_t ahead = t->stride ? (t->frontier - page) / t->stride : 0;
    if (t->sure < SURE || !met || ahead > (int64_t)t->width + 1) return;
    t->width = t->width ? t->width * 2 : 2;
    if (t->width > s->depth) t->width = s->depth;
    t->frontier += t->stride * edm_prefetch_run(p, t->frontier, t->stride, t->width);
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static const edm_prefetcher edm_stride = {
    .name = "stride",
    .summary = "several streams at once, each with its stride and a confidence",
    .paper = "Chen, Baer 1995; Palacharla, Kessler 1994",
    .params = "streams=8 (1..64): table; depth=16 (1..128): widest window; reach=256: largest stride, pages",
    .size = size,
    .init = init,
    .fault = fault,
    .used = nothing,
    .unused = nothing,
};

const edm_prefetcher *edm_prefetcher_stride(void) { return &edm_stride; }
