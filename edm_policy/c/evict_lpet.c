/* LPET: the eviction routine of the original EDM (Technion and Red Hat, 2022).
 *
 * Pages stand in insertion order in a cyclic list, and a hand goes on from where it
 * stopped last time. A page not idle is marked idle, and the hand goes on; an idle one
 * is evicted. After one whole round (as many steps as the list was long when the
 * session began) it evicts whatever it meets, so that it always ends.
 *
 *        hand
 *         v
 *    [a][B][C][d] ...      capitals: used since last looked at (or never looked at)
 *     ^ new pages enter just behind the hand: they are met last
 *
 * It is CLOCK whose new page enters with its bit set, with the bound of one round a
 * session. A session lasts from LPET's wake at the high watermark to the low one.
 *
 * Where a look is a mark (idle observation), a used page costs a rescue a round, which is worth
 * it only if use foretells use. One page in SAMPLE is on trial: it was used, or not, between its mark
 * and the next look; and in the round after? (A round: as many pages leave as are in the list. Looks are no
 * measure of time: the hand may pass the whole list at once.) Where the used are wanted again no more
 * often than the unused, only the sample is marked, and the others leave in the order they came.
 *
 * A page that was rescued after each of its last two marks is left alone at the next look: one that is always in use
 * pays a rescue every other round.
 */
#include "lists.h"

static const edm_evictor edm_lpet;

enum { SAMPLE = 16, TRIALS = 256 /* of a kind, for a verdict */, SINCE_MASK = (1 << 28) - 1 };
enum { RESCUED = 1 << EDM_OWN_SHIFT /* after its last mark */, RESTS = 2 << EDM_OWN_SHIFT /* at the next look */ };
enum { NO_TRIAL, OF_USED, OF_UNUSED };

/* used: since its mark. since: pages that had left when its trial began. */
struct sampled { uint32_t used : 1, trial : 2, cohort : 1, since : 28; };

struct trials { uint32_t all, again; }; /* again: ended by a use within a round */

struct cohort { struct trials used, unused; }; /* the trials that began in one round */

struct lpet { /* its links follow it in memory, and the samples them */
    uint32_t hand;     /* the next page to look at; the sentinel when it is at the end */
    uint32_t count;    /* pages in the list */
    uint32_t budget;   /* looks left in this session's round of grace */
    uint64_t session;  /* the session that budget is for */
    uint32_t left;     /* pages that left, ever */
    uint32_t round, round_began, round_length; /* rounds of trials: their number; in pages that leave */
    struct cohort cohort[2], known; /* of this round and the one before; of those before that */
    struct sampled *sampled; /* one a group of SAMPLE pages; NULL: every page is marked */
    uint8_t sparing;   /* only the sample is marked */
    edm_link link[];
};

static size_t size(const edm_config *c) {
    return sizeof(struct lpet) + ((size_t)c->pages + 1) * sizeof(edm_link) +
           (c->pages / SAMPLE + 1) * sizeof(struct sampled);
}

static int init(edm_pager *p, void *mem, void *ctx) {
    struct lpet *s = mem;
    double adapt = edm_param(p, "adapt", 1);
    (void)ctx;
    if (adapt != 0 && adapt != 1) return edm_refuse(p, "adapt must be 0 or 1");
    edm_list_init(s->link, p->pages);
    s->hand = p->pages;
    if (adapt == 1 && p->observe == EDM_OBSERVE_IDLE) s->sampled = (struct sampled *)(s->link + p->pages + 1);
    return 0;
}

/* ---- what a mark is worth ---- */

/* The sampled one of its group, at a place that no stride through memory keeps missing. NULL: it is not. */
static struct sampled *sampled(const struct lpet *s, uint32_t page) {
    uint32_t group = page / SAMPLE;
    if (!s->sampled || page % SAMPLE != (group * 0x9e3779b1u) >> 28) return NULL;
    return &s->sampled[group];
}

static struct trials *trials_of(struct lpet *s, const struct sampled *t) {
    return t->trial == OF_USED ? &s->cohort[t->cohort].used : &s->cohort[t->cohort].unused;
}

static int on_trial(const struct lpet *s, const struct sampled *t) {
    return t->trial && ((s->left - t->since) & SINCE_MASK) <= s->round_length;
}

static void begin_trial(struct lpet *s, struct sampled *t) {
    if (on_trial(s, t)) return;
    *t = (struct sampled){0, t->used ? OF_USED : OF_UNUSED, s->round & 1, s->left & SINCE_MASK};
    trials_of(s, t)->all++;
}

/* Its page is used, or wanted back. */
static void end_trial(struct lpet *s, struct sampled *t) {
    if (on_trial(s, t)) trials_of(s, t)->again++;
    t->trial = NO_TRIAL;
}

static void add(struct trials *known, const struct trials *more) {
    if (known->all >= TRIALS) *known = (struct trials){0};
    known->all += more->all;
    known->again += more->again;
}

/* A round has ended, and with it the trials of the one before. The used must be wanted again a quarter
 * more often, and by 0.02: chance does not make that of equals in so many trials. */
static void judge(struct lpet *s) {
    struct cohort *ended = &s->cohort[(s->round - 1) & 1];
    struct trials *used = &s->known.used, *unused = &s->known.unused;
    add(used, &ended->used);
    add(unused, &ended->unused);
    if (used->all >= TRIALS && unused->all >= TRIALS)
        s->sparing = 100ull * used->again * unused->all < (125ull * unused->again + 2ull * unused->all) * used->all;
    *ended = (struct cohort){0};
    s->round++;
    s->round_began = s->left;
    s->round_length = s->count;
}

/* ---- the list ---- */

/* It is wanted, and out. */
static void miss(edm_pager *p, uint32_t page) {
    struct sampled *t = sampled(p->ev_mem, page);
    if (!t) return;
    end_trial(p->ev_mem, t);
    t->used = 0;
}

static void insert(edm_pager *p, uint32_t page) {
    struct lpet *s = p->ev_mem;
    edm_list_between(s->link, page, s->link[s->hand].prev, s->hand);
    s->count++;
    p->word[page] = (uint16_t)((p->word[page] & ~(RESCUED | RESTS)) | EDM_REF);
}

static void keep(edm_pager *p, uint32_t page) {
    miss(p, page);
    insert(p, page);
}

static void seen(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void rescued(edm_pager *p, uint32_t page) {
    if (p->word[page] & RESCUED) p->word[page] |= RESTS;
    p->word[page] |= RESCUED;
}

static void touch(edm_pager *p, uint32_t page) {
    struct lpet *s = p->ev_mem;
    struct sampled *t = sampled(s, page);
    seen(p, page);
    if (t) {
        end_trial(s, t);
        t->used = 1;
    } else if (s->sampled && edm_state_of(p, page) == EDM_FETCHING) {
        rescued(p, page);
    }
}

static void take(edm_pager *p, struct lpet *s, uint32_t page) {
    if (s->hand == page) s->hand = s->link[page].next;
    edm_list_remove(s->link, page);
    s->count--;
    p->word[page] &= (uint16_t)~EDM_REF;
}

static void remove_page(edm_pager *p, uint32_t page) { take(p, p->ev_mem, page); }

/* edm_used(), but of a page that is not marked, since that is worth nothing, or since it rests. */
static int used_since(edm_pager *p, struct lpet *s, uint32_t page) {
    int mapped = edm_state_of(p, page) == EDM_RESIDENT;
    struct sampled *t = sampled(s, page);
    if (s->sparing && mapped && !t && edm_takeable(p, page)) return EDM_UNUSED;
    if (mapped && (p->word[page] & RESTS)) {
        p->word[page] &= (uint16_t)~RESTS;
        return EDM_USED;
    }
    int used = edm_used(p, page);
    if (t && (used == EDM_USED ? t->used : used == EDM_UNUSED)) begin_trial(s, t);
    return used;
}

static int64_t choose(edm_pager *p) {
    struct lpet *s = p->ev_mem;
    if (s->session != p->session) {
        s->session = p->session;
        s->budget = s->count;
    }
    uint32_t skipped = 0;
    while (s->count) {
        if (s->hand == p->pages) s->hand = s->link[s->hand].next;
        uint32_t page = s->hand;
        if (s->budget) {
            int used = used_since(p, s, page);
            if (used == EDM_BUSY) return EDM_AGAIN;
            s->budget--;
            if (used == EDM_USED) {
                s->hand = s->link[page].next;
                continue;
            }
        } else if (EDM_UNLIKELY(!edm_takeable(p, page))) {
            if (p->out->n) return EDM_AGAIN;
            if (skipped++ == s->count) return EDM_NONE;
            s->hand = s->link[page].next;
            continue;
        }
        take(p, s, page);
        if (++s->left - s->round_began >= s->round_length) judge(s);
        return page;
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct lpet *s = p->ev_mem;
    return edm_check_ring(p, s->link, p->pages, s->count);
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

/* Where every use is seen there is no sample: its hooks for the loops. */
static const edm_evictor exact = {.miss = nothing, .insert = insert, .touch = seen, .choose = choose};

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &exact, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &exact, r); }

static const edm_evictor edm_lpet = {
    .name = "lpet",
    .summary = "the original EDM's: idle pages in cyclic order, one round of grace",
    .paper = "EDM, Technion and Red Hat 2022",
    .params = "adapt=1 (0, 1): fewer marks, where they tell nothing and of pages always in use; 0: every page, as in the original",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_IDLE,
    .bytes_per_page = sizeof(edm_link) + 1,
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
    .check = check,
    .idle_note = "as defined; under faults nothing is ever seen used, which makes it FIFO",
};

const edm_evictor *edm_evictor_lpet(void) { return &edm_lpet; }
