/* LIRS: keeps the pages whose last two uses lie close together.
 *
 * Jiang and Zhang, "LIRS: an efficient low inter-reference recency set replacement
 * policy", SIGMETRICS 2002. C = the limit. LIR pages have a short distance between their last
 * two uses, and stay; the others are HIR, of which 1 % of C (at least one) are resident.
 *
 *    stack S, by last use:  top [h][L][g][L][L][h][g][L] bottom   L LIR, h HIR, g gone (id only)
 *    queue Q of resident HIR pages:  newest [h][h][x] oldest --> leaves
 *
 * - The bottom of S is always LIR: HIR pages below it are taken off (pruning).
 * - An HIR page used while in S was used again sooner than the bottom LIR page: they change
 *   places (also if it was gone). The LIR page goes to the newest end of Q, and S is pruned.
 * - An HIR page used when not in S goes to the top of S and the newest end of Q. The
 *   paper leaves it at that: quirk=0. The authors of libCacheSim demote the bottom LIR page at
 *   that use all the same if LIR is full; and as Q then overflows, its oldest leaves, on a hit.
 *   quirk=1 does this where HIR has two frames or more; with one it is the paper.
 *   Where commands take time nothing leaves on a hit: Q is one longer until room is needed.
 * - Q's oldest leaves. If it is in S it stays there, gone, until the pruning reaches it, or S
 *   is longer than 2C: then who was gone first goes first.
 *
 * quirk=2, the default, gives the miss counts that libCacheSim's definition gives at every size, for
 * comparison: with one frame for HIR (C < 200) the page used in Q is itself what Q's overflow pushes
 * out, and yet it counts as resident for as long as it stays in S: a STRAY. A stray that is used
 * becomes LIR; one that the pruning reaches leaves. So MORE THAN C PAGES ARE RESIDENT AT TIMES
 * (75 of 70 on one trace), which no memory can do, and the optimum may be beaten.
 * It acts in the classical run alone (edm_run_classic, `mrc`). Through events, in the simulator and on
 * real memory, where the limit is real, quirk=2 is quirk=1; quirk=0 and 1 never hold more than C.
 *
 * LIR pages are meant to stay, so there are never more than `low` of them: batches of
 * evictions are served by Q too. If Q is empty nevertheless, LIR's bottom goes. The order of S
 * is all there is to it, so exact observation is needed; CLOCK-Pro is what lives
 * with less. A prefetched page is a new one.
 */
#include "lists.h"

static const edm_evictor edm_lirs;

enum { LIR = 1, HIR = 2, GONE = 3, KIND = 3, IN_S = 4, BOUND_FOR_LIR = 8, STRAY = 16 }; /* the tag */

struct lirs {
    uint32_t lir, in_q, gone, in_s; /* pages */
    uint32_t stack_most;            /* bound of S when it was last enforced */
    uint32_t quirk;
    uint32_t strays_leave;          /* a classical run is under way: what must leave can do so at once */
    edm_link *s;                    /* S, newest = top; its sentinel is entry `pages` */
    edm_link *q;                    /* Q at sentinel `pages`, the gone at `pages + 1` */
};

static size_t size(const edm_config *c) {
    return sizeof(struct lirs) + (2 * (size_t)c->pages + 3) * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct lirs *m = mem;
    double quirk = edm_param(p, "quirk", 2);
    (void)ctx;
    if (quirk != 0 && quirk != 1 && quirk != 2)
        return edm_refuse(p, "lirs: quirk is 0 (the paper), 1 (libCacheSim within the limit) or 2 (its very counts)");
    m->quirk = (uint32_t)quirk;
    m->s = (edm_link *)(m + 1);
    m->q = m->s + p->pages + 1;
    edm_list_init(m->s, p->pages);
    edm_list_init(m->q, p->pages);
    edm_list_init(m->q, p->pages + 1);
    return 0;
}

static uint32_t lir_most(const edm_pager *p) {
    uint32_t hir = p->limit < 200 ? 1 : p->limit / 100;
    uint32_t most = p->limit - hir < p->low ? p->limit - hir : p->low;
    return most ? most : 1;
}

/* Q's share; beyond one frame the quirk is in force. */
static uint32_t hir_most(const edm_pager *p) { return p->limit - lir_most(p); }

static void push(edm_pager *p, struct lirs *m, uint32_t page) {
    edm_list_push_head(m->s, p->pages, page);
    edm_set_tag(p, page, edm_tag(p, page) | IN_S);
    m->in_s++;
}

static void pop(edm_pager *p, struct lirs *m, uint32_t page) {
    edm_list_remove(m->s, page);
    edm_set_tag(p, page, edm_tag(p, page) & ~(unsigned)IN_S);
    m->in_s--;
}

/* Into Q or among the gone, as the newest, and out again; IN_S is left as it is. */
static void enter(edm_pager *p, struct lirs *m, uint32_t page, unsigned kind) {
    edm_list_push_head(m->q, p->pages + (kind == GONE), page);
    edm_set_tag(p, page, (edm_tag(p, page) & IN_S) | kind);
    if (kind == GONE) m->gone++;
    else m->in_q++;
}

static void leave(edm_pager *p, struct lirs *m, uint32_t page) {
    unsigned tag = edm_tag(p, page);
    edm_list_remove(m->q, page);
    edm_set_tag(p, page, tag & IN_S);
    if ((tag & KIND) == GONE) m->gone--;
    else m->in_q--;
}

/* Out of everything. */
static void forget(edm_pager *p, struct lirs *m, uint32_t page) {
    unsigned tag = edm_tag(p, page);
    if (tag & IN_S) pop(p, m, page);
    if ((tag & KIND) == LIR) m->lir--;
    else if (tag & KIND) leave(p, m, page);
    edm_set_tag(p, page, 0);
}

/* A stray that S has lost. Where it cannot leave now (events after a classical run) it gets its place in Q. */
static __attribute__((noinline)) void end_stray(edm_pager *p, struct lirs *m, uint32_t page) {
    edm_set_tag(p, page, 0);
    if (m->strays_leave) edm_classic_gone(p, page);
    else enter(p, m, page, HIR);
}

static void prune(edm_pager *p, struct lirs *m) {
    for (;;) {
        uint32_t bottom = m->s[p->pages].prev;
        if (bottom == p->pages) return;
        unsigned tag = edm_tag(p, bottom);
        if ((tag & KIND) == LIR) return;
        if ((tag & KIND) == GONE) forget(p, m, bottom);
        else pop(p, m, bottom);
        if (EDM_UNLIKELY(tag & STRAY)) end_stray(p, m, bottom);
    }
}

static void demote(edm_pager *p, struct lirs *m) {
    prune(p, m);
    uint32_t bottom = m->s[p->pages].prev;
    pop(p, m, bottom);
    m->lir--;
    enter(p, m, bottom, HIR);
    prune(p, m);
}

static void make_room(edm_pager *p, struct lirs *m) {
    while (m->lir >= lir_most(p)) demote(p, m);
}

/* A page in no list becomes LIR. */
static void promote(edm_pager *p, struct lirs *m, uint32_t page) {
    make_room(p, m);
    edm_set_tag(p, page, LIR);
    push(p, m, page);
    if (++m->lir == 1) prune(p, m);
}

static void trim(edm_pager *p, struct lirs *m) {
    m->stack_most = p->limit > UINT32_MAX / 2 ? UINT32_MAX : 2 * p->limit;
    while (m->in_s > m->stack_most && m->gone) forget(p, m, m->q[p->pages + 1].prev);
}

static void miss(edm_pager *p, uint32_t page) {
    unsigned known = (edm_tag(p, page) & KIND) == GONE;
    forget(p, p->ev_mem, page);
    if (known) edm_set_tag(p, page, BOUND_FOR_LIR);
}

static void insert(edm_pager *p, uint32_t page) {
    struct lirs *m = p->ev_mem;
    int bound = (edm_tag(p, page) & BOUND_FOR_LIR) != 0;
    forget(p, m, page);
    if (bound || m->lir < lir_most(p)) {
        promote(p, m, page);
    } else {
        push(p, m, page);
        enter(p, m, page, HIR);
    }
    trim(p, m);
}

static void keep(edm_pager *p, uint32_t page) {
    miss(p, page);
    insert(p, page);
}

static void touch(edm_pager *p, uint32_t page) {
    struct lirs *m = p->ev_mem;
    unsigned tag = edm_tag(p, page);
    if (EDM_LIKELY((tag & KIND) == LIR)) {
        if (m->s[p->pages].next == page) return;
        edm_list_remove(m->s, page);
        edm_list_push_head(m->s, p->pages, page);
        prune(p, m);
        return;
    }
    if (tag & IN_S) {
        forget(p, m, page);
        promote(p, m, page);
    } else {
        leave(p, m, page);
        enter(p, m, page, HIR);
        if (m->quirk && hir_most(p) > 1) make_room(p, m);
        push(p, m, page);
    }
    trim(p, m);
}

static void remove_page(edm_pager *p, uint32_t page) {
    forget(p, p->ev_mem, page);
    prune(p, p->ev_mem);
}

static int64_t choose(edm_pager *p) {
    struct lirs *m = p->ev_mem;
    if (!m->in_q && m->lir) demote(p, m);
    if (!m->in_q) return EDM_NONE;
    uint32_t victim = m->q[p->pages].prev;
    leave(p, m, victim);
    if (edm_tag(p, victim) & IN_S) enter(p, m, victim, GONE);
    trim(p, m);
    return victim;
}

static int check(const edm_pager *p) {
    const struct lirs *m = p->ev_mem;
    uint32_t kinds[4] = {0}, in_s = 0;
    for (uint32_t i = 0; i < p->pages; i++) {
        unsigned tag = edm_tag(p, i), kind = tag & KIND;
        kinds[kind]++;
        in_s += (tag & IN_S) != 0;
        if ((kind == LIR || kind == HIR || tag & STRAY) != edm_known(p, i)) return -1;
        if ((kind == LIR || kind == GONE) && !(tag & IN_S)) return -1;
        if (!kind && !(tag & IN_S) != !(tag & STRAY)) return -1;
        if (kind && tag & STRAY) return -1;
    }
    if (kinds[LIR] != m->lir || kinds[HIR] != m->in_q || kinds[GONE] != m->gone || in_s != m->in_s) return -1;
    if (edm_check_links(p, m->s, p->pages, m->in_s)) return -1;
    if (edm_check_links(p, m->q, p->pages, m->in_q) || edm_check_links(p, m->q, p->pages + 1, m->gone)) return -1;
    for (uint32_t at = m->s[p->pages].next; at != p->pages; at = m->s[at].next)
        if (!(edm_tag(p, at) & IN_S)) return -1;
    for (uint32_t at = m->q[p->pages].next; at != p->pages; at = m->q[at].next)
        if ((edm_tag(p, at) & KIND) != HIR) return -1;
    return m->gone && m->in_s > m->stack_most ? -1 : 0;
}

static void warm(edm_pager *p, uint32_t page) {
    struct lirs *m = p->ev_mem;
    __builtin_prefetch(&m->s[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_lirs, r, i); }

static int keeps_strays(const edm_pager *p, const struct lirs *m) { return m->quirk == 2 && hir_most(p) == 1; }

/* The demoted page takes the place in Q of the page used there, which stays on as a stray. */
static void swap_in_queue(edm_pager *p, struct lirs *m, uint32_t page) {
    leave(p, m, page);
    make_room(p, m);
    push(p, m, page);
    edm_set_tag(p, page, IN_S | STRAY);
    trim(p, m);
}

/* In the classical cache what the quirk pushes out of Q leaves at once. */
static void touch_classic(edm_pager *p, uint32_t page) {
    struct lirs *m = p->ev_mem;
    unsigned tag = edm_tag(p, page);
    if (EDM_LIKELY((tag & KIND) == LIR)) {
        touch(p, page);
        return;
    }
    if (!(tag & IN_S) && keeps_strays(p, m) && m->lir >= lir_most(p)) swap_in_queue(p, m, page);
    else touch(p, page);
    if (m->quirk && m->in_q > hir_most(p)) edm_classic_evict(p, &edm_lirs);
}

/* Strays count as resident, but room for a new page is a matter of the frames that LIR and Q have. */
static int64_t choose_classic(edm_pager *p) {
    const struct lirs *m = p->ev_mem;
    if (keeps_strays(p, m) && (m->lir < lir_most(p) || m->in_q < hir_most(p))) return EDM_STAY;
    return choose(p);
}

static const edm_evictor edm_lirs_classic = {
    .miss = miss, .insert = insert, .touch = touch_classic, .choose = choose_classic, .warm = warm,
};

static uint64_t classic(edm_pager *p, const edm_refs *r) {
    struct lirs *m = p->ev_mem;
    m->strays_leave = 1;
    uint64_t misses = edm_classic_with(p, &edm_lirs_classic, r);
    m->strays_leave = 0;
    return misses;
}

static const edm_evictor edm_lirs = {
    .name = "lirs",
    .summary = "keeps the pages whose last two uses lie close together",
    .paper = "Jiang and Zhang, SIGMETRICS 2002",
    .params = "quirk=2 (0, 1, 2): a use of an HIR page that is in Q alone demotes an LIR page, as in libCacheSim; 0: it "
              "does not, as in the paper; 1: never more than limit pages resident; 2: libCacheSim's very counts, for "
              "which a classical run below 200 frames holds more pages than frames at times (elsewhere as 1)",
    .needs = EDM_OBSERVE_EXACT,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = 2 * sizeof(edm_link),
    .size = size,
    .init = init,
    .miss = miss,
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

const edm_evictor *edm_evictor_lirs(void) { return &edm_lirs; }
