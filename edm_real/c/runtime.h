/* runtime.h: the userfaultfd runtime's public face (all that Python is shown).
 *
 * A region is paged memory: an anonymous mapping, a pager that decides, a store that keeps
 * what is out, and a stash: buffers for pages that are out of the program's sight and not yet,
 * or not at all, in the store. All functions return 0 or -errno unless said.
 */
#ifndef EDM_RUNTIME_H
#define EDM_RUNTIME_H

#include "pager.h"
#include "store.h"

/* cffi-begin */
enum edm_fault_mode {
    EDM_UPCALL = 0, /* the faulting thread resolves its own fault, in a SIGBUS handler */
    EDM_MONITOR = 1 /* handler threads read messages; faults inside system calls work too */
};

enum edm_hook_point { /* where a test may stop a thread */
    EDM_AT_FETCH = 1,    /* FETCHING, before the store is asked */
    EDM_AT_INSTALL,      /* bytes at hand, before they are installed */
    EDM_AT_INSTALLED,    /* installed, before the pager is told */
    EDM_AT_UNMAP,        /* chosen and HELD, before it is unmapped, or write-protected */
    EDM_AT_STORE,        /* in the stash and LEAVING, or copied there, before the store is given it */
    EDM_AT_STORED,       /* the store has it, before the pager is told */
    EDM_AT_WAIT,         /* a fault is about to wait for another thread */
    EDM_AT_PROTECTED,    /* by a flush: write-protected and HELD, before it is copied */
    EDM_AT_TAKEN         /* out of sight, its bytes kept, before the pager is told; not in lockstep */
};
typedef void (*edm_hook_fn)(void *ctx, int point, uint32_t page);

typedef struct edm_region edm_region;
typedef struct edm_replay edm_replay;

typedef struct edm_region_config {
    edm_config policy;
    const edm_evictor *evictor;       /* instead of a registered one; NULL: by name. The same below */
    const edm_prefetcher *prefetcher;
    void *evictor_ctx, *prefetcher_ctx;
    uint32_t page_size;    /* bytes of one page of the policy: 4096 << n */
    uint32_t handlers;     /* monitor: handler threads, 1 .. 16 */
    uint8_t faults;        /* edm_fault_mode */
    uint8_t lockstep;      /* reclaim in the faulting thread, `now` = number of the reference */
    uint8_t kernel_faults; /* monitor: refuse a user-mode-only descriptor */
    uint8_t no_lpet;       /* no LPET thread: faulting threads reclaim at the high watermark */
    uint64_t deadline_ns;  /* a store call may be tried again for so long */
    uint64_t full_ns;      /* a fault waits for room no longer, where the store has been full for so long; 0: it does */
    uint64_t seed;
} edm_region_config;

typedef struct edm_latency {
    uint64_t count;
    double mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns;
} edm_latency;

typedef struct edm_runtime_stats { /* beyond the pager's own counters */
    uint64_t resident, leaving;   /* pages now */
    uint64_t free_buffers;        /* buffers of the stash with memory behind them, beside the LSPT */
    uint64_t unmapped, unmaps;    /* pages taken out of sight, and in how many batches */
    uint64_t direct_reclaims;     /* reclaim steps by faulting threads */
    uint64_t fetch_retries;       /* store answers that were refused and asked for again */
    uint64_t lost_pages;          /* poisoned */
    uint64_t failed_writebacks;
    uint64_t same_content;        /* write-backs saved: the store had these very bytes */
    int32_t uffd_access;          /* edm_uffd_access */
    int32_t lost_error;           /* of the last lost page: -errno (EBADMSG: wrong bytes) */
    uint32_t lost_page;
    int32_t writeback_error;      /* of the last failed write-back */
} edm_runtime_stats;

typedef struct edm_ability { /* what this machine can do */
    int32_t access;        /* edm_uffd_access; 0: none */
    int32_t error;         /* errno when there is none */
    uint64_t features;     /* UFFD_FEATURE_* */
    uint8_t upcall, monitor, kernel_faults, poison, write_protect;
} edm_ability;
void edm_ability_of(edm_ability *out);
/* What a cache line takes from the first core this thread may run on to the second, and back; some ms. 0: there is but one,
 * or it could not be told. */
uint64_t edm_core_distance_ns(void);

/* Opens a region on a store, which it owns from then on (also when it fails). NULL with one
 * line in `why` and *error = -errno: EINVAL usage, ENOSYS/EPERM this machine cannot, else failed. */
edm_region *edm_region_open(const edm_region_config *config, edm_store *store, char *why, size_t why_size, int *error);
/* Stops its threads, unmaps it, closes the store. Nobody may touch its memory any more. */
int edm_region_close(edm_region *r);
/* Says on stderr what ends the program where an access cannot be resolved; store: the URL it names. */
void edm_region_speaks(edm_region *r, const char *store);
void *edm_region_memory(edm_region *r);
edm_pager *edm_region_pager(edm_region *r); /* for looking at a region at rest */
edm_store *edm_region_store(edm_region *r); /* for edm_store_add() */

/* Brings pages in (and makes them writable), so that a system call can use them.
 * -EFAULT: one is poisoned; -ENOSPC: more pages than the limit. */
int edm_region_prefault(edm_region *r, uint32_t first, uint32_t n, int write);
int edm_region_discard(edm_region *r, uint32_t first, uint32_t n); /* they read as zeros again */
int edm_region_flush(edm_region *r, uint32_t first, uint32_t n);   /* the store has them; -EIO: not all */
int edm_region_evict(edm_region *r, uint32_t first, uint32_t n);   /* these very pages leave */
/* Fetches what is out of the range in batches, as far as the low watermark goes: later faults find it.
 * Nobody waits for a page but the caller. -ENOMEM: no page could be sent away for it. */
int edm_region_willneed(edm_region *r, uint32_t first, uint32_t n);
/* random: no prefetching for faults on these pages; 0: as before. -EINVAL: more than 16 ranges. */
int edm_region_advise(edm_region *r, uint32_t first, uint32_t n, int random);
int edm_region_resize(edm_region *r, uint32_t low, uint32_t high, uint32_t limit);
/* A full walk between two commands, faults wait meanwhile: 0 if the pager, the mapping and the stash
 * agree. -EBUSY: there was no such moment. For tests. */
int edm_region_check(edm_region *r);

void edm_region_stats(edm_region *r, edm_stats *policy, edm_runtime_stats *runtime, edm_store_stats *store);
void edm_region_latency(edm_region *r, edm_latency *out); /* inside the fault path */
void edm_region_latency_reset(edm_region *r);

/* Decisions go to the file descriptor from now on (-1: no more), as edm_rec. */
int edm_region_log(edm_region *r, int fd);
void edm_region_hook(edm_region *r, edm_hook_fn hook, void *ctx);

typedef struct edm_replay_config {
    edm_refs refs;
    const uint16_t *tid;   /* thread of each reference, modulo `threads`; NULL, or under exact
                              observation: chunks dealt in turn */
    uint32_t threads;
    uint32_t chunk;        /* references a thread takes at a time, when tid is NULL */
    uint32_t pages;        /* fill and verify these many pages; the others are somebody else's. 0: all */
    uint8_t fill;          /* every page gets content first, outside of what is timed */
    const uint64_t *content; /* of `fill`: page p gets page p % content_pages of it; NULL: numbers */
    uint32_t content_pages;
    uint8_t whole;         /* each read looks at all of the page, under the page's lock (slow) */
    uint64_t seed;
} edm_replay_config;

typedef struct edm_replay_result {
    uint64_t refs;         /* carried out */
    uint64_t elapsed_ns;   /* of the references alone */
    uint64_t wrong;        /* words that were not what was written, during the run */
    uint64_t verified_pages, wrong_pages; /* of the full look at the end */
    uint64_t lost;         /* references to poisoned pages */
    uint8_t stopped;       /* by edm_replay_stop() */
    edm_stats policy;      /* counted over the references alone */
    edm_latency latency;   /* of accesses that faulted, as the program sees them */
} edm_replay_result;

/* Replays references over a region that nobody else uses, in threads of its own. The arrays
 * are used until edm_replay_free(). NULL: `why`. */
edm_replay *edm_replay_start(edm_region *r, const edm_replay_config *config, char *why, size_t why_size);
/* 1: ended. 0: `timeout_ms` passed. */
int edm_replay_wait(edm_replay *job, uint32_t timeout_ms);
uint64_t edm_replay_progress(const edm_replay *job); /* references so far */
void edm_replay_stop(edm_replay *job);
void edm_replay_end(edm_replay *job, edm_replay_result *out); /* joins its threads, frees it */
/* cffi-end */

#endif
