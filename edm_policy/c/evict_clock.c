/* CLOCK: FIFO with a second chance.
 *
 * Corbato, "A paging experiment with the Multics system", 1968. A page enters with its
 * bit clear, a use sets it. The hand clears set bits and goes on, and takes the first
 * page whose bit is clear; the new page takes its place, just behind the hand.
 *
 *        hand
 *         v
 *    [a][B][C][d] ...      capitals: bit set; d is taken, B and C lose their bits
 *     ^ new pages enter here, and are met last
 *
 * Under `idle` a mapped page counts as used: the hand marks it and goes on, which gives
 * new pages a round that the definition does not.
 */
#include "lists.h"

static const edm_evictor edm_clock;

struct clock {
    uint32_t hand;  /* the next page to look at; the sentinel when it is at the end */
    uint32_t count;
    edm_link link[];
};

static size_t size(const edm_config *c) {
    return sizeof(struct clock) + ((size_t)c->pages + 1) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct clock *s = mem;
    (void)ctx;
    edm_list_init(s->link, p->pages);
    s->hand = p->pages;
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct clock *s = p->ev_mem;
    edm_list_between(s->link, page, s->link[s->hand].prev, s->hand);
    s->count++;
}

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void keep(edm_pager *p, uint32_t page) {
    insert(p, page);
    touch(p, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct clock *s = p->ev_mem;
    if (s->hand == page) s->hand = s->link[page].next;
    edm_list_remove(s->link, page);
    s->count--;
    p->word[page] &= (uint16_t)~EDM_REF;
}

static int64_t choose(edm_pager *p) {
    struct clock *s = p->ev_mem;
    if (!s->count) return EDM_NONE;
    for (;;) {
        if (s->hand == p->pages) s->hand = s->link[s->hand].next;
        uint32_t page = s->hand;
        int used = edm_used(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            remove_page(p, page);
            return page;
        }
        s->hand = s->link[page].next;
    }
}

static int check(const edm_pager *p) {
    const struct clock *s = p->ev_mem;
    return edm_check_ring(p, s->link, p->pages, s->count);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_clock, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_clock, r); }

static const edm_evictor edm_clock = {
    .name = "clock",
    .summary = "FIFO with a second chance for pages used since the hand passed",
    .paper = "Corbato 1968",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(edm_link),
    .size = size,
    .init = init,
    .miss = nothing,
    .insert = insert,
    .touch = touch,
    .choose = choose,
    .keep = keep,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "the hand marks mapped pages and takes idle ones, so new pages have one round too; "
                 "under faults it is FIFO",
};

const edm_evictor *edm_evictor_clock(void) { return &edm_clock; }
