/* hist.h: a histogram of latencies: log-linear buckets, under 1 % wide, nanoseconds.
 *
 * Values below 128 have a bucket each; above, every power of two is cut into 128 (the
 * layout of HdrHistogram, Tene 2012). Recording is one atomic addition, safe in signal
 * handlers and from several threads.
 */
#ifndef EDM_HIST_H
#define EDM_HIST_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { EDM_HIST_SUB = 7, EDM_HIST_BUCKETS = (41 - EDM_HIST_SUB) << EDM_HIST_SUB };

typedef struct edm_hist {
    _Atomic uint64_t count, sum, max;
    _Atomic uint32_t at[EDM_HIST_BUCKETS]; /* up to 2^40 ns, 18 minutes; longer counts as that */
} edm_hist;

static inline uint32_t edm_hist_bucket(uint64_t ns) {
    if (ns >> 40) ns = ((uint64_t)1 << 40) - 1;
    if (ns < (1u << EDM_HIST_SUB)) return (uint32_t)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - EDM_HIST_SUB;
    return ((shift + 1) << EDM_HIST_SUB) + (uint32_t)((ns >> shift) - (1u << EDM_HIST_SUB));
}

/* The middle of a bucket. */
static inline double edm_hist_value(uint32_t bucket) {
    if (bucket < (1u << EDM_HIST_SUB)) return bucket;
    unsigned shift = (bucket >> EDM_HIST_SUB) - 1;
    uint64_t low = (uint64_t)((bucket & ((1u << EDM_HIST_SUB) - 1)) + (1u << EDM_HIST_SUB)) << shift;
    return (double)low + (double)((uint64_t)1 << shift) / 2 - 0.5;
}

static inline void edm_hist_record(edm_hist *h, uint64_t ns) {
    atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->at[edm_hist_bucket(ns)], 1, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);
    while (ns > max && !atomic_compare_exchange_weak_explicit(&h->max, &max, ns, memory_order_relaxed,
                                                              memory_order_relaxed)) {}
}

static inline void edm_hist_reset(edm_hist *h) {
    atomic_store_explicit(&h->count, 0, memory_order_relaxed);
    atomic_store_explicit(&h->sum, 0, memory_order_relaxed);
    atomic_store_explicit(&h->max, 0, memory_order_relaxed);
    for (size_t i = 0; i < sizeof h->at / sizeof *h->at; i++) atomic_store_explicit(&h->at[i], 0, memory_order_relaxed);
}

typedef struct edm_latency edm_latency;
/* Adds `from` to `into`, and the other way: what a histogram says. All zero if it is empty. */
void edm_hist_merge(edm_hist *into, const edm_hist *from);
void edm_hist_summary(const edm_hist *h, edm_latency *out);
/* The value, in ns, that a share q of those recorded does not exceed; 0: there are none. */
double edm_hist_quantile(const edm_hist *h, double q);

#endif
