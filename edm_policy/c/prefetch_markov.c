/* markov: which page followed this one before?
 *
 * Joseph, Grunwald, "Prefetching using Markov predictors", ISCA 1997: a table from a miss to the
 * misses that followed it, with counts, of bounded size.
 *
 *     page    successors (count)
 *     [ 17 ]-> 93 (3), 18 (1)        on a fault on 17: the likeliest chain, `depth` long:
 *     [ 93 ]-> 40 (2)                17 -> 93 -> 40 -> ..., the first of it as the marker
 *     [ 40 ]-> ...                   (and with it the other successors of 17)
 *
 * The table is set-associative (4 entries a set; the one written longest ago makes way); an entry
 * keeps `k` successors; a new successor takes the least counted one's place once its count has
 * gone down to 0, so that one stray fault forgets nothing.
 *
 * The length of the chain follows how well it goes: 2n + 1 when a marker was hit, n / 2 when the
 * next miss came without; at 0 one page is tried at every 128th miss that has a successor.
 *
 * Pages of a chain are mapped, and used unseen: when its marker is hit, the chain is believed, is
 * gone on with from its end, and the next miss is learned as the successor of that end.
 */
#include "prefetch.h"

enum { WAYS = 4, MOST_SUCCESSORS = 4, MOST_COUNT = 7, TRY_EVERY = 128 };

struct entry {
    uint32_t page; /* EDM_NO_PAGE: free */
    uint32_t written;
    uint32_t next[MOST_SUCCESSORS];
    uint8_t count[MOST_SUCCESSORS];
};

struct markov {
    uint32_t sets, k, depth;
    uint32_t clock;
    uint32_t length;  /* of the next chain, `depth` at most */
    uint32_t untried; /* misses with a successor since the last try */
    uint32_t last; /* whose successor the next miss is; EDM_NO_PAGE: unknown */
    uint32_t tail; /* the end of the chain under way */
    uint32_t marker; /* its marker; EDM_NO_PAGE: none */
    struct entry at[];
};

enum { DEFAULT_ENTRIES = 4096, MOST_ENTRIES = 1 << 20 };

/* "entries" among the parameters; size() comes before they are parsed. */
static uint32_t entries_asked(const char *spec) {
    static const char key[] = ":entries=";
    for (const char *at = spec; *at; at++) {
        uint32_t i = 0, value = 0;
        while (key[i] && at[i] == key[i]) i++;
        if (key[i]) continue;
        for (at += i; *at >= '0' && *at <= '9' && value <= MOST_ENTRIES; at++) value = value * 10 + (uint32_t)(*at - '0');
        return value < MOST_ENTRIES ? value : MOST_ENTRIES;
    }
    return DEFAULT_ENTRIES;
}

static uint32_t sets_for(uint32_t entries) {
    uint32_t sets = 1;
    while (sets * WAYS < entries) sets *= 2;
    return sets;
}

static size_t size(const edm_config *c) {
    return sizeof(struct markov) + (size_t)sets_for(entries_asked(c->prefetch)) * WAYS * sizeof(struct entry);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct markov *s = mem;
    uint32_t entries;
    (void)ctx;
    if (edm_prefetch_count(p, "entries", DEFAULT_ENTRIES, 4, MOST_ENTRIES, &entries) ||
        edm_prefetch_count(p, "k", 2, 1, MOST_SUCCESSORS, &s->k) || edm_prefetch_count(p, "depth", 8, 1, 128, &s->depth)) return -1;
    s->sets = sets_for(entries_asked(p->config.prefetch));
    for (uint32_t i = 0; i < s->sets * WAYS; i++) s->at[i].page = EDM_NO_PAGE;
    s->length = 1;
    s->last = s->tail = s->marker = EDM_NO_PAGE;
    return 0;
}

static struct entry *set_of(struct markov *s, uint32_t page) {
    return &s->at[(page * 0x9e3779b1u >> 8 & (s->sets - 1)) * WAYS];
}

static struct entry *lookup(struct markov *s, uint32_t page) {
    struct entry *set = set_of(s, page);
    for (uint32_t i = 0; i < WAYS; i++)
        if (set[i].page == page) return &set[i];
    return NULL;
}

static struct entry *make(struct markov *s, uint32_t page) {
    struct entry *set = set_of(s, page), *oldest = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i].page == EDM_NO_PAGE) {
            oldest = &set[i];
            break;
        }
        if (s->clock - set[i].written > s->clock - oldest->written) oldest = &set[i];
    }
    *oldest = (struct entry){.page = page};
    return oldest;
}

static void learn(struct markov *s, uint32_t page, uint32_t next) {
    if (page == next) return;
    struct entry *e = lookup(s, page);
    if (!e) e = make(s, page);
    e->written = ++s->clock;
    uint32_t least = 0;
    for (uint32_t i = 0; i < s->k; i++) {
        if (e->count[i] && e->next[i] == next) {
            e->count[i] += e->count[i] < MOST_COUNT;
            return;
        }
        if (e->count[i] < e->count[least]) least = i;
    }
    if (e->count[least] && --e->count[least]) return;
    e->next[least] = next;
    e->count[least] = 1;
}

static uint32_t likeliest(const struct markov *s, const struct entry *e) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->k; i++)
        if (e->count[i] > e->count[best]) best = i;
    return best;
}

/* Follows the likeliest chain from `page` on; `tail` becomes its end. */
static void follow(edm_pager *p, struct markov *s, uint32_t page) {
    int marked = 0;
    s->tail = page;
    s->marker = EDM_NO_PAGE;
    for (uint32_t step = 0; step < s->length; step++) {
        const struct entry *e = lookup(s, s->tail);
        if (!e) break;
        uint32_t best = likeliest(s, e);
        if (e->next[best] == page) break; /* once round */
        if (p->lspt >= p->limit && !edm_prefetch_here(p, e->next[best])) {
            edm_prefetch(p, e->next[best]); /* no room: only the wish counts */
            break;
        }
        edm_prefetch_next(p, e->next[best], &marked);
        if (marked && s->marker == EDM_NO_PAGE) s->marker = e->next[best];
        for (uint32_t i = 0; step == 0 && i < s->k; i++)
            if (i != best && e->count[i]) edm_prefetch_next(p, e->next[i], &marked);
        s->tail = e->next[best];
    }
}

static void fault(edm_pager *p, uint32_t page, int write) {
    struct markov *s = p->pf_mem;
    (void)write;
    if (edm_prefetch_was_hit(p)) {
        if (page != s->marker) return;
        s->length = 2 * s->length + 1 < s->depth ? 2 * s->length + 1 : s->depth;
        follow(p, s, s->tail);
        s->last = s->tail;
        return;
    }
    if (s->last != EDM_NO_PAGE) learn(s, s->last, page);
    s->last = page;
    if (s->marker != EDM_NO_PAGE) s->length /= 2; /* it was not hit */
    if (!s->length && lookup(s, page) && ++s->untried >= TRY_EVERY) {
        s->untried = 0;
        s->length = 1;
    }
    follow(p, s, page);
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static const edm_prefetcher edm_markov = {
    .name = "markov",
    .summary = "the pages that followed this one before, along the likeliest chain",
    .paper = "Joseph, Grunwald, ISCA 1997",
    .params = "entries=4096 (4..1048576): table, 28 bytes each; k=2 (1..4): successors a page; depth=8 (1..128): chain",
    .size = size,
    .init = init,
    .fault = fault,
    .used = nothing,
    .unused = nothing,
};

const edm_prefetcher *edm_prefetcher_markov(void) { return &edm_markov; }
