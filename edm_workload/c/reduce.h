/*
 * Reducing a stream of memory references to a trace of pages that pagers can run.
 *
 * Two steps, both in one pass. First, consecutive references to one page become one
 * record. Then, for k > 0, Safely Allowed Drop (Kaplan, Smaragdakis, Wilson: "Trace
 * reduction for virtual memory simulations", SIGMETRICS 1999):
 *
 *     page p is referenced at t1, t2 and t3, and at most k-1 other pages are referenced
 *     between t1 and t3. Then a memory of k frames or more holds p throughout, under LRU
 *     and under the optimum, whether t2 happens or not: the record of t2 is dropped.
 *
 * Misses of LRU and of the optimum stay exact for every size >= k; other policies see
 * fewer hits than there were.
 *
 * A folded or dropped reference is counted in `hits` of the record it is folded into,
 * which is the earlier one, and if it writes, that record writes: the page is resident
 * from that record to the next, so it leaves dirty in both traces.
 *
 * No I/O: the caller feeds text or arrays. Functions return 0 or -errno.
 */
#ifndef EDM_REDUCE_H
#define EDM_REDUCE_H

#include <stddef.h>
#include <stdint.h>

/* cffi-begin */
struct edm_reduce;

/* k: frames from which the result is exact, 0 for no dropping; page_shift: log2 of the page
 * size; instructions: whether instruction fetches are references, too. NULL: no memory. */
struct edm_reduce *edm_reduce_new(uint32_t k, uint32_t page_shift, int instructions);
void edm_reduce_free(struct edm_reduce *r);

/* Whole lines as valgrind's lackey writes them; others are passed over. One instruction is
 * one unit of time. -EINVAL: a line of a reference that cannot be read. */
int edm_reduce_lackey(struct edm_reduce *r, const char *text, size_t length);

/* A page, and how often it was referenced in a row; hits: after the first one. valgrind/tracer.c
 * writes these. */
struct edm_reference {
    uint64_t page, t;
    uint32_t hits, write;
};

int edm_reduce_references(struct edm_reduce *r, size_t n, const struct edm_reference *references);

/* n references that are pages already; write, t and hits may be NULL. */
int edm_reduce_pages(struct edm_reduce *r, size_t n, const uint64_t *page, const uint8_t *write,
                     const uint64_t *t, const uint32_t *hits);

/* How many references have come, of how many pages. */
uint64_t edm_reduce_seen(const struct edm_reduce *r, uint64_t *pages);

/* Number of records so far, and the records themselves, oldest first. */
size_t edm_reduce_count(struct edm_reduce *r);
void edm_reduce_take(struct edm_reduce *r, uint64_t *page, uint8_t *write, uint64_t *t,
                     uint32_t *hits);
/* cffi-end */

#endif
