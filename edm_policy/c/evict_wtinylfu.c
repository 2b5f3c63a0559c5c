/* W-TinyLFU: a small LRU window before a segmented LRU, with admission by frequency.
 *
 * Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy", ACM TOS
 * 13(4), 2017. Window: 1 % of the limit, at least a frame. Main: the rest; its protected
 * part 80 % at most. Frequencies: a count-min sketch (sketch.h), every reference recorded.
 *
 *     new --> [ window, LRU ] --oldest: candidate--+            used in probation
 *                                                  v            +---------------> [ protected ]
 *                              fewer uses leaves:  ? <--oldest-- [ probation ] <--- over 80 % --+
 *                              (equal: candidate)  winner --> newest of probation
 *
 * Departure: memory cannot bypass, a page is always brought in; so the contest is held when the
 * window must give a frame up, which is the same decision made at the miss. A batch of
 * evictions drains the window through contests, then the main part's oldest. Under `idle` the
 * sketch and the lists see faults and rescues; the loser is looked at once before it leaves.
 * The sketch is sized by the limit the pager is made with; the parts follow a resize.
 */
#include "core.h"
#include "list.h"
#include "sketch.h"

#include <stdlib.h>

static const edm_evictor edm_wtinylfu;

enum { WINDOW, PROBATION, PROTECTED, PARTS }; /* in the page's word: where it stands */
enum { PART_MASK = 3 };

struct wtinylfu {
    uint32_t limit;       /* the parts' sizes are for this one */
    uint32_t window_most, main_most, protected_most;
    uint32_t in[PARTS];   /* pages in each part */
    edm_link *link;       /* the pages', then the parts' sentinels; head = MRU */
    edm_sketch sketch;
};

static uint32_t frames(const edm_config *c) { return c->limit < c->pages ? c->limit : c->pages; }

/* size() comes before edm_param() can be asked. Any number but 0 gets the room; init() refuses the wrong ones. */
static int has_doorkeeper(const edm_config *c) {
    const char key[] = ":doorkeeper=", *at = strstr(c->evict, key);
    return at && strtod(at + sizeof key - 1, NULL) != 0;
}

static size_t size(const edm_config *c) {
    size_t links = ((size_t)c->pages + PARTS) * sizeof(edm_link);
    return sizeof(struct wtinylfu) + edm_sketch_bytes(frames(c), has_doorkeeper(c)) + links;
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct wtinylfu *s = mem;
    double door = edm_param(p, "doorkeeper", 0);
    (void)ctx;
    if (door != 0 && door != 1) return edm_refuse(p, "wtinylfu: doorkeeper is 0 or 1");
    uint32_t n = frames(&p->config);
    edm_sketch_init(&s->sketch, s + 1, n, door == 1);
    s->link = (edm_link *)((uint8_t *)(s + 1) + edm_sketch_bytes(n, door == 1));
    for (uint32_t part = 0; part < PARTS; part++) edm_list_init(s->link, p->pages + part);
    return 0;
}

EDM_INLINE void settle(const edm_pager *p, struct wtinylfu *s) {
    if (EDM_LIKELY(s->limit == p->limit)) return;
    s->limit = p->limit;
    s->window_most = p->limit / 100 ? p->limit / 100 : 1;
    s->main_most = p->limit - s->window_most;
    s->protected_most = (uint32_t)((uint64_t)s->main_most * 8 / 10);
}

EDM_INLINE void enter(edm_pager *p, struct wtinylfu *s, unsigned part, uint32_t page) {
    p->word[page] = (uint16_t)((p->word[page] & ~(PART_MASK << EDM_OWN_SHIFT)) | part << EDM_OWN_SHIFT);
    edm_list_push_head(s->link, p->pages + part, page);
    s->in[part]++;
}

EDM_INLINE unsigned leave(const edm_pager *p, struct wtinylfu *s, uint32_t page) {
    unsigned part = p->word[page] >> EDM_OWN_SHIFT & PART_MASK;
    edm_list_remove(s->link, page);
    s->in[part]--;
    return part;
}

EDM_INLINE uint32_t oldest(const edm_pager *p, const struct wtinylfu *s, unsigned part) {
    return s->link[p->pages + part].prev;
}

static void miss(edm_pager *p, uint32_t page) {
    struct wtinylfu *s = p->ev_mem;
    edm_sketch_record(&s->sketch, page);
}

static void insert(edm_pager *p, uint32_t page) {
    struct wtinylfu *s = p->ev_mem;
    settle(p, s);
    while (s->in[WINDOW] >= s->window_most) {
        uint32_t moved = oldest(p, s, WINDOW);
        leave(p, s, moved);
        enter(p, s, PROBATION, moved);
    }
    enter(p, s, WINDOW, page);
}

static void touch(edm_pager *p, uint32_t page) {
    struct wtinylfu *s = p->ev_mem;
    edm_sketch_record(&s->sketch, page);
    unsigned part = p->word[page] >> EDM_OWN_SHIFT & PART_MASK;
    if (part != PROBATION) {
        if (s->link[p->pages + part].next == page) return;
        edm_list_remove(s->link, page);
        edm_list_push_head(s->link, p->pages + part, page);
        return;
    }
    settle(p, s);
    leave(p, s, page);
    enter(p, s, PROTECTED, page);
    if (s->in[PROTECTED] > s->protected_most) {
        uint32_t demoted = oldest(p, s, PROTECTED);
        leave(p, s, demoted);
        enter(p, s, PROBATION, demoted);
    }
}

static void remove_page(edm_pager *p, uint32_t page) { leave(p, p->ev_mem, page); }

/* Who would leave now: the loser of the contest, or the oldest there is. */
static uint32_t loser(const edm_pager *p, const struct wtinylfu *s) {
    uint32_t main_victim = oldest(p, s, s->in[PROBATION] ? PROBATION : PROTECTED);
    if (!s->in[WINDOW]) return main_victim;
    uint32_t candidate = oldest(p, s, WINDOW);
    if (!(s->in[PROBATION] + s->in[PROTECTED])) return candidate;
    return edm_sketch_estimate(&s->sketch, candidate) > edm_sketch_estimate(&s->sketch, main_victim) ? main_victim
                                                                                                     : candidate;
}

static int64_t choose(edm_pager *p) {
    struct wtinylfu *s = p->ev_mem;
    settle(p, s);
    while (s->in[WINDOW] + s->in[PROBATION] + s->in[PROTECTED]) {
        uint32_t victim = loser(p, s), candidate = oldest(p, s, WINDOW);
        if (p->observe == EDM_OBSERVE_IDLE) {
            int used = edm_used(p, victim);
            if (used == EDM_BUSY) return EDM_AGAIN;
            if (used == EDM_USED) {
                enter(p, s, leave(p, s, victim), victim);
                continue;
            }
        }
        if (leave(p, s, victim) != WINDOW && s->in[WINDOW]) { /* the candidate has won the frame */
            leave(p, s, candidate);
            enter(p, s, PROBATION, candidate);
        }
        return victim;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct wtinylfu *s = p->ev_mem;
    uint32_t total = 0;
    for (uint32_t part = 0; part < PARTS; part++) {
        uint32_t list = p->pages + part, n = 0;
        for (uint32_t page = s->link[list].next; page != list; page = s->link[page].next)
            if (++n > s->in[part] || (p->word[page] >> EDM_OWN_SHIFT & PART_MASK) != (int)part || !edm_known(p, page))
                return -1;
        if (n != s->in[part]) return -1;
        total += n;
    }
    if (s->limit == p->limit && (s->in[WINDOW] > s->window_most)) return -1;
    return total == edm_known_pages(p) ? 0 : -1;
}

static void warm(edm_pager *p, uint32_t page) {
    struct wtinylfu *s = p->ev_mem;
    __builtin_prefetch(&s->link[page], 1);
    edm_sketch_warm(&s->sketch, page);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_wtinylfu, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_wtinylfu, r); }

static const edm_evictor edm_wtinylfu = {
    .name = "wtinylfu",
    .summary = "LRU window, segmented LRU, admission by frequency sketch",
    .paper = "Einziger, Friedman, Manes 2017",
    .params = "doorkeeper=0 (0, 1): a Bloom filter before the sketch; takes up to 8 bytes a page more",
    .needs = EDM_OBSERVE_IDLE,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(edm_link) + EDM_SKETCH_BYTES_PER_FRAME,
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
    .idle_note = "a use is a fault or a rescue; the loser is marked idle and gets one more round of its part",
};

const edm_evictor *edm_evictor_wtinylfu(void) { return &edm_wtinylfu; }
