/* spans.h: where the time goes, component by component. Off unless asked for: then a thread pays
 * one look at a pointer for each component.
 *
 * A span is the time from one mark to the next in the same thread. Spans are counted in the
 * processor's own ticks, in tables of the thread's own (EDM_SPAN_TABLES threads; those beyond
 * share the last one), by what it was, by who did it, by how many pages it was for, and by what
 * went on beside it. A histogram keeps the distribution, the sums are exact.
 */
#ifndef EDM_SPANS_H
#define EDM_SPANS_H

#include "hist.h"
#include "runtime.h"
#include "sync.h"

#define EDM_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* cffi-begin */
enum edm_span { /* one fault, in this order; _WRITE: of one that is a write, for which the kernel has a page at hand then */
    EDM_SPAN_TURN = 0,   /* waiting for the handler, which has another fault in hand; monitor mode, and only where a replay touches */
    EDM_SPAN_ARRIVE,     /* touch, or the end of that, to the first line that is ours; only where a replay touches */
    EDM_SPAN_ARRIVE_WRITE,
    EDM_SPAN_LOCK,       /* waiting for the pager's lock */
    EDM_SPAN_DECIDE,     /* the pager's verdict */
    EDM_SPAN_WAKE,       /* ringing for LPET */
    EDM_SPAN_GET,        /* the store's get */
    EDM_SPAN_CHECK,      /* the checksum of what came */
    EDM_SPAN_ZERO,       /* UFFDIO_COPY of zeros */
    EDM_SPAN_ZERO_WRITE,
    EDM_SPAN_INSTALL,    /* UFFDIO_COPY of what came */
    EDM_SPAN_INSTALL_WRITE,
    EDM_SPAN_RESCUE,     /* UFFDIO_COPY from the stash */
    EDM_SPAN_RESCUE_WRITE,
    EDM_SPAN_PROTECT,    /* write-protection lifted */
    EDM_SPAN_CONCLUDE,   /* the pager is told */
    EDM_SPAN_PAGE_WAIT,  /* waiting for a page in somebody's hands */
    EDM_SPAN_ROOM,       /* reclaiming in the fault, or waiting for room; the spans below are in it */
    EDM_SPAN_RETURN,     /* last line that is ours to the access done; only where a replay touches */
    /* one reclaim step */
    EDM_SPAN_LATE,       /* LPET: rung for while it slept until it is, not running yet */
    EDM_SPAN_NAP,        /* LPET: its shortest nap by the clock */
    EDM_SPAN_WOKEN,      /* who slept for a page: told that it can be had until it runs */
    EDM_SPAN_CHOOSE,     /* lock and choice */
    EDM_SPAN_SORT,       /* buffers, order */
    EDM_SPAN_SPLICE,     /* frames into the pipe: vmsplice */
    EDM_SPAN_FLUSH,      /* pages out of sight: madvise, with its TLB flush; or write-protected, by a flush of the region */
    EDM_SPAN_READ,       /* bytes into buffers: readv */
    EDM_SPAN_SUM,        /* checksums */
    EDM_SPAN_DONE,       /* the pager is told, waiters woken */
    EDM_SPAN_PUT,        /* the store's put */
    EDM_SPAN_STORED,     /* the pager is told */
    EDM_SPAN_DRAIN,      /* free buffers given back to the kernel */
    EDM_SPAN_KINDS
};
enum edm_span_role { EDM_ROLE_FAULTER = 0, EDM_ROLE_HANDLER, EDM_ROLE_LPET, EDM_ROLES };
enum edm_span_beside { /* what else went on, the first that holds */
    EDM_BESIDE_FLUSH = 0, /* another thread flushed the TLBs meanwhile: this core was interrupted */
    EDM_BESIDE_FAULTER,   /* other threads that fault were at work */
    EDM_BESIDE_LPET,      /* LPET was at work */
    EDM_BESIDE_NOBODY,
    /* of the way to a handler thread (arrive) and back (return): whether it has gone to the core of who faults, and
     * whether it comes from another fault */
    EDM_BESIDE_HERE,
    EDM_BESIDE_HERE_NEXT,
    EDM_BESIDE_AWAY,
    EDM_BESIDE_AWAY_NEXT,
    EDM_BESIDES
};
enum { EDM_SPAN_SIZES = 9 }; /* classes of pages: 1, 2-3, 4-7 ... 256 and more */

/* Begins to count (on), forgets what was counted; or ends it, when nobody may be at work (LPET may nap). -ENOMEM. */
int edm_region_spans(edm_region *r, int on);
/* What was counted for a kind, role, class of sizes, and beside what: the histogram, EDM_SPAN_BUCKETS counts. *ns: all of it, exact;
 * *pages likewise. How many spans there were. */
enum { EDM_SPAN_BUCKETS = 4352 };
uint64_t edm_spans_read(edm_region *r, int kind, int role, int size, int beside, uint32_t *counts, double *ns, uint64_t *pages);
double edm_span_bucket_ns(edm_region *r, uint32_t bucket); /* the middle of a bucket */
uint64_t edm_span_flushes(edm_region *r);
double edm_span_own_ns(edm_region *r); /* what one mark costs, counted in every span */
uint64_t edm_spin_ns(void);            /* how long who waits for a page spins before it sleeps */
/* cffi-end */

enum { EDM_SPAN_TABLES = 8, EDM_TOUCHES = 4096 };

typedef struct edm_span_table {
    _Atomic int role;
    struct edm_span_cell {
        edm_hist ticks;
        _Atomic uint64_t pages;
    } at[EDM_SPAN_KINDS][EDM_SPAN_SIZES][EDM_BESIDES];
} edm_span_table;

typedef struct edm_spans {
    uint64_t id;
    _Atomic int ended;                     /* the references of a replay: what follows does not count */
    _Atomic uint32_t threads;
    uint64_t begin_ticks, begin_ns;
    _Atomic uint64_t flushes, flushed;     /* TLB flushes begun and ended */
    _Atomic int32_t workers, lpet;         /* threads of a replay, and LPET: at work */
    _Atomic uint64_t rung;                 /* when LPET was rung for; 0: it has come */
    _Atomic uint64_t raised[64];           /* by bucket of pages: when somebody was woken */
    _Atomic uint64_t touched[EDM_TOUCHES]; /* by page: when a replay is about to touch it */
    _Atomic uint64_t left[EDM_TOUCHES];    /* when its fault was resolved */
    _Atomic uint8_t way[EDM_TOUCHES];      /* how it came to a handler: its beside; 0: upcall */
    edm_span_table table[EDM_SPAN_TABLES];
} edm_spans;

static inline uint64_t edm_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return edm_now_ns();
#endif
}

void edm_span_role(int role); /* of the calling thread; faulter unless told */
/* From `since` to now; returns now. */
uint64_t edm_span_add(edm_spans *s, int kind, uint32_t pages, uint64_t since);

/* A fault on the page has come to us, and goes. A replay says when it touches, and asks after it. */
uint64_t edm_span_arrives(edm_spans *s, uint32_t page, int write);
void edm_span_left(edm_spans *s, uint32_t page);
void edm_span_handles(int here); /* the calling handler: a fault of the thread to whose core it has gone, or another one's */
void edm_span_touches(edm_spans *s, uint32_t page);
void edm_span_returned(edm_spans *s, uint32_t page);
void edm_spans_free(edm_region *r); /* at the end */
/* LPET was rung for at `mark`; it has come, and had slept until then, or not. */
void edm_span_rings(edm_spans *s, uint64_t mark);
void edm_span_comes(edm_spans *s, int slept);
void edm_span_works(edm_spans *s, int role, int by); /* by: 1 it begins, -1 it ends */
/* Who waits for a page of the bucket is woken; one who slept runs again. */
void edm_span_wakes(edm_spans *s, uint32_t bucket);
void edm_span_woken(edm_spans *s, uint32_t bucket);

#define edm_span_begin(r) (EDM_UNLIKELY((r)->spans != NULL) ? edm_ticks() : 0)
#define edm_span_n(r, kind, pages, since) \
    (EDM_UNLIKELY((r)->spans != NULL) ? edm_span_add((r)->spans, (kind), (pages), (since)) : 0)
uint64_t edm_span_flush_begins(edm_spans *s);
void edm_span_flush_ended(edm_spans *s, uint32_t pages, uint64_t mark); /* pages 0: no span of its own */
#define edm_span(r, kind, since) edm_span_n(r, kind, 1, since)

#endif
