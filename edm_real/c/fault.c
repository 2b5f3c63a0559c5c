/* fault.c: resolves one fault: asks the pager, carries out its verdict, tells it.
 *
 * Runs in a SIGBUS handler (upcall), a handler thread (monitor), or on behalf of a call
 * (prefault). No allocation; the lock is held for decisions only; all else about the page is
 * the caller's alone while it is FETCHING.
 */
#include "region.h"

#include "checksum.h"
#include "patience.h"

enum { NAP_NS = 1000000, NAP_NS_MAX = 100000000, WAIT_NS = 100000000 };

/* Copied first, then summed: in one loop, or by UFFDIO_COPY straight from memory that is in no cache, it takes
 * longer (docs/measurements.md). */
static int get_lent(edm_region *r, uint32_t page, void *to) {
    const void *from = r->store->ops->lend ? r->store->ops->lend(r->store, page) : NULL;
    if (!from) return 0;
    memcpy(to, from, r->page_size);
    return edm_checksum(to, r->page_size) == r->sum[page];
}

static int get_once(edm_region *r, uint32_t page, void *to, uint64_t deadline) {
    edm_store_io io = {.page = page, .data = to};
    uint64_t mark = edm_span_begin(r);
    if (EDM_LIKELY(get_lent(r, page, to))) {
        mark = edm_span(r, EDM_SPAN_GET, mark);
        edm_span(r, EDM_SPAN_CHECK, mark); /* in the time of the get */
        return 0;
    }
    r->store->ops->get(r->store, &io, 1, deadline);
    mark = edm_span(r, EDM_SPAN_GET, mark);
    if (!io.result && edm_checksum(to, r->page_size) != r->sum[page]) io.result = -EBADMSG;
    edm_span(r, EDM_SPAN_CHECK, mark);
    if (EDM_UNLIKELY(io.result)) EDM_COUNT(r, fetch_retries, 1);
    return io.result;
}

static void rest(uint64_t ns, uint64_t *left_ns) {
    if (ns > *left_ns) ns = *left_ns;
    if (!ns) return;
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    uint64_t began = edm_now_ns();
    nanosleep(&t, NULL);
    edm_patience_spend(left_ns, began, ns);
}

/* Gets a page's bytes and proves them; asks again until the deadline. 0 or -errno. The last eighth of the time is for an
 * attempt of its own: one that was stopped may have used up the rest. */
static int get_bytes(edm_region *r, uint32_t page, void *to) {
    uint64_t last = r->deadline_ns / 8, left = r->deadline_ns - last;
    int cause = 0; /* what the store said last; that time then ran out says less */
    for (uint64_t nap = NAP_NS;;) {
        uint64_t began = edm_now_ns();
        int error = get_once(r, page, to, began + left);
        if (!error) return 0;
        if (!cause || error != -ETIMEDOUT) cause = error;
        edm_patience_spend(&left, began, left);
        rest(nap, &left);
        if (!left && !last) return cause;
        if (!left) {
            left = last;
            last = 0;
        }
        if (nap < NAP_NS_MAX / 2) nap *= 2;
    }
}

static uint64_t copy_flags(int writable) {
    return UFFDIO_COPY_MODE_DONTWAKE | (writable ? 0 : UFFDIO_COPY_MODE_WP);
}

/* -EEXIST cannot be: while a page is FETCHING nobody else installs it. write: the fault is one. */
static int copy_in(edm_region *r, edm_cmd c, const void *from, int span, int write) {
    edm_hook(r, EDM_AT_INSTALL, c.page);
    uint64_t mark = edm_span_begin(r);
    int error = edm_uffd_copy(r->uffd, edm_at(r, c.page), from, r->page_size, copy_flags(c.flags & EDM_F_WRITE));
    edm_span(r, span + (write != 0), mark);
    return error;
}

/* Zeros, or the store's bytes. */
static int bring(edm_region *r, edm_cmd c, int write) {
    uint32_t which;
    edm_hook(r, EDM_AT_FETCH, c.page);
    if (c.op == EDM_ZERO_FILL) return copy_in(r, c, r->zeros, EDM_SPAN_ZERO, write);
    uint8_t *buffer = edm_scratch_take(r, &which);
    int error = get_bytes(r, c.page, buffer);
    if (!error) error = copy_in(r, c, buffer, EDM_SPAN_INSTALL, write);
    edm_scratch_give(r, which);
    return error;
}

static void lose(edm_region *r, uint32_t page, int error) {
    r->count.lost_error = error;
    r->count.lost_page = page;
    EDM_COUNT(r, lost_pages, 1);
    if (r->can_poison) edm_uffd_poison(r->uffd, edm_at(r, page), r->page_size);
}

enum spare { EDM_NO_SPARE = 0, EDM_SPARE = 1, EDM_SPARE_UNLESS_HELD = 2 };

/* The page came (error 0) or did not. `spare`: is its buffer free now? A rescued page's is, unless
 * it is still being written back (HELD): then the evictor gives it back. */
static int conclude(edm_region *r, uint32_t page, int error, enum spare spare) {
    uint32_t surplus[EDM_DRAIN], surplus_n = 0;
    edm_cmds none;
    uint64_t mark = edm_span_begin(r);
    if (EDM_UNLIKELY(error)) lose(r, page, error);
    else edm_hook(r, EDM_AT_INSTALLED, page);
    edm_lock_take(&r->lock);
    if (spare == EDM_SPARE_UNLESS_HELD && edm_page_word(r->pager, page) & EDM_HELD) spare = EDM_NO_SPARE;
    if (EDM_UNLIKELY(error)) edm_fetch_failed(r->pager, page, edm_event_now(r), &none);
    else edm_installed(r->pager, page, edm_event_now(r));
    if (spare) {
        edm_buffer_give(r, page);
        surplus_n = edm_buffers_surplus(r, surplus, 0);
    }
    edm_lock_give(&r->lock);
    edm_page_raise(r, page);
    mark = edm_span(r, EDM_SPAN_CONCLUDE, mark);
    edm_buffers_drain(r, surplus, surplus_n);
    if (surplus_n) edm_span_n(r, EDM_SPAN_DRAIN, surplus_n, mark);
    return error ? -EFAULT : 0;
}

/* A batch of prefetched pages on its way: markers go into the stash, the others are mapped. */
struct wishes {
    uint32_t n;
    edm_store_io io[EDM_SCRATCH_PAGES];
    int32_t error[EDM_SCRATCH_PAGES];
    uint8_t marker[EDM_SCRATCH_PAGES], writable[EDM_SCRATCH_PAGES];
};

/* Takes the next PREFETCH commands of c[*i .. n); their bytes will be at `scratch`, or in a buffer. */
static void gather(edm_region *r, const edm_cmd *c, uint32_t n, uint32_t *i, uint8_t *scratch, struct wishes *w) {
    w->n = 0;
    edm_lock_take(&r->lock);
    for (; *i < n && w->n < EDM_SCRATCH_PAGES; ++*i) {
        if (c[*i].op != EDM_PREFETCH) continue;
        void *to = scratch + ((size_t)w->n << r->shift);
        w->marker[w->n] = (c[*i].flags & EDM_F_IDLE) != 0;
        w->writable[w->n] = (c[*i].flags & EDM_F_WRITE) != 0;
        if (w->marker[w->n]) {
            r->buffer_of[c[*i].page] = edm_buffer_take(r);
            to = edm_stashed(r, c[*i].page);
        }
        w->io[w->n++] = (edm_store_io){.page = c[*i].page, .data = to};
    }
    edm_lock_give(&r->lock);
}

/* Neighbours in one call. */
static void install(edm_region *r, struct wishes *w) {
    for (uint32_t i = 0, run; i < w->n; i += run) {
        run = 1;
        if (w->error[i] || w->marker[i]) continue;
        while (i + run < w->n && !w->error[i + run] && !w->marker[i + run] && w->writable[i + run] == w->writable[i] &&
               w->io[i + run].page == w->io[i].page + run)
            run++;
        uint32_t page = (uint32_t)w->io[i].page;
        edm_hook(r, EDM_AT_INSTALL, page);
        int failed = edm_uffd_copy(r->uffd, edm_at(r, page), w->io[i].data, (size_t)run << r->shift, copy_flags(w->writable[i]));
        for (uint32_t k = 0; k < run; k++) w->error[i + k] = failed;
    }
}

/* The wished pages' bytes, proved. */
static void get_wishes(edm_region *r, struct wishes *w) {
    uint64_t mark = edm_span_begin(r);
    int lends = r->store->ops->lend != NULL;
    if (!lends) r->store->ops->get(r->store, w->io, w->n, edm_now_ns() + r->deadline_ns);
    mark = edm_span_n(r, EDM_SPAN_GET, w->n, mark);
    for (uint32_t k = 0; k < w->n; k++) {
        uint32_t page = (uint32_t)w->io[k].page;
        int good = !lends && !w->io[k].result && edm_checksum(w->io[k].data, r->page_size) == r->sum[page];
        w->error[k] = good ? 0 : get_bytes(r, page, w->io[k].data);
        r->stashed_sum[page] = r->sum[page]; /* a marker's */
    }
    edm_span_n(r, EDM_SPAN_CHECK, w->n, mark);
}

/* Pages that came well are told under one hold of the lock. */
static void conclude_wishes(edm_region *r, struct wishes *w) {
    uint64_t mark = edm_span_begin(r);
    for (uint32_t k = 0; EDM_UNLIKELY(edm_hook_of(r) != NULL) && k < w->n; k++)
        if (!w->error[k]) edm_hook(r, EDM_AT_INSTALLED, (uint32_t)w->io[k].page);
    edm_lock_take(&r->lock);
    for (uint32_t k = 0; k < w->n; edm_lock_pass(&r->lock), k++)
        if (!w->error[k]) edm_installed(r->pager, (uint32_t)w->io[k].page, edm_event_now(r));
    edm_lock_give(&r->lock);
    edm_span_n(r, EDM_SPAN_CONCLUDE, w->n, mark);
    for (uint32_t k = 0; k < w->n; k++) {
        uint32_t page = (uint32_t)w->io[k].page;
        if (w->error[k]) conclude(r, page, w->error[k], w->marker[k] ? EDM_SPARE : EDM_NO_SPARE);
        else edm_page_raise(r, page);
        if (r->monitor) edm_uffd_wake(r->uffd, edm_at(r, page), r->page_size);
    }
}

/* Carries the PREFETCH commands among c[0..n) out, in batches. Nobody waits for them. */
static void prefetch(edm_region *r, const edm_cmd *c, uint32_t n) {
    uint32_t which, i = 0;
    struct wishes w;
    uint8_t *scratch = edm_scratch_take(r, &which);
    for (gather(r, c, n, &i, scratch, &w); w.n; gather(r, c, n, &i, scratch, &w)) {
        get_wishes(r, &w);
        uint64_t mark = edm_span_begin(r);
        install(r, &w);
        edm_span_n(r, EDM_SPAN_INSTALL, w.n, mark);
        conclude_wishes(r, &w);
    }
    edm_scratch_give(r, which);
}

void edm_prefetch_out(edm_region *r, const edm_cmd *c, uint32_t n) { prefetch(r, c, n); }

static int among(const edm_cmds *cmds, uint8_t op) {
    for (uint32_t i = 1; i < cmds->n; i++)
        if (cmds->c[i].op == op) return 1;
    return 0;
}

/* The high watermark is reached. Where there is no LPET thread its work is done here, before
 * the page is installed: so it cannot be chosen before the program has touched it. */
static void wake_lpet(edm_region *r) {
    if (r->has_lpet) edm_ring_lpet(r);
    else edm_reclaim_to_ok(r);
}

/* How a fault waits for room: since when, for how long still, and how many pages had left by then. */
struct queue {
    uint64_t since_ns, left_ns, evictions;
};

/* No room: reclaims here rather than waiting for LPET. -ENOMEM when nothing has left until the deadline.
 * ticket: of r->room, from before it was found that there is none: what leaves since is not waited for. */
static int make_room(edm_region *r, uint32_t ticket, uint64_t evictions, struct queue *q) {
    uint32_t n;
    if (r->lockstep) return edm_reclaim_to_ok(r);
    EDM_COUNT(r, direct_reclaims, 1);
    uint64_t begin = edm_now_ns(), failed = r->count.failed_writebacks;
    if (!q->since_ns || q->evictions != evictions) *q = (struct queue){begin, 2 * r->deadline_ns, evictions};
    if (!q->left_ns || edm_is_full(r, begin - q->since_ns)) return -ENOMEM;
    edm_reclaim_step(r, EDM_DIRECT, &n);
    if (n && EDM_UNLIKELY(r->count.failed_writebacks != failed)) edm_refused_nap();
    edm_patience_spend(&q->left_ns, begin, 2 * r->deadline_ns);
    if (n) return 0;
    begin = edm_now_ns();
    edm_event_wait(&r->room, ticket, EDM_SPINS, WAIT_NS);
    edm_patience_spend(&q->left_ns, begin, WAIT_NS);
    return 0;
}

int edm_allow_write(edm_region *r, uint32_t page) {
    uint64_t mark = edm_span_begin(r);
    edm_uffd_protect(r->uffd, edm_at(r, page), r->page_size, 0, 0);
    mark = edm_span(r, EDM_SPAN_PROTECT, mark);
    edm_lock_take(&r->lock);
    edm_done(r->pager, page, edm_event_now(r));
    edm_lock_give(&r->lock);
    edm_page_raise(r, page);
    edm_span(r, EDM_SPAN_CONCLUDE, mark);
    return 0;
}

/* The verdict on the page itself, then what else was asked for with it. */
static int carry_out(edm_region *r, const edm_cmds *cmds, int write) {
    edm_cmd c = cmds->c[0];
    int error = 0;
    if (among(cmds, EDM_WAKE_LPET)) wake_lpet(r);
    switch (c.op) {
    case EDM_ZERO_FILL:
    case EDM_FETCH: error = conclude(r, c.page, bring(r, c, write), EDM_NO_SPARE); break;
    case EDM_RESCUE:
        error = r->buffer_of[c.page] == EDM_IN_STORE ? bring(r, c, write)
                : copy_in(r, c, edm_stashed(r, c.page), EDM_SPAN_RESCUE, write);
        error = conclude(r, c.page, error, EDM_SPARE_UNLESS_HELD);
        break;
    case EDM_ALLOW_WRITE: error = edm_allow_write(r, c.page); break;
    case EDM_POISON: error = -EFAULT; break;
    default: break; /* RETRY: it came meanwhile. WAIT: the caller's */
    }
    if (among(cmds, EDM_PREFETCH)) prefetch(r, cmds->c + 1, cmds->n - 1);
    return error;
}

/* Whoever waits for the page goes on: with it, or into a signal instead of a fault that is tried again for
 * ever. A poisoned page makes the signal, until it is installed after all; where the kernel cannot do
 * that, the handler thread sends it (monitor.c), to a thread that waits still. */
void edm_let_go(edm_region *r, uint32_t page, int error) {
    if (EDM_UNLIKELY(error) && !r->can_poison) return;
    if (EDM_UNLIKELY(error)) edm_uffd_poison(r->uffd, edm_at(r, page), r->page_size);
    edm_uffd_wake(r->uffd, edm_at(r, page), r->page_size);
}

int edm_region_fault(edm_region *r, uint32_t page, int write) {
    uint64_t begin = edm_now_ns();
    struct queue queue = {0};
    edm_cmds cmds;
    int error = 0;
    uint64_t mark = edm_span_arrived(r, page, write);
    for (;;) {
        edm_lock_take(&r->lock);
        mark = edm_span(r, EDM_SPAN_LOCK, mark);
        edm_fault(r->pager, page, write, r->lockstep ? r->lockstep_now : begin, &cmds);
        edm_cmd c = cmds.c[0];
        uint32_t ticket = c.op == EDM_WAIT ? edm_page_ticket(r, page) : 0, room = edm_event_ticket(&r->room);
        uint64_t evictions = edm_stats_of(r->pager)->evictions;
        edm_lock_give(&r->lock);
        mark = edm_span(r, EDM_SPAN_DECIDE, mark);
        if (c.op == EDM_WAIT) {
            carry_out(r, &cmds, write);
            edm_hook(r, EDM_AT_WAIT, page);
            edm_page_wait(r, page, ticket, EDM_SPINS, WAIT_NS);
            mark = edm_span(r, EDM_SPAN_PAGE_WAIT, mark);
        } else if (c.op == EDM_RECLAIM) {
            if (cmds.n > 1 && r->has_lpet) edm_ring_lpet(r);
            edm_hook(r, EDM_AT_WAIT, page);
            error = make_room(r, room, evictions, &queue);
            mark = edm_span(r, EDM_SPAN_ROOM, mark);
            if (error) {
                EDM_COUNT(r, no_room, 1);
                break;
            }
        } else {
            error = carry_out(r, &cmds, write);
            break;
        }
    }
    edm_span_leaves(r, page);
    edm_hist_record(&r->latency, edm_now_ns() - begin);
    return error;
}
