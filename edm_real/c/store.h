/* store.h: the contract between the runtime and a page store.
 *
 * A store keeps pages of one region under their number. Calls are batched and come from
 * several threads at once (a store locks for itself, or keeps a connection a thread).
 * They may run inside a SIGBUS handler: no malloc/free on get and put for stores that
 * say EDM_STORE_SIGNAL_SAFE, no call that touches paged memory, no printing, and never
 * later than `deadline_ns` (CLOCK_MONOTONIC). Each item carries its own result: 0,
 * -ENOENT (get: no such page), -EIO, -ENOSPC, -ETIMEDOUT ... A store never hands out
 * bytes it is not sure of; the runtime checks a checksum of its own besides.
 *
 * A page may be put with a `size` below page_size: exactly so many bytes are kept. A get names the
 * size its page was put with; another one is the caller's mistake, and what it gets then is an
 * error or bytes of no meaning. Who puts pages of several sizes keeps their sizes (store_packed.c).
 * A put or del names each page once in a batch; a get may name one twice.
 *
 * put is durable against a later get once its result is 0. put of a page that is there
 * replaces it as a whole: a reader sees the old or the new page, never a mixture, and
 * a put that failed leaves the old one or none.
 */
#ifndef EDM_STORE_H
#define EDM_STORE_H

#include <stddef.h>
#include <stdint.h>

/* cffi-begin */
enum edm_store_cap {
    EDM_STORE_SIGNAL_SAFE = 1, /* may be called in the fault handler of the faulting thread */
    EDM_STORE_BLOCKING = 2,    /* a call may sleep (network, disc) */
    EDM_STORE_PERSISTENT = 4   /* its pages outlive the process */
};

typedef struct edm_store_io {
    uint64_t page;
    void *data;     /* `size` bytes, aligned to 8; read by put, written by get, ignored by del */
    int32_t result; /* out: 0 or -errno */
    uint32_t size;  /* bytes of the page that count; 0: page_size, which is also the most */
} edm_store_io;

typedef struct edm_store_stats {
    uint64_t gets, puts, dels, errors, bytes_in, bytes_out; /* bytes_in: put; each by its size */
    uint64_t pages, bytes_held;                             /* kept now; their ratio is what packing wins */
    uint64_t same;                                          /* of the pages: one repeated word, no bytes held */
    uint64_t reconnects;                                    /* connections that broke */
    uint64_t dead, skipped, resynced; /* members dead now; puts they missed; pages copied to them later */
    uint64_t moved;                   /* pages, to another member they belong to */
    uint64_t asked, hedges, hedges_won; /* pages that gets asked members for; those because one was late; and came first */
    uint64_t rings;                                         /* of io_uring, in use; 0: page by page */
} edm_store_stats;

typedef struct edm_store edm_store;

typedef struct edm_store_ops {
    const char *scheme; /* "mem", "file" ... */
    int (*put)(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns); /* failures: -count, 0 if all well */
    int (*get)(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns);
    int (*del)(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns);
    int (*sync)(edm_store *s, uint64_t deadline_ns); /* 0 or -errno */
    void (*stats)(edm_store *s, edm_store_stats *out);
    void (*close)(edm_store *s);
    /* NULL, or for pages that lie in this process's memory: a get without the copy. Where the page's bytes are (page_size
     * of them) until its next put or del, NULL if they are not to be had so. Nobody may put or del it meanwhile. */
    const void *(*lend)(edm_store *s, uint64_t page);
    /* NULL, or, where pages can be lent: a put without the copy. Where the page's bytes belong; it counts as put at once, and
     * the caller writes all of them there before anybody gets it. NULL: it must be put (which says why, if that fails). */
    void *(*place)(edm_store *s, uint64_t page);
} edm_store_ops;

struct edm_store {
    const edm_store_ops *ops;
    uint32_t caps;      /* edm_store_cap */
    uint32_t page_size; /* bytes */
    uint64_t pages;     /* numbers 0 .. pages - 1 */
};

/* Opens a store by URL ("mem:", "file:PATH"; docs/stores.md). NULL with one line in `why` (what, why, the fix). */
edm_store *edm_store_open(const char *url, uint32_t page_size, uint64_t pages, char *why, size_t why_size);

/* A member more for a `striped:` store, while it is used; its pages move there in the background. 0, or -EINVAL with
 * one line in `why`. */
int edm_store_add(edm_store *store, const char *url, char *why, size_t why_size);
/* 0, or why no store can use io_uring here: -ENOSYS (not built in, or no such kernel), -EPERM (forbidden) ... */
int edm_store_uring(void);
/* cffi-end */

static inline uint32_t edm_io_size(const edm_store *s, const edm_store_io *io) { return io->size ? io->size : s->page_size; }

static inline uint64_t edm_io_bytes(const edm_store *s, const edm_store_io *io, uint32_t n) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += edm_io_size(s, &io[i]);
    return bytes;
}

#endif
