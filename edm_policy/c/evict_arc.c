/* ARC: balances recency against frequency by which of its ghosts are asked for.
 *
 * Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003.
 * Four LRU lists; T are resident, B are ids of pages that left T. C = the limit.
 *
 *    seen once:    miss --> [ T1 ] --> ( B1 )      |T1| + |B1| <= C
 *                            | use       | miss: p grows, T1 may have more
 *                            v           v
 *    seen again:           [ T2 ] --> ( B2 )       all four <= 2C
 *                              ^---------' miss: p shrinks
 *
 * p, a real, is the size T1 aims at. The paper drops a ghost before it replaces; here
 * the bounds are kept when the page comes in, which is the same and holds for batches of
 * evictions too. A prefetched page is a new one, and does not move p.
 *
 * Under `idle` the oldest of T1 or T2 is marked and goes round its list once more; a
 * rescue is a use.
 */
#include "lists.h"

static const edm_evictor edm_arc;

enum { T1 = 1, T2 = 2, B1 = 3, B2 = 4, BOUND_FOR_T2 = 1 << EDM_TAG_FREE };

struct arc {
    double aim;         /* the paper's p, 0 .. C */
    uint32_t most;      /* C when the bounds were last enforced */
    uint32_t from_b2;   /* the miss that room is made for hit B2 */
    edm_lists l;
};

static size_t size(const edm_config *c) { return sizeof(struct arc) + edm_lists_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct arc *s = mem;
    (void)ctx;
    edm_lists_init(p, &s->l);
    return 0;
}

static double ratio(uint32_t a, uint32_t b) {
    double q = (double)a / b;
    return q > 1 ? q : 1;
}

static void miss(edm_pager *p, uint32_t page) {
    struct arc *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    unsigned where = edm_where(p, page);
    if (where == B1) {
        s->aim += ratio(n[B2], n[B1]);
        if (s->aim > p->limit) s->aim = p->limit;
    } else if (where == B2) {
        s->aim -= ratio(n[B1], n[B2]);
        if (s->aim < 0) s->aim = 0;
    }
    s->from_b2 = where == B2;
    edm_exit(p, &s->l, page);
    if (where) edm_set_tag(p, page, BOUND_FOR_T2);
}

/* Ghosts leave until the bounds hold; after a resize() a victim's ghost may be over them. */
static void bound(edm_pager *p, struct arc *s) {
    const uint32_t *n = s->l.count;
    s->most = p->limit;
    while (n[B1] && n[T1] + n[B1] > s->most) edm_exit(p, &s->l, edm_oldest(p, &s->l, B1));
    while (n[B2] && (uint64_t)n[T1] + n[T2] + n[B1] + n[B2] > 2 * (uint64_t)s->most)
        edm_exit(p, &s->l, edm_oldest(p, &s->l, B2));
}

/* The page becomes the newest of its list; then the ghosts are brought within their bounds. */
static void enter(edm_pager *p, struct arc *s, uint32_t page, unsigned list) {
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, list);
    s->from_b2 = 0;
    bound(p, s);
}

static void insert(edm_pager *p, uint32_t page) {
    enter(p, p->ev_mem, page, edm_tag(p, page) & BOUND_FOR_T2 ? T2 : T1);
}

static void keep(edm_pager *p, uint32_t page) { enter(p, p->ev_mem, page, T2); }

static void touch(edm_pager *p, uint32_t page) {
    struct arc *s = p->ev_mem;
    if (EDM_LIKELY(edm_where(p, page) == T2)) {
        edm_renew(p, &s->l, page);
    } else {
        edm_exit(p, &s->l, page);
        edm_enter(p, &s->l, page, T2);
    }
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct arc *s = p->ev_mem;
    edm_exit(p, &s->l, page);
}

static int64_t choose(edm_pager *p) {
    struct arc *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    while (n[T1] || n[T2]) {
        int over = n[T1] > s->aim || (s->from_b2 && n[T1] == s->aim);
        unsigned list = (n[T1] && over) || !n[T2] ? T1 : T2;
        uint32_t page = edm_oldest(p, &s->l, list);
        int used = p->observe == EDM_OBSERVE_IDLE ? edm_used(p, page) : EDM_UNUSED;
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            edm_exit(p, &s->l, page);
            edm_enter(p, &s->l, page, list == T1 ? B1 : B2);
            bound(p, s);
            return page;
        }
        edm_renew(p, &s->l, page);
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct arc *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    if (n[B1] && n[T1] + n[B1] > s->most) return -1;
    if (n[B2] && (uint64_t)n[T1] + n[T2] + n[B1] + n[B2] > 2 * (uint64_t)s->most) return -1;
    return edm_check_lists(p, &s->l, 1 << T1 | 1 << T2);
}

static void warm(edm_pager *p, uint32_t page) {
    struct arc *s = p->ev_mem;
    __builtin_prefetch(&s->l.link[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_arc, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_arc, r); }

static const edm_evictor edm_arc = {
    .name = "arc",
    .summary = "adaptive: recency against frequency, balanced by ghosts",
    .paper = "Megiddo and Modha, FAST 2003",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(edm_link),
    .size = size,
    .init = init,
    .miss = miss,
    .insert = insert,
    .touch = touch,
    .choose = choose,
    .keep = keep,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .warm = warm,
    .check = check,
    .idle_note = "the oldest of T1 or T2 is marked and goes round once more, a rescue is a use; "
                 "under faults both are FIFOs, and only ghosts promote",
};

const edm_evictor *edm_evictor_arc(void) { return &edm_arc; }
