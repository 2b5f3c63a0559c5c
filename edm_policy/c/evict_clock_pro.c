/* CLOCK-Pro: LIRS on a clock: hot pages, cold pages, and cold pages gone but still on test.
 *
 * Jiang, Chen, Zhang, "CLOCK-Pro: an effective improvement of the CLOCK replacement", USENIX
 * ATC 2005. One circular list; the head is just behind the hot hand.
 *
 *            hot hand: demotes hot pages           a cold page used on test turns hot, and the
 *               v                                  target for cold pages grows; a test that ends
 *     new -> [H][h][c*][C][o*][H] ...  cycle       unused lets it shrink.
 *                  ^cold    ^test
 *                  evicts   ends tests of pages    h hot, c cold, o gone; capitals: used;
 *                           gone (o) over C        *: on test
 *
 *     cold on test --used--> hot --hot hand finds it unused--> cold, not on test
 *          | cold hand, unused                                     | cold hand, unused
 *          v                                                       v
 *        gone, on test --fault--> hot                          evicted, forgotten
 *
 * What the paper leaves open: while nothing was ever evicted, new pages are hot as long as there is
 * room for hot ones (as LIRS starts); a use on test counts when the cold hand finds the bit; a
 * used page on test is left to the cold hand. A page kept after all comes back as if it had faulted.
 * Under `idle` a mapped page is a used one, a look marks it idle, and the hot hand moves in choose()
 * only (marks need an answer to stand in). Under `faults` no bit is ever found set.
 */
#include "core.h"
#include "list.h"

static const edm_evictor edm_clock_pro;

enum { /* in the page's word */
    HOT = 1 << EDM_OWN_SHIFT,
    ON_TEST = 2 << EDM_OWN_SHIFT,
    GONE = 4 << EDM_OWN_SHIFT,   /* in the list, not resident; always on test */
    KNOWN = 8 << EDM_OWN_SHIFT   /* its miss found it on test: insert() makes it hot */
};

enum { HOT_HAND, COLD_HAND, TEST_HAND, HANDS };

struct clock_pro {
    uint32_t hand[HANDS];   /* entries; of no meaning while the list is empty */
    uint32_t cold_target;
    uint32_t entries, hot, gone;
    uint32_t bound;         /* of `gone`: the limit when the test hand was last asked */
    uint8_t ever_evicted;
    edm_link link[];        /* per page; circular, no sentinel */
};

static size_t size(const edm_config *c) {
    return sizeof(struct clock_pro) + (size_t)c->pages * sizeof(edm_link);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct clock_pro *s = mem;
    (void)ctx;
    s->cold_target = p->limit / 100 ? p->limit / 100 : 1;
    return 0;
}

static void set(edm_pager *p, uint32_t page, unsigned bits) { p->word[page] |= (uint16_t)bits; }
static void clear(edm_pager *p, uint32_t page, unsigned bits) { p->word[page] &= (uint16_t)~bits; }
static int is(const edm_pager *p, uint32_t page, unsigned bits) { return (p->word[page] & bits) != 0; }

/* ---- the list ---- */

static void link_at_head(struct clock_pro *s, uint32_t e) {
    if (!s->entries++) {
        s->link[e] = (edm_link){e, e};
        for (unsigned h = 0; h < HANDS; h++) s->hand[h] = e;
        return;
    }
    uint32_t next = s->hand[HOT_HAND];
    edm_list_between(s->link, e, s->link[next].prev, next);
}

static void unlink_entry(struct clock_pro *s, uint32_t e) {
    for (unsigned h = 0; h < HANDS; h++)
        if (s->hand[h] == e) s->hand[h] = s->link[e].next;
    edm_list_remove(s->link, e);
    s->entries--;
}

static void move_to_head(struct clock_pro *s, uint32_t e) {
    unlink_entry(s, e);
    link_at_head(s, e);
}

static uint32_t pass(struct clock_pro *s, unsigned hand) {
    uint32_t e = s->hand[hand];
    s->hand[hand] = s->link[e].next;
    return e;
}

/* ---- tests, and the target they move ---- */

/* A limit lowered by a resize lowers the target. */
static uint32_t most_hot(const edm_pager *p, const struct clock_pro *s) {
    return s->cold_target < p->limit ? p->limit - s->cold_target : 0;
}

static void raise_target(const edm_pager *p, struct clock_pro *s) {
    s->cold_target = s->cold_target < p->limit ? s->cold_target + 1 : p->limit;
}

/* A look that is no look: leaves the bit, marks nothing. */
static int seems_used(const edm_pager *p, uint32_t page) {
    if (p->observe == EDM_OBSERVE_EXACT) return is(p, page, EDM_REF);
    return p->observe == EDM_OBSERVE_IDLE && edm_state_of(p, page) != EDM_IDLE;
}

static int expiring(const edm_pager *p, uint32_t e) {
    return !is(p, e, HOT) && is(p, e, ON_TEST) && (is(p, e, GONE) || !seems_used(p, e));
}

static void end_test(edm_pager *p, struct clock_pro *s, uint32_t e) {
    if (s->cold_target > 1) s->cold_target--;
    if (is(p, e, GONE)) {
        unlink_entry(s, e);
        s->gone--;
    }
    clear(p, e, ON_TEST | GONE);
}

/* Takes the entry of a page that is gone out of the list; 1 if there was one. */
static int recall_test(edm_pager *p, struct clock_pro *s, uint32_t page) {
    if (!is(p, page, GONE)) return 0;
    raise_target(p, s);
    unlink_entry(s, page);
    s->gone--;
    clear(p, page, ON_TEST | GONE);
    return 1;
}

/* ---- the hands ---- */

/* While more pages are hot than may be (tests that end change that). At one that is in somebody's hands, such as the
 * marks of this answer, it stops, and goes on another time: eviction need not wait for it. */
static void run_hot_hand(edm_pager *p, struct clock_pro *s) {
    while (s->hot > most_hot(p, s)) {
        uint32_t e = s->hand[HOT_HAND];
        if (is(p, e, HOT)) {
            if (p->observe == EDM_OBSERVE_IDLE && !edm_takeable(p, e)) return;
            int used = edm_used(p, e);
            if (used == EDM_BUSY) return;
            if (used == EDM_UNUSED) {
                clear(p, e, HOT);
                s->hot--;
            }
            pass(s, HOT_HAND);
        } else {
            pass(s, HOT_HAND);
            if (expiring(p, e)) end_test(p, s, e);
        }
    }
}

static void run_test_hand(edm_pager *p, struct clock_pro *s) {
    s->bound = p->limit;
    while (s->gone > s->bound) {
        uint32_t e = pass(s, TEST_HAND);
        if (expiring(p, e)) end_test(p, s, e);
    }
}

static void drop(edm_pager *p, struct clock_pro *s, uint32_t e) {
    s->ever_evicted = 1;
    pass(s, COLD_HAND);
    if (is(p, e, ON_TEST)) {
        set(p, e, GONE);
        s->gone++;
        run_test_hand(p, s);
    } else {
        unlink_entry(s, e);
    }
}

static int64_t choose(edm_pager *p) {
    struct clock_pro *s = p->ev_mem;
    int hot_hand_due = p->observe == EDM_OBSERVE_IDLE;
    while (s->entries > s->gone) {
        if (hot_hand_due) run_hot_hand(p, s);
        hot_hand_due = 0;
        uint32_t e = s->hand[COLD_HAND];
        int any = s->hot == s->entries - s->gone; /* a batch can leave hot pages only */
        while (is(p, e, any ? GONE : HOT | GONE)) e = s->link[e].next;
        s->hand[COLD_HAND] = e;
        int used = edm_used(p, e);
        if (used == EDM_BUSY) return EDM_AGAIN;
        if (used == EDM_UNUSED) {
            s->hot -= (uint32_t)is(p, e, HOT);
            clear(p, e, HOT);
            drop(p, s, e);
            return e;
        }
        if (is(p, e, HOT)) {
            s->hand[COLD_HAND] = s->link[e].next;
            continue;
        }
        if (is(p, e, ON_TEST)) {
            raise_target(p, s);
            clear(p, e, ON_TEST);
            set(p, e, HOT);
            s->hot++;
            hot_hand_due = 1;
        } else {
            set(p, e, ON_TEST);
        }
        move_to_head(s, e);
    }
    return EDM_NONE;
}

/* ---- pages come and go ---- */

static void miss(edm_pager *p, uint32_t page) {
    clear(p, page, KNOWN);
    if (recall_test(p, p->ev_mem, page)) set(p, page, KNOWN);
}

static void insert(edm_pager *p, uint32_t page) {
    struct clock_pro *s = p->ev_mem;
    int known = is(p, page, KNOWN) || recall_test(p, s, page);
    clear(p, page, KNOWN | EDM_REF);
    if (known || (!s->ever_evicted && s->hot < most_hot(p, s))) {
        set(p, page, HOT);
        s->hot++;
    } else {
        set(p, page, ON_TEST);
    }
    link_at_head(s, page);
    if (p->observe != EDM_OBSERVE_IDLE) run_hot_hand(p, s);
}

static void touch(edm_pager *p, uint32_t page) { set(p, page, EDM_REF); }

static void remove_page(edm_pager *p, uint32_t page) {
    struct clock_pro *s = p->ev_mem;
    s->hot -= (uint32_t)is(p, page, HOT);
    unlink_entry(s, page);
    clear(p, page, HOT | ON_TEST | EDM_REF);
}

static int check(const edm_pager *p) {
    const struct clock_pro *s = p->ev_mem;
    uint32_t hot = 0, gone = 0, known = 0, n = 0;
    for (uint32_t e = s->hand[HOT_HAND]; n < s->entries; n++, e = s->link[e].next) {
        if (s->link[s->link[e].next].prev != e) return -1;
        if (is(p, e, HOT) && is(p, e, ON_TEST | GONE)) return -1;
        if (is(p, e, GONE) ? !is(p, e, ON_TEST) || edm_known(p, e) : !edm_known(p, e)) return -1;
        hot += (uint32_t)is(p, e, HOT);
        gone += (uint32_t)is(p, e, GONE);
        known += (uint32_t)!is(p, e, GONE);
        if (n + 1 == s->entries && s->link[e].next != s->hand[HOT_HAND]) return -1;
    }
    if (hot != s->hot || gone != s->gone || gone > s->bound || known != edm_known_pages(p)) return -1;
    return s->cold_target >= 1 ? 0 : -1;
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) {
    return edm_consume_with(p, &edm_clock_pro, r, i);
}
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_clock_pro, r); }

static const edm_evictor edm_clock_pro = {
    .name = "clock-pro",
    .summary = "LIRS on a clock: hot, cold, and gone but on test",
    .paper = "Jiang, Chen, Zhang 2005",
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
    .keep = insert,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "a mapped page counts as used and a look marks it idle; under faults only refaults make a page hot",
};

const edm_evictor *edm_evictor_clock_pro(void) { return &edm_clock_pro; }
