/* advise.c: what the program says of its accesses to come. */
#include "region.h"

#include "patience.h"

enum { WINDOW = 64, WAIT_NS = 10000000 };

/* Asks for pages [*page, end), a window of them; on from the first that has no room. 1: no room. */
static int ask(edm_region *r, uint32_t *page, uint32_t end, edm_cmds *wanted, int *wake) {
    edm_cmds one;
    int full = 0;
    wanted->n = 0;
    edm_lock_take(&r->lock);
    for (; *page < end && wanted->n < WINDOW && !full; *page += !full) {
        edm_willneed(r->pager, *page, edm_event_now(r), &one);
        for (uint32_t i = 0; i < one.n; i++) {
            if (one.c[i].op == EDM_PREFETCH) wanted->c[wanted->n++] = one.c[i];
            full |= one.c[i].op == EDM_RECLAIM;
            *wake |= one.c[i].op == EDM_WAKE_LPET;
        }
    }
    edm_lock_give(&r->lock);
    return full;
}

int edm_region_willneed(edm_region *r, uint32_t first, uint32_t n) {
    uint64_t left = r->deadline_ns;
    edm_lock_take(&r->lock);
    uint32_t low = edm_config_of(r->pager)->low;
    edm_lock_give(&r->lock);
    uint32_t page = first, end = first + (n < low ? n : low);
    while (page < end) {
        edm_cmds wanted;
        uint32_t ticket = edm_event_ticket(&r->room), chosen;
        int wake = 0, full = ask(r, &page, end, &wanted, &wake);
        if (wanted.n) {
            edm_prefetch_out(r, wanted.c, wanted.n);
            left = r->deadline_ns;
        }
        if (wake && r->has_lpet) edm_event_raise(&r->lpet_event);
        if (!full) {
            if (wake && !r->has_lpet) edm_reclaim_to_ok(r);
            continue;
        }
        if (!left) return -ENOMEM;
        uint64_t began = edm_now_ns();
        edm_reclaim_step(r, EDM_DIRECT, &chosen);
        if (!chosen) edm_event_wait(&r->room, ticket, 0, WAIT_NS);
        edm_patience_spend(&left, began, chosen ? r->deadline_ns : WAIT_NS);
    }
    return 0;
}

int edm_region_advise(edm_region *r, uint32_t first, uint32_t n, int random) {
    edm_lock_take(&r->lock);
    int error = edm_advise(r->pager, first, n, random, edm_event_now(r));
    edm_lock_give(&r->lock);
    return error ? -EINVAL : 0;
}
