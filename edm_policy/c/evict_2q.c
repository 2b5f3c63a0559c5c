/* 2Q: a FIFO for pages seen once, an LRU for those seen again after they left it.
 *
 * Johnson and Shasha, "2Q: a low overhead high performance buffer management replacement
 * algorithm", VLDB 1994: the full version, with the paper's sizes. C = the limit.
 *
 *    miss ---> [ A1in: FIFO, C/4 ] ---> out of memory, id to ( A1out: FIFO, C/2 ids )
 *                                                                  | miss on an id
 *    out of memory, no id <--- [ Am: LRU, the rest ] <-------------'
 *
 * Uses in A1in do nothing: they are one burst. Room is made in Am while A1in is within
 * its share, else in A1in. A chosen page that stays after all goes to Am, like one
 * that came back. A prefetched page is a new one, whatever was known of it.
 *
 * Under `idle` Am's oldest is marked and goes round once more; A1in never needed to see.
 */
#include "lists.h"

static const edm_evictor edm_2q;

enum { IN = 1, OUT = 2, AM = 3, BOUND_FOR_AM = 1 << EDM_TAG_FREE };

struct two_q {
    uint32_t out_most; /* the bound of A1out when it was last enforced */
    edm_lists l;
};

static size_t size(const edm_config *c) { return sizeof(struct two_q) + edm_lists_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct two_q *s = mem;
    (void)ctx;
    edm_lists_init(p, &s->l);
    return 0;
}

static void miss(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    int known = edm_where(p, page) == OUT;
    edm_exit(p, &s->l, page);
    if (known) edm_set_tag(p, page, BOUND_FOR_AM);
}

static void insert(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    unsigned to = edm_tag(p, page) & BOUND_FOR_AM ? AM : IN;
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, to);
}

static void keep(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, AM);
}

static void touch(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    if (edm_where(p, page) == AM) edm_renew(p, &s->l, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    edm_exit(p, &s->l, page);
}

static void remember(edm_pager *p, struct two_q *s, uint32_t page) {
    s->out_most = p->limit / 2;
    while (s->l.count[OUT] && s->l.count[OUT] >= s->out_most) edm_exit(p, &s->l, edm_oldest(p, &s->l, OUT));
    if (s->out_most) edm_enter(p, &s->l, page, OUT);
}

static int64_t choose(edm_pager *p) {
    struct two_q *s = p->ev_mem;
    while (s->l.count[AM] && s->l.count[IN] <= p->limit / 4) {
        uint32_t page = edm_oldest(p, &s->l, AM);
        int used = p->observe == EDM_OBSERVE_IDLE ? edm_used(p, page) : EDM_UNUSED;
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            edm_exit(p, &s->l, page);
            return page;
        }
        edm_renew(p, &s->l, page);
    }
    if (!s->l.count[IN]) return EDM_NONE;
    uint32_t page = edm_oldest(p, &s->l, IN);
    edm_exit(p, &s->l, page);
    remember(p, s, page);
    return page;
}

static int check(const edm_pager *p) {
    const struct two_q *s = p->ev_mem;
    if (s->l.count[OUT] > s->out_most) return -1;
    return edm_check_lists(p, &s->l, 1 << IN | 1 << AM);
}

static void warm(edm_pager *p, uint32_t page) {
    struct two_q *s = p->ev_mem;
    __builtin_prefetch(&s->l.link[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_2q, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_2q, r); }

static const edm_evictor edm_2q = {
    .name = "2q",
    .summary = "a FIFO for pages seen once, an LRU for pages that came back",
    .paper = "Johnson and Shasha, VLDB 1994",
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
    .idle_note = "Am's oldest is marked and goes round once more; under faults Am is a FIFO",
};

const edm_evictor *edm_evictor_2q(void) { return &edm_2q; }
