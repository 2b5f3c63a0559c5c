/* SHARDS: the miss ratio of LRU at every size, from a spatial sample of the pages.
 *
 * Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC construction with SHARDS", FAST 2015:
 * fixed rate, with its correction SHARDS-adj.
 *
 *     hash(page) < rate ?  no: the reference costs one hash
 *                          yes: d = sampled pages touched since its last use; d / rate estimates
 *                               the reuse distance, and the reference hits in any size above it
 *
 * A page is in the sample or not, always, so that reuse is kept. What the sample has too few or too
 * many references (a hot page that is in or out) is put right as hits at distance 0: the miss
 * ratio is the sampled misses over rate x all references.
 *
 * Distances are counted exactly (Olken 1981): times of last use in a Fenwick tree, renumbered
 * when they run out. The memory is given by the number of sampled pages, and taken at once.
 *
 * The standard error comes from eight parts of the sample, told apart by further bits of the hash:
 * each is a SHARDS of its own at an eighth of the rate, with its own distances, so that
 * both sources of error show, the choice of pages and the noise of short sampled distances.
 */
#include "shards.h"

#include <math.h>
#include <stdlib.h>

enum { PARTS = 8, HASH_BITS = 24 };

struct stack { /* exact LRU distances over the pages given to it */
    uint32_t pages;    /* at most so many different ones */
    uint32_t times;    /* length of the tree */
    uint32_t now;      /* the last time given out */
    uint32_t alive;    /* different pages so far */
    uint32_t mask;     /* of the hash table */
    uint32_t *page;    /* table: page + 1, or 0 */
    uint32_t *last;    /* table: time of last use */
    uint32_t *slot;    /* by time: table place + 1, or 0 */
    uint32_t *tree;    /* Fenwick: how many times up to here are last uses */
    uint64_t *seen;    /* histogram of distances */
    uint64_t cold;
};

struct edm_shards {
    uint32_t pages, threshold;
    uint64_t seed, refs, sampled;
    size_t bytes;
    struct stack all, part[PARTS];
};

static uint64_t hash(uint64_t seed, uint32_t page) { /* splitmix64's finalizer */
    uint64_t z = seed + (page + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t sample_bits(uint64_t h) { return (uint32_t)(h >> (64 - HASH_BITS)); }
static uint32_t part_of(uint64_t h) { return (uint32_t)h % PARTS; }

static int stack_init(struct stack *t, uint32_t pages, size_t *bytes) {
    uint32_t slots = 4;
    while (slots < 2 * (uint64_t)pages && slots < 1u << 31) slots *= 2;
    t->pages = pages;
    t->mask = slots - 1;
    t->times = pages < UINT32_MAX / 2 ? 2 * pages + 2 : pages + 1;
    t->page = calloc(slots, sizeof *t->page);
    t->last = calloc(slots, sizeof *t->last);
    t->slot = calloc((size_t)t->times + 1, sizeof *t->slot);
    t->tree = calloc((size_t)t->times + 1, sizeof *t->tree);
    t->seen = calloc((size_t)pages + 1, sizeof *t->seen);
    *bytes += (size_t)slots * 8 + ((size_t)t->times + 1) * 8 + ((size_t)pages + 1) * 8;
    return t->page && t->last && t->slot && t->tree && t->seen ? 0 : -1;
}

static void stack_free(struct stack *t) {
    free(t->page), free(t->last), free(t->slot), free(t->tree), free(t->seen);
}

static void tree_add(struct stack *t, uint32_t time, uint32_t by) {
    for (; time <= t->times; time += time & -time) t->tree[time] += by;
}

static uint32_t tree_sum(const struct stack *t, uint32_t time) {
    uint32_t n = 0;
    for (; time; time -= time & -time) n += t->tree[time];
    return n;
}

/* The last uses get the times 1, 2, 3, ... in their order. */
static void renumber(struct stack *t) {
    uint32_t now = 0;
    for (uint32_t time = 1; time <= t->times; time++) {
        uint32_t slot = t->slot[time];
        t->tree[time] = t->slot[time] = 0;
        if (!slot) continue;
        t->slot[++now] = slot;
        t->last[slot - 1] = now;
    }
    for (uint32_t time = 1; time <= t->times; time++) {
        uint32_t up = time + (time & -time);
        t->tree[time] += time <= now;
        if (up <= t->times) t->tree[up] += t->tree[time];
    }
    t->now = now;
}

static void stack_use(struct stack *t, uint32_t page, uint64_t h) {
    uint32_t at = (uint32_t)(h >> 8) & t->mask;
    while (t->page[at] && t->page[at] != page + 1) at = (at + 1) & t->mask;
    if (t->now == t->times) renumber(t);
    if (t->page[at]) {
        uint32_t before = t->last[at];
        t->seen[t->alive - tree_sum(t, before)]++;
        tree_add(t, before, UINT32_MAX); /* less one */
        t->slot[before] = 0;
    } else {
        t->page[at] = page + 1;
        t->alive++;
        t->cold++;
    }
    t->last[at] = ++t->now;
    t->slot[t->now] = at + 1;
    tree_add(t, t->now, 1);
}

edm_shards *edm_shards_new(uint32_t pages, double rate, uint64_t seed) {
    uint32_t n = 0, in_part[PARTS] = {0};
    if (!(rate > 0 && rate <= 1) || !pages || pages == UINT32_MAX) return NULL;
    edm_shards *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->pages = pages;
    s->seed = seed;
    s->threshold = (uint32_t)ceil(rate * (1 << HASH_BITS));
    s->bytes = sizeof *s;
    for (uint32_t page = 0; page < pages; page++) {
        uint64_t h = hash(seed, page);
        if (sample_bits(h) >= s->threshold) continue;
        n++;
        in_part[part_of(h)]++;
    }
    int failed = stack_init(&s->all, n, &s->bytes);
    for (uint32_t k = 0; k < PARTS; k++) failed |= stack_init(&s->part[k], in_part[k], &s->bytes);
    if (!failed) return s;
    edm_shards_free(s);
    return NULL;
}

void edm_shards_free(edm_shards *s) {
    if (!s) return;
    stack_free(&s->all);
    for (uint32_t k = 0; k < PARTS; k++) stack_free(&s->part[k]);
    free(s);
}

int edm_shards_add(edm_shards *s, const uint32_t *page, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        if (page[i] >= s->pages) return -1;
        uint64_t h = hash(s->seed, page[i]);
        s->refs++;
        if (sample_bits(h) >= s->threshold) continue;
        s->sampled++;
        stack_use(&s->all, page[i], h);
        if (s->threshold < 1 << HASH_BITS) stack_use(&s->part[part_of(h)], page[i], h);
    }
    return 0;
}

double edm_shards_rate(const edm_shards *s) { return (double)s->threshold / (1 << HASH_BITS); }

static double ratio_at(const struct stack *t, double size, double rate, double refs) {
    uint64_t misses = t->cold;
    uint64_t from = (uint64_t)ceil(size * rate);
    for (uint64_t d = from; d <= t->pages; d++) misses += t->seen[d];
    double ratio = refs > 0 ? (double)misses / (rate * refs) : 0;
    return ratio < 1 ? ratio : 1;
}

void edm_shards_ratio(const edm_shards *s, const uint32_t *sizes, uint32_t n, double *ratio, double *error) {
    double rate = edm_shards_rate(s);
    for (uint32_t i = 0; i < n; i++) {
        double part[PARTS], mean = 0, squares = 0;
        ratio[i] = ratio_at(&s->all, sizes[i], rate, (double)s->refs);
        for (uint32_t k = 0; k < PARTS; k++) mean += part[k] = ratio_at(&s->part[k], sizes[i], rate / PARTS, (double)s->refs);
        mean /= PARTS;
        for (uint32_t k = 0; k < PARTS; k++) squares += (part[k] - mean) * (part[k] - mean);
        error[i] = rate < 1 ? sqrt(squares / (PARTS - 1) / PARTS) : 0;
    }
}

uint64_t edm_shards_sampled(const edm_shards *s) { return s->sampled; }
size_t edm_shards_bytes(const edm_shards *s) { return s->bytes; }
