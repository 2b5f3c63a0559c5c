/* Random: evicts a page drawn uniformly from the resident ones.
 *
 * The resident pages stand in an array; the index is drawn with the pager's splitmix64
 * (high half, scaled), and the last element fills the hole. Needs to see faults only.
 */
#include "lists.h"

static const edm_evictor edm_random_evictor;

struct random {
    uint32_t count;
    uint32_t *at;    /* at[0 .. count): resident pages */
    uint32_t *where; /* where[page]: its index in `at` */
};

static size_t size(const edm_config *c) {
    return sizeof(struct random) + 2 * (size_t)c->pages * sizeof(uint32_t);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct random *s = mem;
    (void)ctx;
    s->at = (uint32_t *)(s + 1);
    s->where = s->at + p->pages;
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct random *s = p->ev_mem;
    s->where[page] = s->count;
    s->at[s->count++] = page;
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct random *s = p->ev_mem;
    uint32_t i = s->where[page], last = s->at[--s->count];
    s->at[i] = last;
    s->where[last] = i;
}

static int64_t choose(edm_pager *p) {
    struct random *s = p->ev_mem;
    if (!s->count) return EDM_NONE;
    uint32_t page = s->at[edm_random_below(p, s->count)];
    remove_page(p, page);
    return page;
}

static int check(const edm_pager *p) {
    const struct random *s = p->ev_mem;
    for (uint32_t i = 0; i < s->count; i++)
        if (!edm_known(p, s->at[i]) || s->where[s->at[i]] != i) return -1;
    return s->count == edm_known_pages(p) ? 0 : -1;
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) {
    return edm_consume_with(p, &edm_random_evictor, r, i);
}
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_random_evictor, r); }

static const edm_evictor edm_random_evictor = {
    .name = "random",
    .summary = "a page drawn at random",
    .paper = "Belady 1966",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_FAULTS,
    .bytes_per_page = 2 * sizeof(uint32_t),
    .size = size,
    .init = init,
    .miss = nothing,
    .insert = insert,
    .touch = nothing,
    .choose = choose,
    .keep = insert,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "sees faults only, whatever is offered",
};

const edm_evictor *edm_evictor_random(void) { return &edm_random_evictor; }
