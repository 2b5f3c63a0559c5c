/* CAR: ARC with clocks instead of LRU lists, so that a hit only sets a bit.
 *
 * Bansal and Modha, "CAR: Clock with Adaptive Replacement", FAST 2004, figure 2. T are
 * clocks of resident pages (queues, the hand at the oldest), B are ids. C = the limit.
 *
 *    miss --> [ T1 ] --bit 0--> ( B1 )      |T1| + |B1| <= C
 *               | bit 1           | miss: p grows
 *               v                 v
 *             [ T2 ] --bit 0--> ( B2 )      all four <= 2C
 *              ^  `bit 1: round  | miss: p shrinks
 *              `-----------------'
 *
 * p, a real, is the size T1 aims at; it is moved after room was made, when the page comes
 * in, and so are the bounds of the ghosts kept. A prefetched page is a new one, and does
 * not move p.
 *
 * Under `idle` a rescue sets the bit. A mapped page without it is marked and goes round
 * its own clock once more: that it is mapped tells no more than that it came in.
 */
#include "lists.h"

static const edm_evictor edm_car;

enum { T1 = 1, T2 = 2, B1 = 3, B2 = 4, BOUND_FOR_T2 = 1 << EDM_TAG_FREE };

struct car {
    double aim;    /* the paper's p, 0 .. C */
    uint32_t most; /* C when the bounds were last enforced */
    edm_lists l;
};

static size_t size(const edm_config *c) { return sizeof(struct car) + edm_lists_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct car *s = mem;
    (void)ctx;
    edm_lists_init(p, &s->l);
    return 0;
}

/* The ghost stays in its list until the page comes in: p is moved by the sizes of then. */
static void miss(edm_pager *p, uint32_t page) {
    unsigned where = edm_where(p, page);
    edm_set_tag(p, page, where ? where | BOUND_FOR_T2 : 0);
}

static double ratio(uint32_t a, uint32_t b) {
    double q = (double)a / b;
    return q > 1 ? q : 1;
}

/* Ghosts leave until the bounds hold; after a resize() a victim's ghost may be over them. */
static void bound(edm_pager *p, struct car *s) {
    const uint32_t *n = s->l.count;
    s->most = p->limit;
    while (n[B1] && n[T1] + n[B1] > s->most) edm_exit(p, &s->l, edm_oldest(p, &s->l, B1));
    while (n[B2] && (uint64_t)n[T1] + n[T2] + n[B1] + n[B2] > 2 * (uint64_t)s->most)
        edm_exit(p, &s->l, edm_oldest(p, &s->l, B2));
}

static void enter(edm_pager *p, struct car *s, uint32_t page, unsigned list) {
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, list);
    bound(p, s);
}

static void insert(edm_pager *p, uint32_t page) {
    struct car *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    unsigned tag = edm_tag(p, page);
    if (tag == (B1 | BOUND_FOR_T2)) {
        s->aim += ratio(n[B2], n[B1]);
        if (s->aim > p->limit) s->aim = p->limit;
    } else if (tag == (B2 | BOUND_FOR_T2)) {
        s->aim -= ratio(n[B1], n[B2]);
        if (s->aim < 0) s->aim = 0;
    }
    enter(p, s, page, tag & BOUND_FOR_T2 ? T2 : T1);
}

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void keep(edm_pager *p, uint32_t page) {
    enter(p, p->ev_mem, page, T2);
    touch(p, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct car *s = p->ev_mem;
    edm_exit(p, &s->l, page);
    p->word[page] &= (uint16_t)~EDM_REF;
}

static int64_t choose(edm_pager *p) {
    struct car *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    while (n[T1] || n[T2]) {
        unsigned list = (n[T1] && n[T1] >= s->aim) || !n[T2] ? T1 : T2;
        uint32_t page = edm_oldest(p, &s->l, list);
        int seen = p->word[page] & EDM_REF;
        int mapped = p->observe == EDM_OBSERVE_IDLE ? edm_used(p, page) : EDM_UNUSED;
        if (mapped == EDM_BUSY) return EDM_AGAIN;
        p->word[page] &= (uint16_t)~EDM_REF;
        if (!seen && mapped == EDM_USED) {
            edm_renew(p, &s->l, page);
            continue;
        }
        edm_exit(p, &s->l, page);
        if (!seen) {
            edm_enter(p, &s->l, page, list == T1 ? B1 : B2);
            bound(p, s);
            return page;
        }
        edm_enter(p, &s->l, page, T2);
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct car *s = p->ev_mem;
    const uint32_t *n = s->l.count;
    if (n[B1] && n[T1] + n[B1] > s->most) return -1;
    if (n[B2] && (uint64_t)n[T1] + n[T2] + n[B1] + n[B2] > 2 * (uint64_t)s->most) return -1;
    return edm_check_lists(p, &s->l, 1 << T1 | 1 << T2);
}

static void warm(edm_pager *p, uint32_t page) {
    struct car *s = p->ev_mem;
    __builtin_prefetch(&s->l.link[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_car, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_car, r); }

static const edm_evictor edm_car = {
    .name = "car",
    .summary = "ARC with clocks: a hit only sets a bit",
    .paper = "Bansal and Modha, FAST 2004",
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
    .idle_note = "a rescue sets the bit; a mapped page without it is marked and goes round once more; "
                 "under faults both clocks are FIFOs, and only ghosts promote",
};

const edm_evictor *edm_evictor_car(void) { return &edm_car; }
