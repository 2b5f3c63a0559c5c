/* none: demand paging, nothing is fetched ahead. */
#include "core.h"

static size_t size(const edm_config *c) { return (void)c, 0; }
static int init(edm_pager *p, void *mem, void *ctx) { return (void)p, (void)mem, (void)ctx, 0; }
static void fault(edm_pager *p, uint32_t page, int write) { (void)p, (void)page, (void)write; }
static void outcome(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static const edm_prefetcher edm_none = {
    .name = "none",
    .summary = "demand paging",
    .paper = "",
    .params = "",
    .size = size,
    .init = init,
    .fault = fault,
    .used = outcome,
    .unused = outcome,
};

const edm_prefetcher *edm_prefetcher_none(void) { return &edm_none; }
