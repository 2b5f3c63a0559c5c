/* S3-FIFO: a small FIFO sifts newcomers, a main FIFO keeps the rest, a ghost FIFO remembers.
 *
 * Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP
 * 2023, as its authors revised it in 12/2024 (two uses to pass, main filled at the start).
 * C = the limit.
 *
 *    miss ---> [ small: C/10 ] --2 uses--> [ main: the rest ] <-- used: once more round
 *                    | fewer                     | unused
 *                    v                           v
 *    out, id to ( ghost: 9C/10 ids )            out
 *                    `-- miss on an id ---> main
 *
 * Uses are counted, up to three matter. Until the first eviction, what small cannot
 * hold goes to main. Departure: the original never inserts where C/10 <= 1 (C < 20); memory
 * cannot bypass, so a page is always inserted here, and small has at least one frame. A
 * chosen page that stays after all goes to main. A prefetched page is a new one.
 *
 * Under `idle` the hand of either queue marks a mapped page and sends it round again; a
 * rescue is the use that is counted, and one is enough to pass from small to main.
 */
#include "lists.h"

static const edm_evictor edm_s3fifo;

enum {
    SMALL = 1, MAIN = 2, GHOST = 3,
    USE = 1 << EDM_TAG_FREE, USES = 3 * USE, /* the counter, 0 .. 3 */
    BOUND_FOR_MAIN = 4 * USE
};

struct s3fifo {
    uint32_t ghost_most; /* the bound of the ghosts when it was last enforced */
    uint32_t evicted;    /* something was, ever */
    edm_lists l;
};

static size_t size(const edm_config *c) { return sizeof(struct s3fifo) + edm_lists_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct s3fifo *s = mem;
    (void)ctx;
    edm_lists_init(p, &s->l);
    return 0;
}

static void miss(edm_pager *p, uint32_t page) {
    struct s3fifo *s = p->ev_mem;
    int known = edm_where(p, page) == GHOST;
    edm_exit(p, &s->l, page);
    if (known) edm_set_tag(p, page, BOUND_FOR_MAIN);
}

static void insert(edm_pager *p, uint32_t page) {
    struct s3fifo *s = p->ev_mem;
    uint32_t small_most = p->limit < 20 ? 1 : p->limit / 10;
    int filling = !s->evicted && s->l.count[SMALL] >= small_most;
    unsigned to = edm_tag(p, page) & BOUND_FOR_MAIN || filling ? MAIN : SMALL;
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, to);
}

static void keep(edm_pager *p, uint32_t page) {
    struct s3fifo *s = p->ev_mem;
    edm_exit(p, &s->l, page);
    edm_enter(p, &s->l, page, MAIN | USE);
}

static void touch(edm_pager *p, uint32_t page) {
    if ((edm_tag(p, page) & USES) != USES) p->word[page] += USE << EDM_OWN_SHIFT;
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct s3fifo *s = p->ev_mem;
    edm_exit(p, &s->l, page);
}

static void remember(edm_pager *p, struct s3fifo *s, uint32_t page) {
    s->ghost_most = (uint32_t)(9 * (uint64_t)p->limit / 10);
    while (s->l.count[GHOST] && s->l.count[GHOST] >= s->ghost_most)
        edm_exit(p, &s->l, edm_oldest(p, &s->l, GHOST));
    if (s->ghost_most) edm_enter(p, &s->l, page, GHOST);
}

static int look(edm_pager *p, uint32_t page) {
    return p->observe == EDM_OBSERVE_IDLE ? edm_used(p, page) : EDM_UNUSED;
}

/* The oldest of small leaves, passes to main, or goes round; EDM_NONE: small is empty. */
static int64_t choose_small(edm_pager *p, struct s3fifo *s) {
    const unsigned pass = p->observe == EDM_OBSERVE_IDLE ? USE : 2 * USE;
    while (s->l.count[SMALL]) {
        uint32_t page = edm_oldest(p, &s->l, SMALL);
        if ((edm_tag(p, page) & USES) >= pass) {
            edm_exit(p, &s->l, page);
            edm_enter(p, &s->l, page, MAIN);
            continue;
        }
        int used = look(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            edm_exit(p, &s->l, page);
            remember(p, s, page);
            return page;
        }
        edm_renew(p, &s->l, page);
    }
    return EDM_NONE;
}

/* The oldest of main leaves, or goes round for one use less; EDM_NONE: main is empty. */
static int64_t choose_main(edm_pager *p, struct s3fifo *s) {
    while (s->l.count[MAIN]) {
        uint32_t page = edm_oldest(p, &s->l, MAIN);
        int used = look(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (edm_tag(p, page) & USES) {
            p->word[page] -= USE << EDM_OWN_SHIFT;
        } else if (used == EDM_UNUSED) {
            edm_exit(p, &s->l, page);
            return page;
        }
        edm_renew(p, &s->l, page);
    }
    return EDM_NONE;
}

static int64_t choose(edm_pager *p) {
    struct s3fifo *s = p->ev_mem;
    int64_t victim = EDM_NONE;
    s->evicted = 1;
    if (s->l.count[MAIN] <= p->limit - p->limit / 10) victim = choose_small(p, s);
    return victim == EDM_NONE ? choose_main(p, s) : victim;
}

static int check(const edm_pager *p) {
    const struct s3fifo *s = p->ev_mem;
    if (s->l.count[GHOST] > s->ghost_most) return -1;
    return edm_check_lists(p, &s->l, 1 << SMALL | 1 << MAIN);
}

static void warm(edm_pager *p, uint32_t page) {
    struct s3fifo *s = p->ev_mem;
    __builtin_prefetch(&s->l.link[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_s3fifo, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_s3fifo, r); }

static const edm_evictor edm_s3fifo = {
    .name = "s3fifo",
    .summary = "a small FIFO sifts newcomers, a main FIFO keeps the rest, ghosts come back to main",
    .paper = "Yang et al., SOSP 2023, revised 12/2024",
    .params = "",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = sizeof(edm_link),
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
    .idle_note = "mapped pages are marked and go round once more; one rescue passes from small to main; "
                 "under faults only ghosts tell pages apart",
};

const edm_evictor *edm_evictor_s3fifo(void) { return &edm_s3fifo; }
