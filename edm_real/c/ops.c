/* ops.c: what the program asks of a region: pages in, out, written back, given back; its figures. */
#define _GNU_SOURCE
#include "region.h"

#include "checksum.h"
#include "patience.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { NAP_NS = 10000000 };

/* (lock) Nothing to do for the page: it is there (writable, if that is wanted). */
static int present(const edm_region *r, uint32_t page, int write) {
    uint32_t want = EDM_RESIDENT | (write ? EDM_DIRTY : 0), mask = EDM_STATE_MASK | EDM_HELD | (write ? EDM_DIRTY : 0);
    return (edm_page_word(r->pager, page) & mask) == want;
}

int edm_region_prefault(edm_region *r, uint32_t first, uint32_t n, int write) {
    if (n > edm_config_of(r->pager)->limit) return -ENOSPC;
    for (uint32_t page = first; page < first + n; page++) {
        edm_lock_take(&r->lock);
        int there = present(r, page, write);
        edm_lock_give(&r->lock);
        if (there) continue;
        int error = edm_region_fault(r, page, write);
        if (r->monitor) edm_let_go(r, page, error);
        if (error) return error;
    }
    return 0;
}

typedef void (*edm_event_fn)(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out);

/* What is asked of pages, and how it is carried out, so many at a time (EDM_CMDS_MAX / 2 at most). */
struct wish {
    edm_event_fn event;
    void (*act)(edm_region *r, edm_cmds *cmds);
    uint32_t batch;
};

/* Reports the event for each page of [*page, end), gathering the commands, up to a batch or to
 * the first page that is in other hands. 1: wait for *page with *ticket, then go on there. */
static int ask(edm_region *r, const struct wish *w, uint32_t *page, uint32_t end, edm_cmds *cmds, uint32_t *ticket) {
    edm_cmds one;
    int wait = 0;
    cmds->n = 0;
    edm_lock_take(&r->lock);
    for (; *page < end && cmds->n < w->batch && !wait; edm_lock_pass(&r->lock), *page += !wait) {
        w->event(r->pager, *page, edm_event_now(r), &one);
        if (!one.n) continue;
        wait = one.c[0].op == EDM_WAIT;
        if (wait) *ticket = edm_page_ticket(r, *page);
        else cmds->c[cmds->n++] = one.c[0];
    }
    edm_lock_give(&r->lock);
    return wait;
}

/* Waits for pages in other hands, for each of them until the deadline. */
static int each(edm_region *r, const struct wish *w, uint32_t first, uint32_t n) {
    uint64_t left = 0;
    uint32_t page = first, stuck = UINT32_MAX;
    while (page < first + n) {
        edm_cmds cmds;
        uint32_t ticket = 0;
        int wait = ask(r, w, &page, first + n, &cmds, &ticket);
        if (cmds.n) w->act(r, &cmds);
        if (!wait) continue;
        if (page != stuck) left = 2 * r->deadline_ns;
        else if (!left) {
            edm_page_gave_up(r);
            return -ETIMEDOUT;
        }
        stuck = page;
        uint64_t began = edm_now_ns();
        edm_page_wait(r, page, ticket, 1000, NAP_NS);
        edm_patience_spend(&left, began, NAP_NS);
    }
    return 0;
}

static int left_dirty(edm_region *r, uint32_t first, uint32_t n) {
    int dirty = 0;
    edm_lock_take(&r->lock);
    for (uint32_t page = first; page < first + n; page++) dirty |= (edm_page_word(r->pager, page) & EDM_DIRTY) != 0;
    edm_lock_give(&r->lock);
    return dirty;
}

/* Write-backs on the pages' way; -EIO: one of them failed, and pages of these are still dirty. */
static int each_stored(edm_region *r, const struct wish *w, uint32_t first, uint32_t n) {
    uint64_t failed = r->count.failed_writebacks;
    int error = each(r, w, first, n);
    if (!error && r->count.failed_writebacks != failed && left_dirty(r, first, n)) error = -EIO;
    return error;
}

int edm_region_flush(edm_region *r, uint32_t first, uint32_t n) {
    const struct wish flush = {edm_flush, edm_flush_out, edm_flush_batch(r)};
    int error = each_stored(r, &flush, first, n);
    return error ? error : r->store->ops->sync(r->store, edm_now_ns() + r->deadline_ns);
}

int edm_region_evict(edm_region *r, uint32_t first, uint32_t n) {
    static const struct wish evict = {edm_recall, edm_carry_out, EDM_CMDS_MAX / 2};
    return each_stored(r, &evict, first, n);
}

static void drop(edm_region *r, edm_cmds *cmds) {
    edm_store_io io[EDM_CMDS_MAX / 2];
    uint32_t mapped[EDM_CMDS_MAX / 2], n = 0, held = 0;
    for (uint32_t i = 0; i < cmds->n; i++) {
        const edm_cmd *c = &cmds->c[i];
        if (!(c->flags & EDM_F_IDLE)) mapped[n++] = c->page;
        if ((c->flags & EDM_F_COPY) || r->sum[c->page] != EDM_NO_SUM) io[held++] = (edm_store_io){.page = c->page};
    }
    edm_sort(mapped, n);
    edm_forget(r, mapped, n, NULL, 0);
    if (held) r->store->ops->del(r->store, io, held, edm_now_ns() + r->deadline_ns); /* a stale copy harms nobody */
    edm_lock_take(&r->lock);
    for (uint32_t i = 0; i < cmds->n; i++) {
        const edm_cmd *c = &cmds->c[i];
        r->sum[c->page] = EDM_NO_SUM;
        if (c->flags & EDM_F_IDLE) edm_buffer_give(r, c->page);
        edm_done(r->pager, c->page, edm_event_now(r));
    }
    edm_lock_give(&r->lock);
    for (uint32_t i = 0; i < cmds->n; i++) edm_page_raise(r, cmds->c[i].page);
    edm_event_raise(&r->room);
}

int edm_region_discard(edm_region *r, uint32_t first, uint32_t n) {
    static const struct wish discard = {edm_discard, drop, EDM_CMDS_MAX / 2};
    return each(r, &discard, first, n);
}

int edm_region_resize(edm_region *r, uint32_t low, uint32_t high, uint32_t limit) {
    edm_lock_take(&r->lock);
    int error = edm_resize(r->pager, low, high, limit, edm_event_now(r));
    int above = edm_resident(r->pager) > high;
    edm_lock_give(&r->lock);
    if (error) return -EINVAL;
    edm_event_raise(&r->room);
    if (above && r->has_lpet) edm_event_raise(&r->lpet_event);
    else if (above) edm_reclaim_to_ok(r);
    return 0;
}

void edm_region_stats(edm_region *r, edm_stats *policy, edm_runtime_stats *out, edm_store_stats *store) {
    edm_lock_take(&r->lock);
    *policy = *edm_stats_of(r->pager);
    out->resident = edm_resident(r->pager);
    out->leaving = edm_leaving(r->pager);
    out->free_buffers = r->stash.warm_n;
    edm_lock_give(&r->lock);
    out->unmapped = r->count.unmapped;
    out->unmaps = r->count.unmaps;
    out->direct_reclaims = r->count.direct_reclaims;
    out->fetch_retries = r->count.fetch_retries;
    out->lost_pages = r->count.lost_pages;
    out->failed_writebacks = r->count.failed_writebacks;
    out->same_content = r->count.same_content;
    out->uffd_access = r->access;
    out->lost_error = r->count.lost_error;
    out->lost_page = r->count.lost_page;
    out->writeback_error = r->count.writeback_error;
    r->store->ops->stats(r->store, store);
}

void edm_region_latency(edm_region *r, edm_latency *out) { edm_hist_summary(&r->latency, out); }
void edm_region_latency_reset(edm_region *r) { edm_hist_reset(&r->latency); }

/* A short write, or one that failed, is told at the end: a decision must not fail for its log. */
static void log_sink(void *ctx, const edm_rec *recs, uint64_t n) {
    edm_region *r = ctx;
    const uint8_t *at = (const uint8_t *)recs;
    for (size_t left = n * sizeof *recs; left;) {
        ssize_t wrote = write(r->log_fd, at, left);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            r->log_error = wrote ? -errno : -EIO;
            return;
        }
        at += wrote;
        left -= (size_t)wrote;
    }
}

int edm_region_log(edm_region *r, int fd) {
    if (!r->pager) return 0;
    edm_lock_take(&r->lock);
    edm_log_flush(r->pager);
    if (r->log_fd >= 0) close(r->log_fd);
    r->log_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    edm_log_to(r->pager, r->log_fd < 0 ? NULL : log_sink, r, r->log_buffer, EDM_LOG_RECS);
    int error = r->log_error;
    if (fd >= 0 && r->log_fd < 0) error = -errno;
    edm_lock_give(&r->lock);
    return error;
}

/* ---- the full look, for tests ---- */

enum { PAGEMAP_PRESENT = 63, PAGEMAP_WRITE_PROTECTED = 57 };

static int page_entries(const void *at, uint32_t n, uint64_t *out) {
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t want = (ssize_t)(n * sizeof *out);
    int error = pread(fd, out, (size_t)want, (off_t)((uintptr_t)at / 4096 * sizeof *out)) == want ? 0 : -EIO;
    close(fd);
    return error;
}

static int agrees(edm_region *r, uint32_t page, uint64_t mapped) {
    uint32_t word = edm_page_word(r->pager, page), state = word & EDM_STATE_MASK;
    int exact = edm_config_of(r->pager)->dirty == EDM_DIRTY_EXACT;
    if ((mapped >> PAGEMAP_PRESENT & 1) != (state == EDM_RESIDENT)) return 0;
    if (state == EDM_RESIDENT && exact) /* a clean page's first write must be seen */
        return (mapped >> PAGEMAP_WRITE_PROTECTED & 1) == !(word & EDM_DIRTY);
    return 1;
}

/* Every buffer is a page's or free. */
static int buffers_add_up(const edm_region *r) {
    const struct edm_stash *s = &r->stash;
    uint32_t used = 0;
    for (uint32_t page = 0; page < r->pages; page++) {
        uint32_t word = edm_page_word(r->pager, page), state = word & EDM_STATE_MASK;
        int has = state == EDM_IDLE || state == EDM_LEAVING || (state == EDM_RESIDENT && (word & EDM_PENDING));
        used += has && r->buffer_of[page] != EDM_IN_STORE;
    }
    return used + s->warm_n + s->cold_n == s->fresh;
}

/* (lock) Nobody is carrying anything out. */
static int at_rest(const edm_region *r) {
    if (r->stash.draining || edm_leaving(r->pager)) return 0;
    for (uint32_t page = 0; page < r->pages; page++) {
        uint32_t word = edm_page_word(r->pager, page);
        if ((word & EDM_HELD) || (word & EDM_STATE_MASK) == EDM_FETCHING) return 0;
    }
    return 1;
}

int edm_region_check(edm_region *r) {
    uint64_t mapped[512], give_up = edm_now_ns() + 2 * r->deadline_ns;
    uint32_t per_page = r->page_size / 4096, batch = 512 / per_page;
    edm_lock_take(&r->lock);
    while (!at_rest(r)) { /* LPET may be at work */
        edm_lock_give(&r->lock);
        if (edm_now_ns() > give_up) return -EBUSY;
        sched_yield();
        edm_lock_take(&r->lock);
    }
    int error = edm_check(r->pager) || !buffers_add_up(r) ? -EUCLEAN : 0;
    for (uint32_t page = 0; page < r->pages && !error; page += batch) {
        uint32_t n = r->pages - page < batch ? r->pages - page : batch;
        error = page_entries(edm_at(r, page), n * per_page, mapped);
        for (uint32_t i = 0; i < n && !error; i++)
            if (!agrees(r, page + i, mapped[i * per_page])) error = -EUCLEAN;
    }
    edm_lock_give(&r->lock);
    return error;
}
