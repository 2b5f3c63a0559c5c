/* region.h: the inside of a region, for the files of this folder only.
 *
 * Who may touch what. The pager and all fields marked (lock) are guarded by `lock`, which is
 * held for a decision only, never over an ioctl, a copy or a store call. Page P's bytes, and
 * its buffer in the stash, belong to the thread that carries out a command on P: the fetcher
 * while it is FETCHING, the evictor while it is HELD or LEAVING (a rescuer then only reads). A mapped page
 * has a buffer while a copy of it is being stored (PENDING): that is the flusher's.
 * A page that is IDLE or LEAVING, and not HELD, is in its buffer; a RESIDENT one is mapped.
 */
#ifndef EDM_REGION_H
#define EDM_REGION_H

#include "board.h"
#include "driver.h"
#include "hist.h"
#include "runtime.h"
#include "spans.h"
#include "sync.h"
#include "uffd.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define EDM_LIKELY(x) __builtin_expect(!!(x), 1)

enum {
    EDM_SCRATCHES = 32,     /* buffers for fetches */
    EDM_SCRATCH_PAGES = 32, /* pages in each: the widest window of most prefetchers in one pipeline */
    EDM_PIPES = 3,
    EDM_WARM_MOST = 1024,   /* free buffers kept with memory behind them */
    EDM_DRAIN = 64,         /* of those beyond, so many are given back at once */
    EDM_RIDE = 16,          /* so many are worth it when pages are unmapped anyway */
    EDM_HANDLERS_MAX = 16,
    EDM_MESSAGES = 16,      /* of faults, read at a time */
    EDM_LOG_RECS = 4096
};
#define EDM_IN_STORE UINT32_MAX

struct edm_stash { /* see buffers.c; (lock) but for `bytes` */
    uint8_t *bytes;
    uint32_t *warm, *cold; /* free buffers: a ring, a stack */
    uint32_t count, warm_head, warm_n, cold_n, fresh, warm_most, slack;
    int draining;
};

struct edm_near { /* see near.c; the plain handler's but for what is atomic, the near one's while it serves */
    edm_event_t begins, ends;
    _Atomic int itself, serves; /* its number, 0: there is none; whether it serves */
    _Atomic int tid, core;      /* whose faults, and where it has gone for them */
    _Atomic uint32_t steps;     /* see edm_serve() */
    uint64_t not_before_ns;
    pthread_t thread;
    int runs;
};

struct edm_pipe {
    edm_lock lock;
    int fd[2];
    uint32_t bytes;
};

struct edm_region {
    uint8_t *memory, *zeros; /* zeros: one page of them, to copy in */
    size_t bytes;
    uint32_t pages, page_size, shift;
    int uffd, self; /* self: a pidfd of this process, for process_madvise */
    int monitor, lockstep, can_poison, has_lpet;
    int tells_thread; /* monitor: messages carry the faulting thread's number */
    _Atomic int splices; /* see unmap.c */
    uint64_t deadline_ns, full_ns;
    _Atomic uint64_t full_since_ns; /* since when every write-back has failed for want of space; 0: they do not */
    uint64_t lockstep_now; /* number of the reference under way (lockstep: one thread) */

    edm_lock lock;
    edm_pager *pager;          /* (lock) */
    edm_store *store;
    uint64_t *sum;             /* per page: checksum of what the store has */
    uint64_t *stashed_sum;     /* per page: checksum of what its buffer has */
    uint32_t *buffer_of;       /* per page: where it is in the stash; EDM_IN_STORE: see evict.c */
    struct edm_stash stash;
    struct edm_pipe pipe[EDM_PIPES];

    uint8_t *scratch;
    _Atomic uint32_t scratch_taken; /* bit per scratch */

    edm_event_t bucket[EDM_BUCKETS]; /* raised when a page is installed or no longer HELD, if somebody waits */
    _Atomic uint32_t waiting;        /* threads that a page's state made wait; they come under (lock) */
    edm_event_t room;                /* raised when pages have left, or their stores failed */
    edm_event_t lpet_event;          /* raised to wake LPET */
    _Atomic int stop;
    pthread_t lpet, handler[EDM_HANDLERS_MAX];
    uint32_t handlers, handlers_running;
    int stop_pipe[2];                /* wakes handler threads */
    struct edm_near near;
    _Atomic int lpet_tid;            /* 0: it has not run yet */
    int attached, lpet_running;

    edm_hook_fn hook;
    void *hook_ctx;
    edm_rec *log_buffer;
    int log_fd;
    _Atomic int log_error;

    edm_hist latency;
    edm_spans *spans; /* NULL: nobody asks where the time goes */
    edm_spans *spans_made; /* or did once */
    edm_board *board; /* NULL: nobody may look from outside */
    struct { /* relaxed counters: see edm_runtime_stats */
        _Atomic uint64_t unmapped, unmaps, direct_reclaims, fetch_retries, lost_pages,
            failed_writebacks, same_content, no_room;
        _Atomic uint32_t lost_page;
        _Atomic int lost_error, writeback_error;
    } count;
    int access;
    char named[192];          /* its store's URL, for the line on stderr; "": no line is wanted */
    _Atomic uint64_t told;    /* failures the last one was about */
};

#define EDM_COUNT(r, what, n) atomic_fetch_add_explicit(&(r)->count.what, (n), memory_order_relaxed)

static inline void *edm_at(const edm_region *r, uint32_t page) { return r->memory + ((size_t)page << r->shift); }
static inline void *edm_buffer_at(const edm_region *r, uint32_t buffer) {
    return r->stash.bytes + ((size_t)buffer << r->shift);
}
static inline void *edm_stashed(const edm_region *r, uint32_t page) { return edm_buffer_at(r, r->buffer_of[page]); }
static inline uint32_t edm_bucket_number(uint32_t page) {
    uint32_t scattered = page * EDM_SCATTER;
    return (uint32_t)((uint64_t)scattered * EDM_BUCKETS >> 32);
}
static inline edm_event_t *edm_bucket_of(edm_region *r, uint32_t page) { return &r->bucket[edm_bucket_number(page)]; }
/* (lock) The page is in somebody's hands: the ticket for edm_page_wait(). That follows, or edm_page_gave_up(). */
static inline uint32_t edm_page_ticket(edm_region *r, uint32_t page) {
    atomic_fetch_add(&r->waiting, 1);
    return edm_event_ticket(edm_bucket_of(r, page));
}
static inline void edm_page_gave_up(edm_region *r) { atomic_fetch_sub(&r->waiting, 1); }
static inline void edm_page_wait(edm_region *r, uint32_t page, uint32_t ticket, int spins, uint64_t timeout_ns) {
    int slept = edm_event_wait(edm_bucket_of(r, page), ticket, spins, timeout_ns);
    edm_page_gave_up(r);
    if (EDM_UNLIKELY(r->spans != NULL) && slept) edm_span_woken(r->spans, edm_bucket_number(page));
}
/* The pager was told that the page is in nobody's hands. Who waits for it came before that, under the lock. */
static inline void edm_page_raise(edm_region *r, uint32_t page) {
    if (EDM_LIKELY(!atomic_load(&r->waiting))) return;
    if (EDM_UNLIKELY(r->spans != NULL)) edm_span_wakes(r->spans, edm_bucket_number(page));
    edm_event_raise(edm_bucket_of(r, page));
}
/* Has the processor walk the page table: it does several at a time, while the kernel, which goes there next, waits for one
 * after the other. Nothing happens where there is no page. */
static inline void edm_look_up(const void *page) { __builtin_prefetch(page, 0, 2); }
static inline uint64_t edm_event_now(const edm_region *r) {
    return EDM_UNLIKELY(r->lockstep) ? r->lockstep_now : edm_now_ns();
}
static inline edm_hook_fn edm_hook_of(const edm_region *r) { /* tests set it while handlers run */
    return __atomic_load_n(&r->hook, __ATOMIC_ACQUIRE);
}
static inline void edm_hook(edm_region *r, int point, uint32_t page) {
    edm_hook_fn hook = edm_hook_of(r);
    if (EDM_UNLIKELY(hook != NULL)) hook(r->hook_ctx, point, page);
}

/* The high watermark is reached. */
static inline void edm_ring_lpet(edm_region *r) {
    uint64_t mark = edm_span_begin(r);
    if (mark) edm_span_rings(r->spans, mark);
    edm_event_raise(&r->lpet_event);
    edm_span(r, EDM_SPAN_WAKE, mark);
}
#define edm_span_arrived(r, page, write) (EDM_UNLIKELY((r)->spans != NULL) ? edm_span_arrives((r)->spans, page, write) : 0)
#define edm_span_leaves(r, page) do { if (EDM_UNLIKELY((r)->spans != NULL)) edm_span_left((r)->spans, page); } while (0)
#define edm_span_lpet_came(r, slept) do { if (EDM_UNLIKELY((r)->spans != NULL)) edm_span_comes((r)->spans, slept); } while (0)

/* fault.c: resolves one fault. 0: the program may access again; -EFAULT: the page is poisoned. */
int edm_region_fault(edm_region *r, uint32_t page, int write);
/* Under monitor, after it: whoever waits in a fault on the page goes on. */
void edm_let_go(edm_region *r, uint32_t page, int error);
int edm_allow_write(edm_region *r, uint32_t page); /* lifts the protection, edm_done(); 0 */

/* Carries the PREFETCH commands among c[0..n) out, in batches. fault.c */
void edm_prefetch_out(edm_region *r, const edm_cmd *c, uint32_t n);

/* evict.c */
/* One reclaim step of at most `max` evictions (0: the batch), carried out; how many commands
 * it took. edm_reclaim_status. */
int edm_reclaim_step(edm_region *r, uint32_t max, uint32_t *commands);
/* Carries out commands MARK_IDLE and EVICT that were got from the pager. */
void edm_carry_out(edm_region *r, edm_cmds *cmds);
/* Parts of that. Where the bytes of sorted pages[0..n) go: to the store, where they shall (buffer_of is EDM_IN_STORE) and it
 * has a place for them, or to buffers. What went to the store is as if it were put. Pages out of sight, or copied, are told as
 * done, written to the store from their buffers, `part` in a call, and told as stored. */
void edm_find_places(edm_region *r, const uint32_t *pages, uint8_t **to, uint32_t n);
void edm_note_placed(edm_region *r, const uint32_t *pages, uint32_t n);
void edm_store_all(edm_region *r, edm_cmd *c, uint32_t n, uint32_t part);
int edm_reclaim_to_ok(edm_region *r); /* -ENOMEM: the store refused pages until the deadline */
void edm_refused_nap(void);           /* a store that refuses pages is not asked again at once */
/* The store has been full for so long that who has waited for room for waited_ns need not go on: see full_ns. */
int edm_is_full(const edm_region *r, uint64_t waited_ns);
void *edm_lpet_main(void *region);

/* flush.c: carries out commands CLEAN and EVICT that were got from the pager, sorted by page; how many at a time. */
void edm_flush_out(edm_region *r, edm_cmds *cmds);
uint32_t edm_flush_batch(const edm_region *r);

/* buffers.c */
uint32_t edm_buffer_take(edm_region *r);                       /* (lock) */
void edm_buffer_give(edm_region *r, uint32_t page);            /* (lock) the page's, if it has one */
/* (lock) Free buffers to be given back, EDM_DRAIN at most, sorted; 0: not so many. rides: edm_unmap() may do it. Then: */
uint32_t edm_buffers_surplus(edm_region *r, uint32_t *buffers, int rides);
void edm_buffers_drain(edm_region *r, const uint32_t *buffers, uint32_t n);   /* either this */
void edm_buffers_drained(edm_region *r, const uint32_t *buffers, uint32_t n); /* or edm_unmap(), and this (lock) */
void edm_sort(uint32_t *numbers, uint32_t n);
void edm_sort_commands(edm_cmd *c, uint32_t n); /* by page */
/* Sorted page or buffer numbers as runs of memory; how many (at most n). */
uint32_t edm_runs(const edm_region *r, uint8_t *base, const uint32_t *numbers, uint32_t n, struct iovec *run);
void edm_forget(edm_region *r, const uint32_t *pages, uint32_t n, const uint32_t *buffers, uint32_t m); /* MADV_DONTNEED; sorted */
uint8_t *edm_scratch_take(edm_region *r, uint32_t *which);
void edm_scratch_give(edm_region *r, uint32_t which);

/* unmap.c */
typedef struct edm_out { /* what is taken out of the program's sight in one batch; all sorted */
    const uint32_t *pages; /* n: their last bytes go to to[i], their checksums to stashed_sum */
    uint8_t *const *to;
    const uint32_t *clean; /* m: nobody wants their bytes */
    const uint32_t *free;  /* f buffers that nobody needs: their memory goes with the pages */
    uint32_t n, m, f;
    /* Called when clean pages (n is 0) are out of sight, and when the bytes of pages[first..first+n) are there; each page
     * once, in this order. NULL: nobody asks. */
    void (*told)(void *ctx, uint32_t first, uint32_t n);
    void *ctx;
} edm_out;
void edm_unmap(edm_region *r, const edm_out *out);
/* The bytes of write-protected pages[i], sorted, go to to[i], their checksums to stashed_sum; the pages stay. */
void edm_copy_out(edm_region *r, const uint32_t *pages, uint8_t *const *to, uint32_t n);
void edm_pipes_open(edm_region *r);
void edm_pipes_close(edm_region *r);

/* upcall.c, monitor.c */
int edm_upcall_attach(edm_region *r); /* -EMFILE: too many regions */
void edm_upcall_detach(edm_region *r);
int edm_monitor_start(edm_region *r);
/* monitor.c, for near.c: serves a message; `steps` is odd while it may hold what others wait for. The core a thread of this
 * process last ran on, or -1. */
void edm_serve(edm_region *r, const struct uffd_msg *m, _Atomic uint32_t *steps);
int edm_core_of(uint32_t tid);
/* near.c: its thread. It serves this thread's faults from now on; returns (1) when it no longer does, at once (0) where it
 * cannot. Called by the plain handler, which may then run on `home`. */
void *edm_near_main(void *region);
int edm_near_serves(edm_region *r, int tid, const cpu_set_t *home);
void edm_monitor_stop(edm_region *r);

/* For threads that access paged memory knowingly: while set, an access to a poisoned page
 * jumps there instead of ending the process. upcall.c */
void edm_guard_set(sigjmp_buf *where);

/* Threads of the runtime take no signals: they would run Python's handlers, or ours. */
int edm_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

#endif
