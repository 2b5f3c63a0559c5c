/* SIEVE: a FIFO queue, a visited bit, and a hand that leaves survivors where they are.
 *
 * Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is simpler than LRU", NSDI 2024. A use sets
 * the bit and moves nothing. The hand goes from the oldest towards the newest, clearing
 * bits, and takes the first page not visited; it then stands at the neighbour towards the
 * newest, or nowhere, and will begin again at the oldest.
 *
 *    newest [x][y][C][d][E] oldest      capitals: visited
 *                     ^hand: takes d, then stands at C
 *    new pages enter at the newest end, not at the hand (that is the difference to CLOCK)
 *
 * Under `idle` a mapped page counts as visited: the hand marks it and goes on.
 */
#include "lists.h"

static const edm_evictor edm_sieve;

struct sieve {
    uint32_t hand; /* the next page to look at; the sentinel: begin at the oldest */
    uint32_t count;
    edm_link link[];
};

static size_t size(const edm_config *c) {
    return sizeof(struct sieve) + ((size_t)c->pages + 1) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct sieve *s = mem;
    (void)ctx;
    edm_list_init(s->link, p->pages);
    s->hand = p->pages;
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct sieve *s = p->ev_mem;
    edm_list_push_head(s->link, p->pages, page);
    s->count++;
}

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void keep(edm_pager *p, uint32_t page) {
    insert(p, page);
    touch(p, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct sieve *s = p->ev_mem;
    if (s->hand == page) s->hand = s->link[page].prev;
    edm_list_remove(s->link, page);
    s->count--;
    p->word[page] &= (uint16_t)~EDM_REF;
}

static int64_t choose(edm_pager *p) {
    struct sieve *s = p->ev_mem;
    if (!s->count) return EDM_NONE;
    for (;;) {
        if (s->hand == p->pages) s->hand = s->link[s->hand].prev;
        uint32_t page = s->hand;
        int used = edm_used(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            remove_page(p, page);
            return page;
        }
        s->hand = s->link[page].prev;
    }
}

static int check(const edm_pager *p) {
    const struct sieve *s = p->ev_mem;
    return edm_check_ring(p, s->link, p->pages, s->count);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_sieve, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_sieve, r); }

static const edm_evictor edm_sieve = {
    .name = "sieve",
    .summary = "FIFO with a visited bit and a hand that sifts in place",
    .paper = "Zhang et al., NSDI 2024",
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
    .idle_note = "the hand marks mapped pages and takes idle ones, so new pages are looked at twice; "
                 "under faults it is FIFO",
};

const edm_evictor *edm_evictor_sieve(void) { return &edm_sieve; }
