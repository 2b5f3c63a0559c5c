/* Belady: evicts the page whose next use is farthest, or never comes. The offline optimum:
 * no policy that must bring in every page it misses on has fewer misses.
 *
 * Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
 * Journal 5(2), 1966; Mattson et al. 1970. The driver gives the future (edm_set_future:
 * future[i] is the next reference after i to the same page) and says where it is; only a
 * simulator can, and observation must be exact.
 *
 *        now            a use of page x at `now` finds x's entry already in the past:
 *         v             an entry at or before now is stale, and nobody needs to remove it,
 *     ....x....y..z..   for the heap gives up only its farthest. So a use costs one push,
 *              |  +-- farthest: leaves     which rarely rises, and an eviction one pop.
 *              +----- next uses, in a 4-ary heap, the farthest on top
 *
 * Stale entries are swept out when twice as many entries as resident pages are held, so the
 * heap has at most 2 * pages + 1, whatever the length of the trace. What a page's next use is
 * stays known after it left, until that use comes: a prefetched page is placed by it.
 */
#include "core.h"

static const edm_evictor edm_belady;

enum { ARITY = 4 };

enum { /* in the page's word */
    LISTED = 1 << EDM_OWN_SHIFT, /* in the hands of this evictor */
    SWEPT = 2 << EDM_OWN_SHIFT   /* during a sweep: its entry was found */
};

struct entry {
    uint32_t next; /* when its page is used next; UINT32_MAX: never */
    uint32_t page;
};

struct belady {
    uint32_t count;     /* pages in its hands */
    uint64_t held;      /* entries in the heap, stale ones too */
    uint32_t *next_use; /* per page; 0: not known (no next use is at 0), taken as very soon */
    struct entry *heap; /* room for 2 * pages + 1 */
};

static size_t size(const edm_config *c) {
    return sizeof(struct belady) + ((size_t)c->pages * 2 + 1) * sizeof(struct entry) + (size_t)c->pages * sizeof(uint32_t);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct belady *s = mem;
    (void)ctx;
    s->heap = (struct entry *)(s + 1);
    s->next_use = (uint32_t *)(s->heap + 2 * (size_t)p->pages + 1);
    return 0;
}

EDM_INLINE uint32_t future_here(const edm_pager *p) {
    return EDM_LIKELY(p->position < p->future_n) ? p->future[p->position] : 0;
}

/* An entry counts while it says what is known of its page now. */
EDM_INLINE int valid(const edm_pager *p, const struct belady *s, struct entry e) {
    return (p->word[e.page] & LISTED) && s->next_use[e.page] == e.next;
}

EDM_INLINE void rise(struct entry *heap, uint64_t i, struct entry e) {
    while (i) {
        uint64_t parent = (i - 1) / ARITY;
        if (heap[parent].next >= e.next) break;
        heap[i] = heap[parent];
        i = parent;
    }
    heap[i] = e;
}

static void sink(struct entry *heap, uint64_t n, uint64_t i, struct entry e) {
    for (;;) {
        uint64_t child = i * ARITY + 1, best = child;
        if (child >= n) break;
        uint64_t end = child + ARITY < n ? child + ARITY : n;
        for (uint64_t c = child + 1; c < end; c++)
            if (heap[c].next > heap[best].next) best = c;
        if (heap[best].next <= e.next) break;
        heap[i] = heap[best];
        i = best;
    }
    heap[i] = e;
}

/* Drops every stale entry, and all but one of a page's, and makes a heap of the rest. */
static void sweep(edm_pager *p, struct belady *s) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < s->held; i++) {
        struct entry e = s->heap[i];
        if (!valid(p, s, e) || (p->word[e.page] & SWEPT)) continue;
        p->word[e.page] |= SWEPT;
        s->heap[kept++] = e;
    }
    s->held = kept;
    for (uint64_t i = 0; i < kept; i++) p->word[s->heap[i].page] &= (uint16_t)~SWEPT;
    for (uint64_t i = kept / ARITY + 1; i-- > 0;)
        if (i < kept) sink(s->heap, kept, i, s->heap[i]);
}

EDM_INLINE void push(edm_pager *p, struct belady *s, uint32_t page) {
    if (EDM_UNLIKELY(s->held > 2 * (uint64_t)s->count)) sweep(p, s);
    rise(s->heap, s->held, (struct entry){s->next_use[page], page});
    s->held++;
}

static void miss(edm_pager *p, uint32_t page) {
    struct belady *s = p->ev_mem;
    s->next_use[page] = future_here(p);
}

static void insert(edm_pager *p, uint32_t page) {
    struct belady *s = p->ev_mem;
    s->count++;
    p->word[page] |= LISTED;
    push(p, s, page);
}

static void touch(edm_pager *p, uint32_t page) {
    struct belady *s = p->ev_mem;
    uint32_t next = future_here(p);
    if (EDM_UNLIKELY(s->next_use[page] == next)) return;
    s->next_use[page] = next;
    push(p, s, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct belady *s = p->ev_mem;
    s->count--;
    p->word[page] &= (uint16_t)~LISTED;
}

static int64_t choose(edm_pager *p) {
    struct belady *s = p->ev_mem;
    while (s->held) {
        struct entry top = s->heap[0];
        s->held--;
        sink(s->heap, s->held, 0, s->heap[s->held]);
        if (EDM_UNLIKELY(!valid(p, s, top))) continue;
        remove_page(p, top.page);
        return top.page;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct belady *s = p->ev_mem;
    uint32_t listed = 0, found = 0;
    for (uint32_t page = 0; page < p->pages; page++) {
        int mine = (p->word[page] & LISTED) != 0;
        if (mine != edm_known(p, page) || (p->word[page] & SWEPT)) return -1;
        listed += (uint32_t)mine;
    }
    if (listed != s->count || s->held > 2 * (uint64_t)p->pages + 1) return -1;
    for (uint64_t i = 0; i < s->held; i++) {
        if (i && s->heap[(i - 1) / ARITY].next < s->heap[i].next) return -1;
        found += (uint32_t)valid(p, s, s->heap[i]);
    }
    return found >= listed ? 0 : -1;
}

static void warm(edm_pager *p, uint32_t page) {
    struct belady *s = p->ev_mem;
    __builtin_prefetch(&s->next_use[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_belady, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_belady, r); }

static const edm_evictor edm_belady = {
    .name = "belady",
    .summary = "the offline optimum: farthest next use (simulation only)",
    .paper = "Belady 1966",
    .params = "",
    .needs = EDM_OBSERVE_EXACT,
    .best = EDM_OBSERVE_EXACT,
    .needs_future = 1,
    .bytes_per_page = 2 * sizeof(struct entry) + sizeof(uint32_t),
    .size = size,
    .init = init,
    .miss = miss,
    .insert = insert,
    .touch = touch,
    .choose = choose,
    .keep = insert,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .warm = warm,
    .idle_note = "",
};

const edm_evictor *edm_evictor_belady(void) { return &edm_belady; }
