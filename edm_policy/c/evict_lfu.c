/* LFU: evicts the page used least often since it came in; among equals, the page that
 * has been at that frequency the longest. Optionally all frequencies are halved every
 * `aging` references.
 *
 * O(1) by buckets: Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU
 * cache eviction scheme", 2010. Halving: Robinson, Devarakonda, "Data cache management
 * using frequency-based replacement", SIGMETRICS 1990.
 *
 *     victim                                              One list, in the order of leaving.
 *       v                                                 Pages of equal frequency form a run;
 *      [a  b  c] [d  e] [f] [g  h]                        a run has a node: its frequency and
 *       \_f=1_/  \f=2/  f=5 \f=9/                         its last page. A used page goes behind
 *             ^last   ^   ^     ^                         the last of the next run (a new run
 *                                                         where the next is not f + 1).
 *
 * Halving leaves that order as it is (2g goes before 2g + 1 already): runs are joined.
 * Departures: a page kept after all comes back with the frequency it had and one more.
 * Under `idle` the victim-to-be is looked at once: a mapped page is marked idle and goes to
 * the end of its run; a rescue is a use.
 */
#include "core.h"
#include "list.h"

static const edm_evictor edm_lfu;

struct place { /* of a page */
    edm_link link;
    uint32_t run; /* index of its node; for a page not in the list the frequency it had */
};

struct run { /* a node; free ones are chained by `last` */
    uint32_t uses;
    uint32_t last; /* the page that came to this frequency last */
};

struct lfu {
    uint32_t free_run;
    uint32_t count;    /* pages in the list */
    uint64_t aging;    /* references between halvings; 0: never */
    uint64_t seen;     /* references since the last halving */
    struct place *at;  /* per page; entry `pages` is the list's sentinel */
    struct run *run;   /* at most as many as pages; number `pages` is the sentinel's, with 0 uses */
};

static size_t size(const edm_config *c) {
    return sizeof(struct lfu) + ((size_t)c->pages + 1) * (sizeof(struct place) + sizeof(struct run));
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct lfu *s = mem;
    double aging = edm_param(p, "aging", 0);
    (void)ctx;
    if (!(aging >= 0 && aging <= 0x1p53)) return edm_refuse(p, "lfu: aging is a number of references, 0 for none");
    s->aging = (uint64_t)aging;
    s->run = (struct run *)(s + 1);
    s->at = (struct place *)(s->run + p->pages + 1);
    for (uint32_t i = 0; i < p->pages; i++) s->run[i].last = i + 1;
    s->run[p->pages] = (struct run){0, p->pages};
    s->at[p->pages] = (struct place){{p->pages, p->pages}, p->pages};
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void link_behind(struct lfu *s, uint32_t page, uint32_t prev) {
    uint32_t next = s->at[prev].link.next;
    s->at[page].link = (edm_link){prev, next};
    s->at[prev].link.next = page;
    s->at[next].link.prev = page;
}

/* Puts a page at the end of the run of `uses`; that run, if there is one, is the one behind `prev`. */
EDM_INLINE void join(struct lfu *s, uint32_t page, uint32_t uses, uint32_t prev) {
    uint32_t r = s->at[s->at[prev].link.next].run;
    if (s->run[r].uses == uses) {
        prev = s->run[r].last;
    } else {
        r = s->free_run;
        s->free_run = s->run[r].last;
        s->run[r].uses = uses;
    }
    link_behind(s, page, prev);
    s->at[page].run = r;
    s->run[r].last = page;
}

/* Takes a page out of the list and its run; 1 where the run is gone with it. */
EDM_INLINE int leave(struct lfu *s, uint32_t page) {
    struct place at = s->at[page];
    struct run *r = &s->run[at.run];
    s->at[at.link.prev].link.next = at.link.next;
    s->at[at.link.next].link.prev = at.link.prev;
    if (r->last != page) return 0;
    if (s->at[at.link.prev].run == at.run) {
        r->last = at.link.prev;
        return 0;
    }
    r->last = s->free_run;
    s->free_run = at.run;
    return 1;
}

static void halve(edm_pager *p, struct lfu *s) {
    uint32_t r = p->pages; /* the run that grows; the sentinel's at first */
    for (uint32_t page = s->at[p->pages].link.next; page != p->pages;) {
        uint32_t old = s->at[page].run, last = s->run[old].last;
        uint32_t uses = s->run[old].uses > 1 ? s->run[old].uses >> 1 : 1;
        if (s->run[r].uses == uses) { /* joined to the run before */
            for (; s->at[page].link.prev != last; page = s->at[page].link.next) s->at[page].run = r;
            s->run[r].last = last;
            s->run[old].last = s->free_run;
            s->free_run = old;
        } else {
            r = old;
            s->run[r].uses = uses;
            page = s->at[last].link.next;
        }
    }
}

EDM_INLINE void count_reference(edm_pager *p, struct lfu *s) {
    if (EDM_LIKELY(!s->aging) || ++s->seen < s->aging) return;
    s->seen = 0;
    halve(p, s);
}

static void insert(edm_pager *p, uint32_t page) {
    struct lfu *s = p->ev_mem;
    s->count++;
    join(s, page, 1, p->pages);
    count_reference(p, s);
}

static void touch(edm_pager *p, uint32_t page) {
    struct lfu *s = p->ev_mem;
    struct place at = s->at[page];
    struct run *r = &s->run[at.run];
    uint32_t uses = r->uses + 1, last = r->last;
    if (EDM_UNLIKELY(!uses)) return; /* 2^32 - 1 uses: it stays the last to leave */
    if (last == page && s->at[at.link.prev].run != at.run && s->run[s->at[at.link.next].run].uses != uses) {
        r->uses = uses; /* alone in its run, and the next is farther: nothing moves */
    } else {
        if (last == page) last = at.link.prev;
        leave(s, page);
        join(s, page, uses, last);
    }
    count_reference(p, s);
}

static void take(struct lfu *s, uint32_t page) {
    uint32_t uses = s->run[s->at[page].run].uses;
    leave(s, page);
    s->at[page].run = uses;
    s->count--;
}

static void remove_page(edm_pager *p, uint32_t page) { take(p->ev_mem, page); }

static void keep(edm_pager *p, uint32_t page) {
    struct lfu *s = p->ev_mem;
    uint32_t uses = s->at[page].run, prev = p->pages;
    uses += uses != UINT32_MAX;
    for (uint32_t next; (next = s->at[prev].link.next) != p->pages && s->run[s->at[next].run].uses < uses;)
        prev = s->run[s->at[next].run].last;
    s->count++;
    join(s, page, uses, prev);
}

static int64_t choose(edm_pager *p) {
    struct lfu *s = p->ev_mem;
    while (s->count) {
        uint32_t victim = s->at[p->pages].link.next;
        if (p->observe == EDM_OBSERVE_IDLE) {
            int used = edm_used(p, victim);
            if (used == EDM_BUSY) return EDM_AGAIN;
            if (used == EDM_USED) {
                uint32_t uses = s->run[s->at[victim].run].uses;
                leave(s, victim);
                join(s, victim, uses, p->pages);
                continue;
            }
        }
        take(s, victim);
        return victim;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct lfu *s = p->ev_mem;
    uint32_t count = 0, prev = p->pages, uses = 0;
    for (uint32_t page = s->at[prev].link.next; page != p->pages; page = s->at[page].link.next) {
        uint32_t r = s->at[page].run;
        if (++count > s->count || s->at[page].link.prev != prev || !edm_known(p, page)) return -1;
        if (r != s->at[prev].run) { /* a new run: its predecessor ended where it says */
            if (s->run[r].uses <= uses || s->run[s->at[prev].run].last != prev) return -1;
            uses = s->run[r].uses;
        }
        prev = page;
    }
    return count == s->count && edm_known_pages(p) == count && s->run[s->at[prev].run].last == prev ? 0 : -1;
}

static void warm(edm_pager *p, uint32_t page) {
    struct lfu *s = p->ev_mem;
    __builtin_prefetch(&s->at[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_lfu, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_lfu, r); }

static const edm_evictor edm_lfu = {
    .name = "lfu",
    .summary = "least frequently used since it came in",
    .paper = "Shah, Mitra, Matani 2010; halving: Robinson, Devarakonda 1990",
    .params = "aging=0 (references): halve every frequency each so many references; 0 never",
    .needs = EDM_OBSERVE_IDLE,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(struct place) + sizeof(struct run),
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
    .warm = warm,
    .idle_note = "a use is a rescue; the page that would leave is marked idle and goes to the end of its equals first",
};

const edm_evictor *edm_evictor_lfu(void) { return &edm_lfu; }
