/* LPET: the eviction routine of the original EDM (Technion and Red Hat, 2022).
 *
 * Pages stand in insertion order in a cyclic list, and a hand goes on from where it
 * stopped last time. A page not idle is marked idle, and the hand goes on; an idle one
 * is evicted. After one whole round (as many steps as the list was long when the
 * session began) it evicts whatever it meets, so that it always ends.
 *
 *        hand
 *         v
 *    [a][B][C][d] ...      capitals: used since last looked at (or never looked at)
 *     ^ new pages enter just behind the hand: they are met last
 *
 * It is CLOCK whose new page enters with its bit set, with the bound of one round a
 * session. A session lasts from LPET's wake at the high watermark to the low one.
 */
#include "lists.h"

static const edm_evictor edm_lpet;

struct lpet { /* its links follow it in memory */
    uint32_t hand;     /* the next page to look at; the sentinel when it is at the end */
    uint32_t count;    /* pages in the list */
    uint32_t budget;   /* looks left in this session's round */
    uint64_t session;  /* the session that budget is for */
    edm_link link[];
};

static size_t size(const edm_config *c) {
    return sizeof(struct lpet) + ((size_t)c->pages + 1) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct lpet *s = mem;
    (void)ctx;
    edm_list_init(s->link, p->pages);
    s->hand = p->pages;
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct lpet *s = p->ev_mem;
    edm_list_between(s->link, page, s->link[s->hand].prev, s->hand);
    s->count++;
    p->word[page] |= EDM_REF;
}

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void take(edm_pager *p, struct lpet *s, uint32_t page) {
    if (s->hand == page) s->hand = s->link[page].next;
    edm_list_remove(s->link, page);
    s->count--;
    p->word[page] &= (uint16_t)~EDM_REF;
}

static void remove_page(edm_pager *p, uint32_t page) { take(p, p->ev_mem, page); }

static int64_t choose(edm_pager *p) {
    struct lpet *s = p->ev_mem;
    if (s->session != p->session) {
        s->session = p->session;
        s->budget = s->count;
    }
    uint32_t skipped = 0;
    while (s->count) {
        if (s->hand == p->pages) s->hand = s->link[s->hand].next;
        uint32_t page = s->hand;
        if (s->budget) {
            int used = edm_used(p, page);
            if (used == EDM_BUSY) return EDM_AGAIN;
            s->budget--;
            if (used == EDM_USED) {
                s->hand = s->link[page].next;
                continue;
            }
        } else if (EDM_UNLIKELY(!edm_takeable(p, page))) {
            if (p->out->n) return EDM_AGAIN;
            if (skipped++ == s->count) return EDM_NONE;
            s->hand = s->link[page].next;
            continue;
        }
        take(p, s, page);
        return page;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct lpet *s = p->ev_mem;
    return edm_check_ring(p, s->link, p->pages, s->count);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_lpet, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_lpet, r); }

static const edm_evictor edm_lpet = {
    .name = "lpet",
    .summary = "the original EDM's: idle pages in cyclic order, one round of grace",
    .paper = "EDM, Technion and Red Hat 2022",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_IDLE,
    .bytes_per_page = sizeof(edm_link),
    .size = size,
    .init = init,
    .miss = nothing,
    .insert = insert,
    .touch = touch,
    .choose = choose,
    .keep = insert,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "as defined; under faults nothing is ever seen used, which makes it FIFO",
};

const edm_evictor *edm_evictor_lpet(void) { return &edm_lpet; }
