/* flush.c: a flush in place: changed pages are stored and stay mapped (EDM_CLEAN).
 *
 *   lock    edm_flush(): changed pages, HELD from here on
 *   -       write-protect them, a call for each run: who writes to one now faults, and waits
 *           copy them to buffers, the same few for every batch, or to their places in the store
 *   lock    edm_done() for all: a write asks from here on, and makes its page dirty again
 *   -       write the copies to the store
 *   lock    edm_stored() or edm_store_failed() for each
 *
 * Not put straight from the protected pages: a store may not touch paged memory, and who writes would wait for it.
 * Under dirty=always writes are not seen: pages go through the stash (evict.c), as idle ones do anyway.
 */
#include "region.h"

enum { BATCH_BYTES = 512 << 10 }; /* of copies: they stay in the caches until they are put, all at once */

uint32_t edm_flush_batch(const edm_region *r) { return r->page_size < BATCH_BYTES ? BATCH_BYTES >> r->shift : 1; }

/* How many of the sorted pages, from the first on, no core can write to any more. */
static uint32_t protect(edm_region *r, const uint32_t *pages, uint32_t n, int *error) {
    struct iovec run[EDM_CMDS_MAX];
    uint32_t runs = edm_runs(r, r->memory, pages, n, run), done = 0;
    edm_spans *spans = r->spans;
    uint64_t mark = EDM_UNLIKELY(spans != NULL) ? edm_span_flush_begins(spans) : 0;
    for (uint32_t i = 0; i < runs; i++) {
        *error = edm_uffd_protect(r->uffd, run[i].iov_base, run[i].iov_len, 1, 0);
        if (EDM_UNLIKELY(*error)) break;
        done += (uint32_t)(run[i].iov_len >> r->shift);
    }
    if (EDM_UNLIKELY(spans != NULL)) edm_span_flush_ended(spans, done, mark);
    return done;
}

/* The kernel did not protect these: what would be copied need not be what is there when it counts as clean. */
static void refuse(edm_region *r, const edm_cmd *c, uint32_t n, int error) {
    r->count.writeback_error = error;
    EDM_COUNT(r, failed_writebacks, n);
    for (uint32_t i = 0; i < n; i++) {
        edm_lock_take(&r->lock);
        edm_done(r->pager, c[i].page, edm_event_now(r));
        int lift = edm_store_failed(r->pager, c[i].page, edm_event_now(r)) == 1;
        edm_lock_give(&r->lock);
        if (lift) edm_allow_write(r, c[i].page);
        edm_page_raise(r, c[i].page);
    }
}

static void hooks(edm_region *r, int point, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = 0; EDM_UNLIKELY(edm_hook_of(r) != NULL) && i < n; i++) edm_hook(r, point, pages[i]);
}

/* Sorted by page. */
static void clean(edm_region *r, edm_cmd *c, uint32_t n) {
    uint32_t pages[EDM_CMDS_MAX];
    uint8_t *to[EDM_CMDS_MAX];
    int error = 0;
    for (uint32_t i = 0; i < n; i++) r->buffer_of[pages[i] = c[i].page] = EDM_IN_STORE; /* if it has a place there */
    hooks(r, EDM_AT_UNMAP, pages, n);
    uint32_t safe = protect(r, pages, n, &error);
    hooks(r, EDM_AT_PROTECTED, pages, safe);
    if (EDM_UNLIKELY(safe < n)) refuse(r, c + safe, n - safe, error);
    if (!safe) return;
    edm_find_places(r, pages, to, safe);
    edm_copy_out(r, pages, to, safe);
    edm_note_placed(r, pages, safe);
    edm_store_all(r, c, safe, safe);
}

void edm_flush_out(edm_region *r, edm_cmds *cmds) {
    edm_cmds out;
    uint32_t n = 0;
    out.n = 0;
    for (uint32_t i = 0; i < cmds->n; i++) {
        if (cmds->c[i].op == EDM_CLEAN) cmds->c[n++] = cmds->c[i];
        else out.c[out.n++] = cmds->c[i];
    }
    if (n) clean(r, cmds->c, n);
    if (out.n) edm_carry_out(r, &out);
}
