/* core.h: the inside of a pager, for the files of this folder only.
 *
 * What is here is inline because it runs once per reference: the page word, the
 * checked transition, and the two loops over a stretch of references. A policy file
 * instantiates the loops with its own constant table of hooks (edm_consume_with,
 * edm_classic_with), so that the compiler sees through the function pointers.
 */
#ifndef EDM_CORE_H
#define EDM_CORE_H

#include "pager.h"

#define EDM_INLINE static inline __attribute__((always_inline))
#define EDM_LIKELY(x) __builtin_expect(!!(x), 1)
#define EDM_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define EDM_NO_PAGE UINT32_MAX

enum { EDM_PARAMS_MAX = 8, EDM_QUIET_MAX = 16, EDM_WRITES = 4 };

typedef struct edm_param_set {
    char name[EDM_NAME_MAX]; /* "name:key=value", cut at each ':' */
    struct { const char *key; double value; uint8_t used; } at[EDM_PARAMS_MAX];
    uint32_t n;
} edm_param_set;

struct edm_pager {
    uint16_t *word;       /* per page: state, flags, evictor's byte */
    uint32_t pages;
    uint32_t low, high, limit;
    uint32_t lspt;        /* pages in FETCHING, RESIDENT, IDLE, LEAVING */
    uint32_t leaving;
    uint32_t listed;      /* pages in the evictor's hands (edm_known) */
    uint32_t wished;      /* pages the prefetcher asked for in the event under way */
    struct { uint32_t first, end; } quiet[EDM_QUIET_MAX]; /* see advice.c */
    uint32_t quiet_n;
    uint32_t room;        /* pages it wants free for its next window */
    uint32_t answer_most; /* commands the answer of the reclaim under way may have */
    uint32_t passed;      /* pages in somebody's hands that this reclaim passed over */
    uint8_t observe, dirty_always, lpet_awake, in_session;
    uint8_t writes;       /* faults in a row that looked ahead and were writes, EDM_WRITES at most */
    uint8_t stopped;      /* edm_stop(): the loop under way ends at the next reference */
    uint64_t now;
    uint64_t position;    /* index of the reference under way (edm_set_position, the loops) */
    uint64_t session;     /* counts LPET's wakes: a new one begins after a reclaim that ended OK */
    uint64_t rng;
    const uint32_t *future;
    uint64_t future_n;
    uint32_t *left_at;    /* working_set: per page, evictions so far when it left; 0: it never did */
    uint32_t left;        /* evictions so far */
    uint64_t refault_distance[33];
    uint64_t auto_since, auto_refaults; /* the look before: when, and the refaults counted then */
    const uint32_t *plan;
    uint64_t plan_n;
    const edm_evictor *ev;
    const edm_prefetcher *pf;
    void *ev_mem, *ev_ctx, *pf_mem, *pf_ctx;
    edm_cmds *out;        /* where the event under way writes its commands */
    edm_stats stats;
    edm_log_sink log_sink;
    void *log_ctx;
    edm_rec *log_buf;
    uint64_t log_n, log_cap;
    edm_config config;
    edm_param_set ev_params, pf_params;
    size_t bytes;
    char *why;
    size_t why_size;
};

/* Bit t of edm_allowed[s]: a page may go from state s to state t. */
extern const uint8_t edm_allowed[EDM_STATES];
_Noreturn void edm_bad_transition(const edm_pager *p, uint32_t page, unsigned from, unsigned to);

EDM_INLINE unsigned edm_state_of(const edm_pager *p, uint32_t page) {
    return p->word[page] & EDM_STATE_MASK;
}

EDM_INLINE int edm_in_lspt(unsigned state) { return state >= EDM_FETCHING && state <= EDM_LEAVING; }

/* The only way a page changes its state; keeps lspt and leaving. */
EDM_INLINE void edm_move(edm_pager *p, uint32_t page, unsigned to) {
    unsigned from = p->word[page] & EDM_STATE_MASK;
    if (EDM_UNLIKELY(!(edm_allowed[from] >> to & 1))) edm_bad_transition(p, page, from, to);
    p->word[page] = (uint16_t)((p->word[page] & ~EDM_STATE_MASK) | to);
    p->lspt += (uint32_t)edm_in_lspt(to) - (uint32_t)edm_in_lspt(from);
    p->leaving += (uint32_t)(to == EDM_LEAVING) - (uint32_t)(from == EDM_LEAVING);
}

/* What an evictor may take: at rest in the LSPT and in nobody's hands. */
EDM_INLINE int edm_takeable(const edm_pager *p, uint32_t page) {
    uint16_t w = p->word[page];
    unsigned s = w & EDM_STATE_MASK;
    return (s == EDM_RESIDENT || s == EDM_IDLE) && !(w & (EDM_HELD | EDM_PENDING));
}

/* A flush in place is under way: a copy of the page is being made, or stored. */
EDM_INLINE int edm_cleaning(uint16_t w) {
    return (w & (EDM_STATE_MASK | EDM_PENDING)) == (EDM_RESIDENT | EDM_PENDING);
}

/* Is the page in the evictor's hands: given to it, and not given back? PENDING: a rescue or a
 * flush is under way, its place is kept. For check() hooks, with the count of such pages. */
EDM_INLINE int edm_known(const edm_pager *p, uint32_t page) {
    uint16_t w = p->word[page];
    unsigned s = w & EDM_STATE_MASK;
    return s == EDM_RESIDENT || s == EDM_IDLE || (edm_in_lspt(s) && (w & EDM_PENDING));
}
int64_t edm_known_pages(const edm_pager *p);

/* All changes of what it has, outside of the classical loop; keep p->listed. how: its insert, or keep. */
EDM_INLINE void edm_list(edm_pager *p, void (*how)(edm_pager *p, uint32_t page), uint32_t page) {
    how(p, page);
    p->listed++;
}

EDM_INLINE void edm_unlist(edm_pager *p, uint32_t page) {
    p->ev->remove(p, page);
    p->listed--;
}

EDM_INLINE int64_t edm_choose(edm_pager *p) {
    int64_t victim = p->ev->choose(p);
    p->listed -= victim >= 0;
    return victim;
}

EDM_INLINE uint64_t edm_random(edm_pager *p) { /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (p->rng += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* An index below n: the high half of a draw, scaled. */
EDM_INLINE uint32_t edm_random_below(edm_pager *p, uint32_t n) {
    return (uint32_t)(((edm_random(p) >> 32) * (uint64_t)n) >> 32);
}

/* ---- what bit-keeping evictors ask of a page ---- */

enum edm_used_answer { EDM_UNUSED = 0, EDM_USED = 1, EDM_BUSY = 2 };

int edm_mark(edm_pager *p, uint32_t page); /* MARK_IDLE; 0 when only the victim's place is left in the answer */

/* Was the page used since it was last looked at? Asking is also the next look:
 * exact: reads and clears EDM_REF. idle: a mapped page counts as used and is marked
 * idle now; an idle one was not touched since its mark. faults: nobody knows, so no.
 * BUSY: end this step (choose returns EDM_AGAIN), its commands must be carried out first, or
 * every page is in somebody's hands (a page that is counts as used, once round). */
EDM_INLINE int edm_used(edm_pager *p, uint32_t page) {
    uint16_t w = p->word[page];
    if (EDM_LIKELY(p->observe == EDM_OBSERVE_EXACT)) {
        p->word[page] = (uint16_t)(w & ~EDM_REF);
        return (w & EDM_REF) != 0;
    }
    if (p->observe == EDM_OBSERVE_FAULTS) return EDM_UNUSED;
    if (EDM_UNLIKELY(!edm_takeable(p, page))) return p->out->n || p->passed++ >= p->lspt ? EDM_BUSY : EDM_USED;
    if ((w & EDM_STATE_MASK) == EDM_IDLE) return EDM_UNUSED;
    return edm_mark(p, page) ? EDM_USED : EDM_BUSY;
}

/* ---- the log ---- */

EDM_INLINE void edm_log(edm_pager *p, uint8_t kind, uint32_t page, uint8_t flags) {
    if (EDM_LIKELY(!p->log_sink)) return;
    p->log_buf[p->log_n++] = (edm_rec){p->now, page, kind, flags, 0};
    if (p->log_n == p->log_cap) edm_log_flush(p);
}

/* ---- the working set ---- */

void edm_refault(edm_pager *p, uint32_t page); /* a miss: has the page been here before? */
void edm_auto(edm_pager *p);                   /* once an event: is it time to look at the limit? */

EDM_INLINE void edm_note_left(edm_pager *p, uint32_t page) {
    if (EDM_LIKELY(!p->left_at)) return;
    if (!++p->left) p->left = 1;
    p->left_at[page] = p->left;
}

EDM_INLINE void edm_note_miss(edm_pager *p, uint32_t page) {
    if (EDM_UNLIKELY(p->left_at != NULL)) edm_refault(p, page);
}

/* ---- the loops ---- */

void edm_prefetch_seen(edm_pager *p, uint32_t page);   /* first seen use of a prefetched page */
void edm_prefetch_lost(edm_pager *p, uint32_t page);   /* it leaves without one */

/* A use the policy sees. */
EDM_INLINE void edm_see_use(edm_pager *p, const edm_evictor *ev, uint32_t page) {
    if (EDM_UNLIKELY(p->word[page] & EDM_PREFETCHED)) edm_prefetch_seen(p, page);
    ev->touch(p, page);
}

EDM_INLINE uint64_t edm_consume_with(edm_pager *p, const edm_evictor *ev, const edm_refs *r, uint64_t i) {
    const uint32_t *pages = r->page;
    const uint8_t *write = r->write;
    const uint64_t n = r->n, first = i;
    const uint16_t need_read = EDM_STATE_MASK;
    const uint16_t need_write = p->dirty_always ? EDM_STATE_MASK : EDM_STATE_MASK | EDM_DIRTY;
    const uint16_t is_write = p->dirty_always ? EDM_RESIDENT : EDM_RESIDENT | EDM_DIRTY;
    if (p->observe != EDM_OBSERVE_EXACT) { /* a mapped page is touched unseen */
        uint16_t *word = p->word;
        if (!write)
            while (i < n && (word[pages[i]] & need_read) == EDM_RESIDENT) i++;
        else
            while (i < n && (write[i] ? (word[pages[i]] & need_write) == is_write
                                      : (word[pages[i]] & need_read) == EDM_RESIDENT)) i++;
    } else {
        for (; i < n; i++) {
            uint32_t page = pages[i];
            uint8_t w = write ? write[i] : 0;
            uint16_t word = p->word[page];
            if (EDM_UNLIKELY((word & need_read) != EDM_RESIDENT)) break;
            if (w && (word & need_write) != is_write) break;
            p->position = i;
            if (EDM_UNLIKELY(p->log_sink != NULL)) edm_log(p, EDM_EV_TOUCHED, page, w);
            edm_see_use(p, ev, page);
        }
    }
    p->position = i;
    p->stats.refs += i - first;
    return i;
}

/* A page that is in no list of the evictor any more leaves the classical cache. */
EDM_INLINE void edm_classic_gone(edm_pager *p, uint32_t page) {
    uint16_t w = p->word[page];
    edm_move(p, page, EDM_LEAVING);
    if (EDM_UNLIKELY(w & EDM_PREFETCHED)) edm_prefetch_lost(p, page);
    if (w & EDM_DIRTY) {
        p->stats.writebacks++;
        w |= EDM_COPY;
    } else {
        p->stats.clean_drops++;
    }
    p->stats.evictions++;
    edm_note_left(p, page);
    edm_move(p, page, w & EDM_COPY ? EDM_REMOTE : EDM_NEW);
    p->word[page] = (uint16_t)((p->word[page] & ~EDM_DIRTY) | (w & EDM_COPY));
}

/* One eviction of the classical cache; else what choose() answered: EDM_NONE, EDM_AGAIN, EDM_STAY. */
EDM_INLINE int edm_classic_evict(edm_pager *p, const edm_evictor *ev) {
    int64_t victim = ev->choose(p);
    if (EDM_UNLIKELY(victim < 0)) return (int)victim;
    edm_classic_gone(p, (uint32_t)victim);
    return 0;
}

/* A large region's page words and lists do not fit the processor's cache; which will be wanted is known. */
enum { EDM_AHEAD = 16 };

EDM_INLINE void edm_warm(edm_pager *p, const edm_evictor *ev, uint32_t page) {
    __builtin_prefetch(&p->word[page], 1);
    if (ev->warm) ev->warm(p, page);
}

EDM_INLINE uint64_t edm_classic_with(edm_pager *p, const edm_evictor *ev, const edm_refs *r) {
    const uint32_t *pages = r->page;
    const uint8_t *write = r->write;
    const uint64_t n = r->n;
    const uint16_t dirty_now = p->dirty_always ? EDM_DIRTY : 0;
    edm_cmds none;
    uint64_t misses = 0;
    none.n = 0;
    p->out = &none;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t page = pages[i];
        uint16_t w = p->word[page];
        uint16_t dirty = write && write[i] ? EDM_DIRTY : dirty_now;
        p->position = i;
        if (EDM_LIKELY(i + EDM_AHEAD < n)) edm_warm(p, ev, pages[i + EDM_AHEAD]);
        if (EDM_LIKELY((w & EDM_STATE_MASK) == EDM_RESIDENT)) {
            if (dirty & ~w) p->word[page] = (uint16_t)(w | dirty);
            ev->touch(p, page);
            continue;
        }
        misses++;
        if (w & EDM_COPY) p->stats.fetches++;
        else p->stats.zero_fills++;
        ev->miss(p, page);
        edm_note_miss(p, page);
        if (p->lspt >= p->limit) {
            p->session++;
            while (p->lspt > p->low && !p->stopped) {
                int none = edm_classic_evict(p, ev);
                if (EDM_UNLIKELY(none == EDM_STAY)) break;
                if (EDM_UNLIKELY(none)) p->stopped = 1;
            }
        }
        if (EDM_UNLIKELY(p->stopped)) {
            p->out = NULL;
            p->stats.refs += i;
            p->stats.faults += misses;
            return misses;
        }
        edm_move(p, page, EDM_FETCHING);
        edm_move(p, page, EDM_RESIDENT);
        if (dirty) p->word[page] |= EDM_DIRTY;
        ev->insert(p, page);
    }
    p->out = NULL;
    p->stats.refs += n;
    p->stats.faults += misses;
    return misses;
}

#endif
