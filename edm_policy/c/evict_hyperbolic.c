/* Hyperbolic: evicts the page with the fewest uses per time in the cache, among a sample.
 *
 * Blankstein, Sen, Freedman, "Hyperbolic caching: flexible caching for web applications",
 * ATC 2017. A page that came in at reference t0 and was used n times since (coming in counts)
 * has priority n / (t - t0) at reference t. Priorities decay, each at its own pace, so no order
 * can be kept: a victim is the least of `sample` pages drawn with replacement (0: of all).
 *
 *     slot   0      1      2      3            resident pages, dense; the last one
 *         [page|n|t0][    ][    ][    ]        fills the hole of one that left
 *            \__ a.n * (t - b.t0)  <  b.n * (t - a.t0):  a goes before b
 *
 * Time is counted in references the policy saw (exact: all of them; else faults and rescues), with
 * 32 bits: a page resident for more than 2^32 references looks younger than it is. Equal priority:
 * the one that came in first. Under `idle` a rescue is a use, and so is being found mapped: the
 * victim-to-be is marked idle then, and another is drawn.
 */
#include "core.h"

static const edm_evictor edm_hyperbolic;

struct slot {
    uint32_t page;
    uint32_t uses;
    uint32_t came; /* number of the reference that brought it in */
};

struct hyperbolic {
    uint32_t count;
    uint32_t sample;
    uint32_t now;    /* references seen so far: the number of the one under way */
    uint32_t *where; /* per page: its slot */
    struct slot at[];
};

static size_t size(const edm_config *c) {
    return sizeof(struct hyperbolic) + (size_t)c->pages * (sizeof(struct slot) + sizeof(uint32_t));
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct hyperbolic *s = mem;
    double sample = edm_param(p, "sample", 64);
    (void)ctx;
    if (!(sample >= 0 && sample <= UINT32_MAX)) return edm_refuse(p, "hyperbolic: sample is a number of pages, 0 for all");
    s->sample = (uint32_t)sample;
    s->where = (uint32_t *)(s->at + p->pages);
    return 0;
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct hyperbolic *s = p->ev_mem;
    s->where[page] = s->count;
    s->at[s->count++] = (struct slot){page, 1, s->now++};
}

static void touch(edm_pager *p, uint32_t page) {
    struct hyperbolic *s = p->ev_mem;
    struct slot *at = &s->at[s->where[page]];
    at->uses += at->uses != UINT32_MAX;
    s->now++;
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct hyperbolic *s = p->ev_mem;
    uint32_t i = s->where[page];
    struct slot last = s->at[--s->count];
    s->at[i] = last;
    s->where[last.page] = i;
}

EDM_INLINE int goes_before(uint32_t now, struct slot a, struct slot b) {
    uint64_t wa = (uint64_t)a.uses * (uint32_t)(now - b.came), wb = (uint64_t)b.uses * (uint32_t)(now - a.came);
    return wa != wb ? wa < wb : now - a.came > now - b.came;
}

static uint32_t candidate(edm_pager *p, const struct hyperbolic *s) {
    struct slot worst;
    if (!s->sample || s->count <= s->sample) {
        worst = s->at[0];
        for (uint32_t i = 1; i < s->count; i++)
            if (goes_before(s->now, s->at[i], worst)) worst = s->at[i];
    } else {
        worst = s->at[edm_random_below(p, s->count)];
        for (uint32_t i = 1; i < s->sample; i++) {
            struct slot other = s->at[edm_random_below(p, s->count)];
            if (goes_before(s->now, other, worst)) worst = other;
        }
    }
    return worst.page;
}

static int64_t choose(edm_pager *p) {
    struct hyperbolic *s = p->ev_mem;
    while (s->count) {
        uint32_t victim = candidate(p, s);
        if (p->observe == EDM_OBSERVE_IDLE) {
            int used = edm_used(p, victim);
            if (used == EDM_BUSY) return EDM_AGAIN;
            if (used == EDM_USED) {
                struct slot *at = &s->at[s->where[victim]];
                at->uses += at->uses != UINT32_MAX;
                continue;
            }
        }
        remove_page(p, victim);
        return victim;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct hyperbolic *s = p->ev_mem;
    if (s->count > p->pages) return -1;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->where[s->at[i].page] != i || !edm_known(p, s->at[i].page) || !s->at[i].uses) return -1;
    return edm_known_pages(p) == s->count ? 0 : -1;
}

static void warm(edm_pager *p, uint32_t page) {
    struct hyperbolic *s = p->ev_mem;
    __builtin_prefetch(&s->where[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) {
    return edm_consume_with(p, &edm_hyperbolic, r, i);
}
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_hyperbolic, r); }

static const edm_evictor edm_hyperbolic = {
    .name = "hyperbolic",
    .summary = "fewest uses per time in the cache, among a sample",
    .paper = "Blankstein, Sen, Freedman 2017",
    .params = "sample=64 (pages): how many are compared; 0: all",
    .needs = EDM_OBSERVE_IDLE,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(struct slot) + sizeof(uint32_t),
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
    .idle_note = "a use is a rescue or being found mapped; the victim found so is marked idle and another one is drawn",
};

const edm_evictor *edm_evictor_hyperbolic(void) { return &edm_hyperbolic; }
