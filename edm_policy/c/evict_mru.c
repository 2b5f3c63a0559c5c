/* MRU: evicts the page whose last use is most recent.
 *
 * Chou and DeWitt, "An evaluation of buffer management strategies for relational
 * database systems", VLDB 1985. The best there is for a loop larger than memory.
 *
 * Needs exact observation, and so the simulator. Where hits are not seen, the newest page
 * known is the one that just came in: an instruction that needs two pages would lose
 * the one for the other for ever.
 */
#include "lists.h"

static const edm_evictor edm_mru;

struct mru {
    uint32_t count;
    edm_link link[]; /* newest use first */
};

static size_t size(const edm_config *c) {
    return sizeof(struct mru) + ((size_t)c->pages + 1) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct mru *s = mem;
    (void)ctx;
    edm_list_init(s->link, p->pages);
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct mru *s = p->ev_mem;
    edm_list_push_head(s->link, p->pages, page);
    s->count++;
}

/* A chosen page that stays goes to the far end, or it would be chosen again at once. */
static void keep(edm_pager *p, uint32_t page) {
    struct mru *s = p->ev_mem;
    edm_list_push_tail(s->link, p->pages, page);
    s->count++;
}

static void touch(edm_pager *p, uint32_t page) {
    struct mru *s = p->ev_mem;
    if (s->link[p->pages].next == page) return;
    edm_list_remove(s->link, page);
    edm_list_push_head(s->link, p->pages, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct mru *s = p->ev_mem;
    edm_list_remove(s->link, page);
    s->count--;
}

static int64_t choose(edm_pager *p) {
    struct mru *s = p->ev_mem;
    if (!s->count) return EDM_NONE;
    uint32_t victim = s->link[p->pages].next;
    remove_page(p, victim);
    return victim;
}

static int check(const edm_pager *p) {
    const struct mru *s = p->ev_mem;
    return edm_check_ring(p, s->link, p->pages, s->count);
}

static void warm(edm_pager *p, uint32_t page) {
    struct mru *s = p->ev_mem;
    __builtin_prefetch(&s->link[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_mru, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_mru, r); }

static const edm_evictor edm_mru = {
    .name = "mru",
    .summary = "most recently used: for loops larger than memory",
    .paper = "Chou and DeWitt, VLDB 1985",
    .params = "",
    .needs = EDM_OBSERVE_EXACT,
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
    .warm = warm,
    .check = check,
    .idle_note = "",
};

const edm_evictor *edm_evictor_mru(void) { return &edm_mru; }
