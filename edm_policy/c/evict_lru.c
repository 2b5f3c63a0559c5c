/* LRU: evicts the page whose last use is longest ago.
 *
 * Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage hierarchies",
 * IBM Systems Journal 9(2), 1970. Exact observation moves a page to the head at each
 * use. Under `idle` it does what can be done without seeing uses: the tail is marked
 * idle and goes round once more; a page found untouched since its mark is evicted, and
 * a rescue is a use.
 */
#include "lists.h"

static const edm_evictor edm_lru;

static size_t size(const edm_config *c) { return ((size_t)c->pages + 1) * sizeof(edm_link); }

static int init(edm_pager *p, void *mem, void *ctx) {
    (void)ctx;
    edm_list_init(mem, p->pages);
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) { edm_list_push_head(p->ev_mem, p->pages, page); }

static void touch(edm_pager *p, uint32_t page) {
    edm_link *l = p->ev_mem;
    if (l[p->pages].next == page) return;
    edm_list_remove(l, page);
    edm_list_push_head(l, p->pages, page);
}

static int64_t choose(edm_pager *p) {
    edm_link *l = p->ev_mem;
    for (;;) {
        uint32_t victim = l[p->pages].prev;
        if (victim == p->pages) return EDM_NONE;
        if (p->observe == EDM_OBSERVE_IDLE) {
            int used = edm_used(p, victim);
            if (used == EDM_BUSY) return EDM_AGAIN;
            if (used == EDM_USED) {
                touch(p, victim);
                continue;
            }
        }
        edm_list_remove(l, victim);
        return victim;
    }
}

static void remove_page(edm_pager *p, uint32_t page) { edm_list_remove(p->ev_mem, page); }

static int check(const edm_pager *p) {
    return edm_check_ring(p, p->ev_mem, p->pages, (uint32_t)edm_known_pages(p));
}

static void warm(edm_pager *p, uint32_t page) { __builtin_prefetch((edm_link *)p->ev_mem + page, 1); }

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_lru, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_lru, r); }

static const edm_evictor edm_lru = {
    .name = "lru",
    .summary = "least recently used",
    .paper = "Mattson et al. 1970",
    .params = "",
    .needs = EDM_OBSERVE_IDLE,
    .best = EDM_OBSERVE_EXACT,
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
    .warm = warm,
    .idle_note = "marks the tail idle and gives it one more round; a rescue is a use",
};

const edm_evictor *edm_evictor_lru(void) { return &edm_lru; }
