/* buffers.c: the stash: plain memory that holds pages which are out of the program's sight,
 * and scratch space for fetches.
 *
 * A page that is IDLE or LEAVING has a buffer (`buffer_of`). A free buffer that was used has
 * memory behind it ("warm") and is taken first, the latest first, while it is in the caches.
 * Warm ones beyond `warm_most` are given back to the kernel in batches, the oldest first, by
 * one thread at a time, so that pages + EDM_DRAIN buffers are always enough: with pages that are unmapped
 * (that costs no TLB flush of its own), or when there are `slack` too many.
 */
#define _GNU_SOURCE
#include "region.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

uint32_t edm_buffer_take(edm_region *r) {
    struct edm_stash *s = &r->stash;
    if (s->warm_n) return s->warm[(s->warm_head + --s->warm_n) % s->count];
    if (s->cold_n) return s->cold[--s->cold_n];
    if (EDM_UNLIKELY(s->fresh == s->count)) abort(); /* more buffers than pages: a page has two */
    return s->fresh++;
}

void edm_buffer_give(edm_region *r, uint32_t page) {
    struct edm_stash *s = &r->stash;
    if (r->buffer_of[page] != EDM_IN_STORE) s->warm[(s->warm_head + s->warm_n++) % s->count] = r->buffer_of[page];
}

uint32_t edm_buffers_surplus(edm_region *r, uint32_t *buffers, int rides) {
    struct edm_stash *s = &r->stash;
    uint32_t n = 0;
    if (s->draining || s->warm_n < s->warm_most + (rides ? EDM_RIDE : s->slack)) return 0;
    s->draining = 1;
    for (; n < EDM_DRAIN && s->warm_n > s->warm_most; n++, s->warm_n--) {
        buffers[n] = s->warm[s->warm_head];
        s->warm_head = (s->warm_head + 1) % s->count;
    }
    edm_sort(buffers, n);
    return n;
}

void edm_buffers_drained(edm_region *r, const uint32_t *buffers, uint32_t n) {
    struct edm_stash *s = &r->stash;
    for (uint32_t i = 0; i < n; i++) s->cold[s->cold_n++] = buffers[i];
    if (n) s->draining = 0;
}

void edm_buffers_drain(edm_region *r, const uint32_t *buffers, uint32_t n) {
    if (!n) return;
    edm_forget(r, NULL, 0, buffers, n);
    edm_lock_take(&r->lock);
    edm_buffers_drained(r, buffers, n);
    edm_lock_give(&r->lock);
}

/* Shell sort: no allocation, and a batch is small. */
#define SHELL_SORT(at, n, type, KEY)                                                                  \
    static const uint32_t gaps[] = {57, 23, 10, 4, 1};                                                \
    for (unsigned g = 0; g < sizeof gaps / sizeof *gaps; g++)                                         \
        for (uint32_t gap = gaps[g], i = gap; i < (n); i++) {                                         \
            type it = (at)[i];                                                                        \
            uint32_t k = i;                                                                           \
            for (; k >= gap && KEY((at)[k - gap]) > KEY(it); k -= gap) (at)[k] = (at)[k - gap];       \
            (at)[k] = it;                                                                             \
        }
#define ITSELF(x) (x)
#define ITS_PAGE(x) ((x).page)

void edm_sort(uint32_t *numbers, uint32_t n) { SHELL_SORT(numbers, n, uint32_t, ITSELF) }
void edm_sort_commands(edm_cmd *c, uint32_t n) { SHELL_SORT(c, n, edm_cmd, ITS_PAGE) }

uint32_t edm_runs(const edm_region *r, uint8_t *base, const uint32_t *numbers, uint32_t n, struct iovec *run) {
    uint32_t runs = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = base + ((size_t)numbers[i] << r->shift);
        if (runs && (uint8_t *)run[runs - 1].iov_base + run[runs - 1].iov_len == at) run[runs - 1].iov_len += r->page_size;
        else run[runs++] = (struct iovec){at, r->page_size};
    }
    return runs;
}

void edm_forget(edm_region *r, const uint32_t *pages, uint32_t n, const uint32_t *buffers, uint32_t m) {
    struct iovec run[EDM_CMDS_MAX + EDM_DRAIN];
    uint32_t runs = edm_runs(r, r->memory, pages, n, run);
    runs += edm_runs(r, r->stash.bytes, buffers, m, run + runs);
    edm_spans *spans = r->spans;
    uint64_t mark = EDM_UNLIKELY(spans != NULL) ? edm_span_flush_begins(spans) : 0;
    /* One call, one TLB flush. Kernels before 6.13 refuse this advice, and say so at once; one that stops
     * midway (a locked range) says how far it came. */
    if (runs <= 1 || r->self < 0 ||
        syscall(SYS_process_madvise, r->self, run, runs, MADV_DONTNEED, 0) != (long)((size_t)(n + m) << r->shift))
        for (uint32_t i = 0; i < runs; i++) madvise(run[i].iov_base, run[i].iov_len, MADV_DONTNEED);
    if (EDM_UNLIKELY(spans != NULL)) edm_span_flush_ended(spans, n, mark);
}

uint8_t *edm_scratch_take(edm_region *r, uint32_t *which) {
    for (int i = 0;; i++) {
        uint32_t taken = atomic_load_explicit(&r->scratch_taken, memory_order_relaxed);
        if (taken != UINT32_MAX) {
            uint32_t bit = (uint32_t)__builtin_ctz(~taken);
            if (atomic_compare_exchange_weak_explicit(&r->scratch_taken, &taken, taken | 1u << bit, memory_order_acquire,
                                                      memory_order_relaxed)) {
                *which = bit;
                return r->scratch + ((size_t)bit * EDM_SCRATCH_PAGES << r->shift);
            }
        } else if (i % 64 == 63) {
            sched_yield();
        }
    }
}

void edm_scratch_give(edm_region *r, uint32_t which) {
    atomic_fetch_and_explicit(&r->scratch_taken, ~(1u << which), memory_order_release);
}
