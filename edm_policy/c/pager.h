/* pager.h: THE contract between the policy layer and whoever drives it.
 *
 * A pager is a state machine without I/O. A driver (the SimPy model, the
 * userfaultfd runtime) reports events by calling the functions below; the pager
 * answers with commands, which the driver carries out and then confirms. The
 * pager never reads a clock (events carry `now`, nanoseconds or, in lockstep, the
 * number of the reference), draws only from its own seeded generator, allocates
 * nothing after edm_pager_new(), and is deterministic: the same events give the
 * same commands. It takes no lock: a driver with threads holds one around each call.
 *
 * LSPT (resident set) = pages in FETCHING, RESIDENT, IDLE, LEAVING. Its size is what
 * the watermarks look at: low < high <= limit.
 *
 *     NEW, REMOTE --fault--> FETCHING --installed--> RESIDENT --marked--> IDLE
 *     REMOTE --prefetched--> FETCHING --installed--> RESIDENT (or IDLE: a marker)
 *     IDLE, LEAVING --fault--> FETCHING (a rescue; RESIDENT at once by edm_touched)
 *     RESIDENT, IDLE --chosen--> LEAVING --stored, or clean--> REMOTE
 *     LEAVING --clean and never stored--> NEW      LEAVING --store failed, flushed--> IDLE
 *     FETCHING --failed--> POISONED                anything at rest --discard--> NEW
 *     RESIDENT, dirty --flushed--> RESIDENT, clean (dirty always: by LEAVING, see above)
 *
 * The table of allowed transitions is in pager.c; one that is not in it aborts, in
 * release builds too.
 *
 * PREFETCH never goes beyond the limit, and displaces nothing by itself. So that there is room,
 * LPET aims lower while a prefetcher is at work: at high' = min(high, limit - room) it is woken,
 * at low' = high' - (high - low) it sleeps; `room` is the size of the prefetcher's last window,
 * limit / 4 at most, and fades by an eighth with each fault that wishes for less. A MARKER is a
 * prefetched page put into the stash instead of being mapped (PREFETCH with flag IDLE), as Linux's
 * PG_readahead: its first touch is a rescue, seen under every observation, at which the
 * prefetcher goes on. What became of a page it fetched is known of markers and under exact
 * observation; a mapped page that is marked or leaves may have been used: prefetch_unseen.
 *
 * HELD. A command that takes the driver time to carry out leaves its page HELD
 * until the driver calls edm_done(): MARK_IDLE, EVICT (until the page is out of the
 * program's sight), CLEAN, ALLOW_WRITE, DISCARD. A fault on a HELD or FETCHING page is
 * answered with WAIT. That closes the race of a stale fault against an eviction. A page
 * rescued while it is being written back is HELD too, until edm_stored() or
 * edm_store_failed(): those come after the edm_done() of their EVICT, never before.
 *
 * CLEAN, a flush in place (exact dirty tracking). A changed page that is mapped stays so: it is
 * write-protected, a copy of it is stored. It counts as clean from the command on, is HELD until the copy
 * is made (edm_done()), and PENDING until that is stored: it cannot be chosen, and a recall, a
 * discard or another flush of it waits. A write after edm_done() asks as any first write does, and makes
 * the page dirty again; the store's copy is a stale one then. If storing fails the page is dirty, and
 * the driver must let it be written again: a write to it would ask nobody.
 */
#ifndef EDM_PAGER_H
#define EDM_PAGER_H

#include <stddef.h>
#include <stdint.h>

/* cffi-begin */
enum edm_state {
    EDM_NEW = 0,      /* never had content, or discarded: reads as zeros */
    EDM_REMOTE = 1,   /* its only copy is in the store */
    EDM_FETCHING = 2, /* being installed */
    EDM_RESIDENT = 3, /* mapped; touches are not seen unless observation is exact */
    EDM_IDLE = 4,     /* soft-unmapped into the stash: a touch faults and rescues it */
    EDM_LEAVING = 5,  /* chosen; write-back under way */
    EDM_POISONED = 6, /* its content could not be had; touches raise */
    EDM_STATES = 7
};

/* A page is one 16-bit word: state, flags, and a byte that belongs to the evictor. */
enum edm_word {
    EDM_STATE_MASK = 0x0007,
    EDM_DIRTY = 0x0008,      /* content differs from the store's */
    EDM_COPY = 0x0010,       /* the store has been given this page (stale if DIRTY) */
    EDM_HELD = 0x0020,       /* a driver is carrying out a command on it */
    EDM_PENDING = 0x0040,    /* NEW, REMOTE: its miss was announced; LEAVING: a flush; RESIDENT: the same, in place */
    EDM_PREFETCHED = 0x0080, /* came by prefetch and was not seen used yet */
    EDM_REF = 0x0100,        /* evictor: seen used since it was last looked at */
    EDM_OWN_SHIFT = 9        /* evictor: seven bits of its own */
};

enum edm_observe { EDM_OBSERVE_FAULTS = 0, EDM_OBSERVE_IDLE = 1, EDM_OBSERVE_EXACT = 2 };
enum edm_dirty_mode { EDM_DIRTY_EXACT = 0, EDM_DIRTY_ALWAYS = 1 };

enum edm_event { /* as written to the decision log */
    EDM_EV_FAULT = 1, EDM_EV_INSTALLED, EDM_EV_FETCH_FAILED, EDM_EV_TOUCHED,
    EDM_EV_RECLAIM, EDM_EV_DONE, EDM_EV_STORED, EDM_EV_STORE_FAILED, EDM_EV_DISCARD,
    EDM_EV_RECALL, EDM_EV_FLUSH, EDM_EV_ADOPT, EDM_EV_RESIZE,
    EDM_EV_WILLNEED, EDM_EV_ADVISE
};

enum edm_op { /* commands */
    EDM_ZERO_FILL = 1, /* install zeros; then edm_installed() */
    EDM_FETCH,         /* get from the store, install; then edm_installed() or edm_fetch_failed() */
    EDM_RESCUE,        /* bring back from the stash; flag LEAVING: copy, the frame is being
                          written back; then edm_installed() */
    EDM_WAIT,          /* somebody is at work on this page: wait for its next edm_installed(), edm_done(),
                          edm_stored(), edm_store_failed() or edm_fetch_failed(), fault again */
    EDM_RETRY,         /* the page is there (it came meanwhile): just access again */
    EDM_ALLOW_WRITE,   /* first write to a clean page: lift write-protection; then edm_done() */
    EDM_RECLAIM,       /* no room: reclaim (or wait for stores), then fault again */
    EDM_POISON,        /* the page's content is lost: touches must raise */
    EDM_PREFETCH,      /* as FETCH, nobody waits for it; flag IDLE: install it into the stash, not mapped */
    EDM_WAKE_LPET,     /* the high watermark is reached, and the low one can be, without the pages of
                          this answer */
    EDM_MARK_IDLE,     /* soft-unmap into the stash; then edm_done() */
    EDM_EVICT,         /* take out of the program's sight, edm_done(); write back if flag DIRTY;
                          then edm_stored() or edm_store_failed(); free the frame if edm_stored() says 1 */
    EDM_DISCARD,       /* drop frames, the stash's and the store's copy; then edm_done() */
    EDM_STATUS,        /* log only: what edm_reclaim() returned, in `flags` */
    EDM_CLEAN          /* a flush in place: write-protect, copy into the stash, edm_done(); store the copy; then edm_stored()
                          or edm_store_failed(). The copy's frame is free then */
};

enum edm_cmd_flag {
    EDM_F_WRITE = 1,    /* FETCH, ZERO_FILL, RESCUE: install writable (the page is dirty) */
    EDM_F_DIRTY = 2,    /* EVICT: must be written back first. CLEAN: always */
    EDM_F_LEAVING = 4,  /* RESCUE of a page that is being written back */
    EDM_F_KEEP = 8,     /* EVICT: a flush; the page stays in the stash afterwards */
    EDM_F_IDLE = 16,    /* EVICT, DISCARD: the page is in the stash already. PREFETCH: it goes there */
    EDM_F_COPY = 32,    /* DISCARD: the store holds a copy to delete */
    EDM_F_DIRECT = 64   /* RECLAIM: a repeated answer to a fault already announced */
};

enum edm_reclaim_status {
    EDM_OK = 0,      /* at or under the low watermark: LPET may sleep */
    EDM_RUNNING = 1, /* carry out the commands, then call again */
    EDM_FAIL = 2     /* nothing can be chosen now, no commands: wait for a page under way, then call again */
};

enum {
    EDM_CMDS_MAX = 512,
    EDM_LOOKS = 4, /* most commands in an answer of reclaim, for each eviction asked for: bounds the time it takes */
    EDM_NAME_MAX = 96
};

typedef struct edm_cmd {
    uint32_t page;
    uint8_t op;
    uint8_t flags;
    uint16_t zero;
} edm_cmd;

typedef struct edm_cmds { /* answers to one event; the first is the verdict on its page */
    uint32_t n;
    edm_cmd c[512]; /* EDM_CMDS_MAX */
} edm_cmds;

typedef struct edm_rec { /* one line of the decision log: an event, or (kind | 0x80) one of its commands */
    uint64_t now;
    uint32_t page;
    uint8_t kind;
    uint8_t flags; /* event FAULT, TOUCHED: 1 = write; RECLAIM: page = max */
    uint16_t zero;
} edm_rec;

typedef struct edm_stats {
    uint64_t refs, faults, zero_fills, fetches, rescues, write_faults, waits, retries, stalls;
    uint64_t evictions, writebacks, clean_drops, marks, discards;
    uint64_t prefetches, prefetch_hits, prefetch_late, prefetch_unused;
    uint64_t prefetch_unseen, prefetch_marks, prefetch_mark_hits;
    uint64_t store_errors, poisoned, wakes, reclaims;
    uint64_t refaults, workingset_refaults; /* working_set only; see workingset.c */
    uint64_t grown, shrunk;                 /* auto only: how often the limit was moved */
} edm_stats;

typedef struct edm_config {
    uint32_t pages;            /* pages of the region: numbers 0 .. pages - 1 */
    uint32_t low, high, limit; /* pages */
    uint32_t batch;            /* most evictions in one reclaim step, 1 .. 256 */
    uint8_t observe;           /* edm_observe */
    uint8_t dirty;             /* edm_dirty_mode */
    uint8_t working_set;       /* 1: refault distances are kept, 4 bytes a page */
    uint32_t auto_min;         /* auto (auto.c): the limit moves between this and `limit`; 0: it stays */
    uint32_t auto_target;      /* auto: working-set refaults in a million units of `now` */
    uint64_t auto_interval;    /* auto: units of `now` between two looks */
    uint64_t seed;
    char evict[96];            /* "name" or "name:key=value:key=value" */
    char prefetch[96];
} edm_config;

typedef struct edm_refs { /* a stretch of references; `write` may be NULL: all reads */
    const uint32_t *page;
    const uint8_t *write;
    uint64_t n;
} edm_refs;

typedef struct edm_pager edm_pager;
typedef struct edm_evictor edm_evictor;
typedef struct edm_prefetcher edm_prefetcher;
typedef void (*edm_log_sink)(void *ctx, const edm_rec *recs, uint64_t n);

/* Making one. NULL on bad input, with one line in `why`. */
edm_pager *edm_pager_new(const edm_config *config, char *why, size_t why_size);
/* The same with hooks given by the caller instead of registered ones (either may be NULL). */
edm_pager *edm_pager_new_with(const edm_config *config, const edm_evictor *evictor, void *evictor_ctx,
                              const edm_prefetcher *prefetcher, void *prefetcher_ctx,
                              char *why, size_t why_size);
void edm_pager_free(edm_pager *p);

/* Events. `out` is overwritten. */
void edm_fault(edm_pager *p, uint32_t page, int write, uint64_t now, edm_cmds *out);
void edm_installed(edm_pager *p, uint32_t page, uint64_t now);
void edm_fetch_failed(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out);
/* An access the driver learned of. Ignored for a page outside the LSPT, in FETCHING, or being taken
 * out of sight (IDLE or LEAVING, and HELD): whoever touches that one faults. A write to a mapped page that is clean
 * cannot be: it asks. One reported of such a page came before a flush, which has it. */
void edm_touched(edm_pager *p, uint32_t page, int write, uint64_t now);
int edm_reclaim(edm_pager *p, uint32_t max, uint64_t now, edm_cmds *out); /* edm_reclaim_status */
void edm_done(edm_pager *p, uint32_t page, uint64_t now);
/* MARK_IDLE or EVICT, not carried out yet, of a mapped page: 1 if nobody will ask for its bytes. `quick`: the store is
 * quickly asked again, so that a clean page that is marked needs no copy in the stash; a rescue then fetches it. */
int edm_droppable(const edm_pager *p, uint32_t page, int op, int quick);
/* The same command, of a page that is not droppable: 1 if its bytes may go to the store at once, since they must before it
 * leaves. Zeros that were only read are clean and in no store: they are never put. */
int edm_placeable(const edm_pager *p, uint32_t page);
int edm_stored(edm_pager *p, uint32_t page, uint64_t now);     /* 1: gone, drop the frame in the stash.
    0: rescued meanwhile: drop it too, but not before the rescue has copied it (edm_installed). Or CLEAN: drop it.
    2: flushed, keep the frame in the stash */
int edm_store_failed(edm_pager *p, uint32_t page, uint64_t now); /* 2: keep the frame. 0: was rescued, or CLEAN: drop it.
    1: CLEAN, and not written since: drop it, lift the write-protection, then edm_done() */
void edm_discard(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out);
void edm_recall(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out); /* evict this very page */
void edm_flush(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out);  /* write back, stay: where it is (CLEAN), or in the stash */
/* The program will want this page: a PREFETCH if it is REMOTE, or RECLAIM where there is no room for it. */
void edm_willneed(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out);
/* Accesses to pages[first, first + n) will be random (no prefetching for faults there), or (0) no
 * longer. -1: outside of the region, or more than 16 separate ranges. */
int edm_advise(edm_pager *p, uint32_t first, uint32_t n, int random, uint64_t now);
int edm_adopt(edm_pager *p, uint32_t page, uint64_t now); /* NEW -> REMOTE: the store has it already. -1 if not NEW */
int edm_resize(edm_pager *p, uint32_t low, uint32_t high, uint32_t limit, uint64_t now); /* -1: not low < high <= limit */

/* Whole stretches of references at once. */
/* Consumes hits from r[i]; returns the first index that needs the driver (a fault), or r->n. */
uint64_t edm_consume(edm_pager *p, const edm_refs *r, uint64_t i);
/* The pager as its own driver, every command carried out at once: under exact observation a
 * classical cache. Returns the misses. */
uint64_t edm_run_classic(edm_pager *p, const edm_refs *r);
void edm_stop(edm_pager *p); /* from a hook: the loop under way ends before its next reference */
int edm_stopped(const edm_pager *p); /* it did (or no victim could be had); cleared by the next run */
/* Belady: next[i] is the reference after i to the same page, or UINT32_MAX; kept by pointer. */
void edm_set_future(edm_pager *p, const uint32_t *next, uint64_t n);
/* Fills next[0..n), n < 2^32; `last` has an entry per page, all UINT32_MAX, and is used up. */
void edm_next_uses(const uint32_t *page, uint64_t n, uint32_t *last, uint32_t *next);
void edm_set_position(edm_pager *p, uint64_t i); /* where in `next` the driver is */

/* For the prefetcher `planned`: the pages in the order they will be wanted; kept by pointer. -1: one is
 * beyond the region. A driver asks edm_needs_plan() before it begins, and refuses if it says 1. */
int edm_set_plan(edm_pager *p, const uint32_t *pages, uint64_t n);
int edm_needs_plan(const edm_pager *p);

/* Looking. */
int edm_page_state(const edm_pager *p, uint32_t page);
uint32_t edm_page_word(const edm_pager *p, uint32_t page);
const uint16_t *edm_page_words(const edm_pager *p); /* all of them; looking without the driver's lock is a guess */
int edm_quiet(const edm_pager *p, uint32_t page); /* advised random: no prefetching for a fault here */
uint32_t edm_resident(const edm_pager *p); /* size of the LSPT */
uint32_t edm_leaving(const edm_pager *p);
const edm_stats *edm_stats_of(const edm_pager *p);
const edm_config *edm_config_of(const edm_pager *p);
uint32_t edm_limit_now(const edm_pager *p); /* config.limit unless auto moved it */
/* Refaults by distance: out[0] those at 0, out[k] at 2^(k-1) .. 2^k - 1. All 0 without working_set. */
void edm_refault_distances(const edm_pager *p, uint64_t out[33]);
size_t edm_pager_bytes(const edm_pager *p); /* all memory it holds */
int edm_check(const edm_pager *p);          /* walks everything; 0 = consistent (slow, for tests) */

/* Decision log: records go to the sink in chunks, and at edm_log_flush(). */
void edm_log_to(edm_pager *p, edm_log_sink sink, void *ctx, edm_rec *buffer, uint64_t capacity);
void edm_log_flush(edm_pager *p);
/* Replays recs[0..n) (events and their commands) on a fresh pager: the index of the first record
 * that differs, or n. */
uint64_t edm_replay_log(edm_pager *p, const edm_rec *recs, uint64_t n, edm_rec *got);

/* The registry. */
uint32_t edm_evictor_count(void);
const edm_evictor *edm_evictor_at(uint32_t i);
const edm_evictor *edm_evictor_named(const char *name); /* name may carry parameters */
uint32_t edm_prefetcher_count(void);
const edm_prefetcher *edm_prefetcher_at(uint32_t i);
const edm_prefetcher *edm_prefetcher_named(const char *name);

enum { /* what choose() answers instead of a page */
    EDM_NONE = -1,  /* there is none */
    EDM_AGAIN = -2, /* carry out the commands first, then ask again */
    EDM_STAY = -3   /* nobody leaves, the limit notwithstanding: only in a loop of its own (evict_lirs.c) */
};

/* An eviction policy. Hooks run inside an event, never allocate, never call back into
 * the event functions. Pages enter by insert(), and leave by choose() or remove(). */
struct edm_evictor {
    const char *name;
    const char *summary;        /* one line */
    const char *paper;          /* source */
    const char *params;         /* "bits=1 (1..6): ..." or "" */
    uint8_t needs;              /* least observation it can live with */
    uint8_t best;               /* the observation it is defined for */
    uint8_t needs_future;       /* belady */
    uint32_t bytes_per_page;    /* of its own memory, beyond the pager's 2; asserted by tests */
    size_t (*size)(const edm_config *c);                  /* bytes of its memory (zeroed) */
    int (*init)(edm_pager *p, void *mem, void *ctx);      /* -1: edm_refuse() said why */
    void (*miss)(edm_pager *p, uint32_t page);            /* fault on a page outside the LSPT, before room is made */
    void (*insert)(edm_pager *p, uint32_t page);          /* it is RESIDENT now */
    void (*touch)(edm_pager *p, uint32_t page);           /* a use was seen: exact, each; idle, the rescue */
    int64_t (*choose)(edm_pager *p);                      /* takes a victim out of its lists; EDM_NONE, EDM_AGAIN */
    void (*keep)(edm_pager *p, uint32_t page);            /* a chosen page stays: back in, as just used */
    void (*remove)(edm_pager *p, uint32_t page);          /* it leaves by other ways (discard, recall) */
    uint64_t (*consume)(edm_pager *p, const edm_refs *r, uint64_t i); /* edm_consume_with(); NULL: generic */
    uint64_t (*classic)(edm_pager *p, const edm_refs *r);             /* edm_classic_with(); NULL: generic */
    int (*check)(const edm_pager *p);                     /* 0 = consistent; may be NULL */
    void (*warm)(edm_pager *p, uint32_t page);            /* a hint, may be NULL: it is referenced soon, bring its entry into
                                                             the processor's cache. Changes nothing */
    const char *idle_note;      /* what it does under less than `best`; "" if it needs `best` */
};

struct edm_prefetcher {
    const char *name;
    const char *summary;
    const char *paper;
    const char *params;
    size_t (*size)(const edm_config *c);
    int (*init)(edm_pager *p, void *mem, void *ctx);
    void (*fault)(edm_pager *p, uint32_t page, int write); /* after the verdict on a miss or a prefetch hit:
                                                              calls edm_prefetch(p, page) for each wish */
    void (*used)(edm_pager *p, uint32_t page);   /* a prefetched page was seen used */
    void (*unused)(edm_pager *p, uint32_t page); /* it left without, as far as can be seen */
    uint8_t needs_plan;
};

/* For prefetchers: asks for one page. 1: a command was given; 0: not REMOTE, or no room. */
int edm_prefetch(edm_pager *p, uint32_t page);
int edm_prefetch_marked(edm_pager *p, uint32_t page); /* the same, as a marker */
/* For evictors and prefetchers. */
void *edm_own(edm_pager *p);          /* the evictor's memory */
void *edm_own_ctx(edm_pager *p);
void *edm_prefetch_own(edm_pager *p); /* the prefetcher's memory */
void *edm_prefetch_ctx(edm_pager *p);
double edm_param(edm_pager *p, const char *key, double otherwise);          /* evictor's, at init */
double edm_prefetch_param(edm_pager *p, const char *key, double otherwise); /* prefetcher's, at init */
int edm_refuse(edm_pager *p, const char *why);                              /* for init: returns -1 */
/* cffi-end */

_Static_assert(sizeof(edm_cmd) == 8, "edm_cmd is 8 bytes");
_Static_assert(sizeof(edm_rec) == 16, "edm_rec is 16 bytes");

#endif
