/* FIFO: evicts the page that came in first; uses do nothing.
 *
 * Belady, "A study of replacement algorithms for a virtual-storage computer", IBM
 * Systems Journal 5(2), 1966. Needs to see faults only.
 */
#include "lists.h"

static const edm_evictor edm_fifo;

static size_t size(const edm_config *c) { return ((size_t)c->pages + 1) * sizeof(edm_link); }

static int init(edm_pager *p, void *mem, void *ctx) {
    (void)ctx;
    edm_list_init(mem, p->pages);
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) { edm_list_push_head(p->ev_mem, p->pages, page); }

static int64_t choose(edm_pager *p) {
    edm_link *l = p->ev_mem;
    uint32_t victim = l[p->pages].prev;
    if (victim == p->pages) return EDM_NONE;
    edm_list_remove(l, victim);
    uint32_t next = l[p->pages].prev; /* the victims after this one are known: bring in what their leaving needs */
    if (EDM_LIKELY(next != p->pages)) {
        __builtin_prefetch(&p->word[next], 1);
        __builtin_prefetch(&l[l[next].prev], 1);
    }
    return victim;
}

static void remove_page(edm_pager *p, uint32_t page) { edm_list_remove(p->ev_mem, page); }

static int check(const edm_pager *p) {
    return edm_check_ring(p, p->ev_mem, p->pages, (uint32_t)edm_known_pages(p));
}

static void warm(edm_pager *p, uint32_t page) {
    edm_link *l = p->ev_mem;
    __builtin_prefetch(&l[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_fifo, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_fifo, r); }

static const edm_evictor edm_fifo = {
    .name = "fifo",
    .summary = "first in, first out",
    .paper = "Belady 1966",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_FAULTS,
    .bytes_per_page = sizeof(edm_link),
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
    .warm = warm,
    .idle_note = "sees faults only, whatever is offered",
};

const edm_evictor *edm_evictor_fifo(void) { return &edm_fifo; }
