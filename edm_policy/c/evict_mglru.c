/* MGLRU-like: generations, as Linux's multi-generational LRU keeps them, simplified.
 *
 * Linux mm/vmscan.c (lru_gen: try_to_inc_max_seq, should_run_aging of 6.1, sort_folio,
 * evict_folios), Documentation/mm/multigen_lru.rst; MIN_NR_GENS = 2, MAX_NR_GENS = 4.
 *
 *      oldest                                  youngest
 *     [ gen 5 ] --- [ gen 6 ] --- [ gen 7 ] --- [ gen 8 ]    each a queue
 *      | evict: the oldest page                     ^  new pages
 *      +-- used since? second look ---------------->|
 *     AGE: used pages of the older ones ----------->|, then gen 9 is opened
 *
 * Aging is due with 2 generations; with 3 when the youngest holds over half of all pages
 * or the oldest less than a quarter; never with 4. An empty oldest generation is closed.
 * Departures: one page at a time; no tiers and no PID controller; no file pages; every
 * aging looks at all pages (no Bloom filters).
 *
 * Aging costs O(resident), and comes at most once in the life of a generation. Under `idle` it
 * sees as used what was rescued since it was last looked at; marking idle is left to the
 * second look, so that one eviction costs few marks. Under `faults` nothing is ever seen used.
 */
#include "core.h"
#include "list.h"

static const edm_evictor edm_mglru;

enum { MIN_GENS = 2, MAX_GENS = 4, GEN_MASK = MAX_GENS - 1 };

struct mglru {
    uint32_t min, max;        /* generation numbers, both alive; their lists are these modulo 4 */
    uint32_t count;           /* pages in all of them */
    uint32_t in[MAX_GENS];    /* pages in each */
    edm_link link[];          /* the pages', then the lists' sentinels; head = newest */
};

static size_t size(const edm_config *c) {
    return sizeof(struct mglru) + ((size_t)c->pages + MAX_GENS) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct mglru *s = mem;
    (void)ctx;
    for (uint32_t g = 0; g < MAX_GENS; g++) edm_list_init(s->link, p->pages + g);
    s->max = MAX_GENS - 1;
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void enter_youngest(edm_pager *p, struct mglru *s, uint32_t page) {
    uint32_t g = s->max & GEN_MASK;
    p->word[page] = (uint16_t)((p->word[page] & ~(EDM_REF | GEN_MASK << EDM_OWN_SHIFT)) | g << EDM_OWN_SHIFT);
    edm_list_push_head(s->link, p->pages + g, page);
    s->in[g]++;
}

static void leave(edm_pager *p, struct mglru *s, uint32_t page) {
    edm_list_remove(s->link, page);
    s->in[p->word[page] >> EDM_OWN_SHIFT & GEN_MASK]--;
}

static void insert(edm_pager *p, uint32_t page) {
    struct mglru *s = p->ev_mem;
    enter_youngest(p, s, page);
    s->count++;
}

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void remove_page(edm_pager *p, uint32_t page) {
    struct mglru *s = p->ev_mem;
    leave(p, s, page);
    s->count--;
    p->word[page] &= (uint16_t)~EDM_REF;
}

static int aging_is_due(const struct mglru *s) {
    uint32_t gens = s->max - s->min + 1;
    if (gens != 3) return gens == MIN_GENS;
    return 2 * (uint64_t)s->in[s->max & GEN_MASK] > s->count || 4 * (uint64_t)s->in[s->min & GEN_MASK] < s->count;
}

static void age(edm_pager *p, struct mglru *s) {
    uint32_t young = p->pages + (s->max & GEN_MASK);
    for (uint32_t page = s->link[young].next; page != young; page = s->link[page].next)
        p->word[page] &= (uint16_t)~EDM_REF;
    for (uint32_t g = s->min; g != s->max; g++) {
        uint32_t list = p->pages + (g & GEN_MASK);
        for (uint32_t page = s->link[list].prev, newer; page != list; page = newer) {
            newer = s->link[page].prev;
            if (!(p->word[page] & EDM_REF)) continue;
            leave(p, s, page);
            enter_youngest(p, s, page);
        }
    }
    s->max++;
}

static int64_t choose(edm_pager *p) {
    struct mglru *s = p->ev_mem;
    while (s->count) {
        while (!s->in[s->min & GEN_MASK] && s->max - s->min + 1 > MIN_GENS) s->min++;
        if (aging_is_due(s)) {
            age(p, s);
            continue;
        }
        uint32_t page = s->link[p->pages + (s->min & GEN_MASK)].prev;
        int used = edm_used(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            remove_page(p, page);
            return page;
        }
        leave(p, s, page);
        enter_youngest(p, s, page);
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct mglru *s = p->ev_mem;
    uint32_t total = 0;
    if (s->max - s->min + 1 < MIN_GENS || s->max - s->min + 1 > MAX_GENS) return -1;
    for (uint32_t g = 0; g < MAX_GENS; g++) {
        uint32_t list = p->pages + g, n = 0;
        int alive = ((g - s->min) & GEN_MASK) <= s->max - s->min;
        for (uint32_t page = s->link[list].next; page != list; page = s->link[page].next)
            if (++n > s->in[g] || (p->word[page] >> EDM_OWN_SHIFT & GEN_MASK) != (int)g || !edm_known(p, page)) return -1;
        if (n != s->in[g] || (n && !alive)) return -1;
        total += n;
    }
    return total == s->count && total == edm_known_pages(p) ? 0 : -1;
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_mglru, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_mglru, r); }

static const edm_evictor edm_mglru = {
    .name = "mglru",
    .summary = "generations, like Linux's multi-generational LRU",
    .paper = "Linux mm/vmscan.c, 6.1",
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
    .keep = insert,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "aging sees rescued pages as used, the second look marks idle; under faults generations are a FIFO",
};

const edm_evictor *edm_evictor_mglru(void) { return &edm_mglru; }
