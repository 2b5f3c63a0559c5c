/* hist.c: reading histograms. See hist.h. */
#include "hist.h"
#include "runtime.h"

void edm_hist_merge(edm_hist *into, const edm_hist *from) {
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max) into->max = from->max;
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++)
        if (from->at[i]) into->at[i] += from->at[i];
}

/* The value that a share q of all recorded ones does not exceed (nearest rank). */
static double percentile(const edm_hist *h, double q, uint64_t total) {
    uint64_t rank = (uint64_t)(q * (double)total), seen = 0;
    if (rank >= total) rank = total - 1;
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++) {
        seen += h->at[i];
        if (seen > rank) {
            double value = edm_hist_value(i);
            return value < (double)h->max ? value : (double)h->max;
        }
    }
    return (double)h->max;
}

double edm_hist_quantile(const edm_hist *h, double q) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++) total += h->at[i];
    return total ? percentile(h, q, total) : 0;
}

void edm_hist_summary(const edm_hist *h, edm_latency *out) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++) total += h->at[i];
    *out = (edm_latency){0};
    if (!total) return;
    out->count = total;
    out->mean_ns = (double)h->sum / (double)total;
    out->p50_ns = percentile(h, 0.5, total);
    out->p90_ns = percentile(h, 0.9, total);
    out->p99_ns = percentile(h, 0.99, total);
    out->p999_ns = percentile(h, 0.999, total);
    out->max_ns = (double)h->max;
}
