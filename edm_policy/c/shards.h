/* shards.h: an online estimate of LRU's miss ratio at any size, from a sample of the pages. */
#ifndef EDM_SHARDS_H
#define EDM_SHARDS_H

#include <stddef.h>
#include <stdint.h>

/* cffi-begin */
typedef struct edm_shards edm_shards;
/* rate in (0, 1]; NULL: bad arguments, or no memory. */
edm_shards *edm_shards_new(uint32_t pages, double rate, uint64_t seed);
void edm_shards_free(edm_shards *s);
int edm_shards_add(edm_shards *s, const uint32_t *page, uint64_t n); /* references; -1: one is beyond `pages` */
/* The miss ratio at sizes[i] pages and its standard error (0 at rate 1: it is exact). */
void edm_shards_ratio(const edm_shards *s, const uint32_t *sizes, uint32_t n, double *ratio, double *error);
uint64_t edm_shards_sampled(const edm_shards *s); /* references that were looked at */
double edm_shards_rate(const edm_shards *s);      /* the rate it has, a multiple of 2^-24 */
size_t edm_shards_bytes(const edm_shards *s);
/* cffi-end */

#endif
