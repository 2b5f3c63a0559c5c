/* instant.c: the pager as its own driver, every command carried out at once.
 *
 * Under exact observation that is a classical cache, for which a policy file brings a
 * loop of its own (edm_classic_with). Under less, the same references go through the
 * events themselves, so that marks and rescues happen as on real memory: this is what
 * tells how many misses not seeing hits costs.
 */
#include "core.h"

/* Reclaims until LPET would sleep. -1 when nothing can be chosen. */
static int reclaim_all(edm_pager *p, uint64_t now, edm_cmds *out) {
    int status;
    do {
        status = edm_reclaim(p, 0, now, out);
        for (uint32_t k = 0; k < out->n; k++) edm_done(p, out->c[k].page, now);
        for (uint32_t k = 0; k < out->n; k++)
            if (out->c[k].op == EDM_EVICT) edm_stored(p, out->c[k].page, now);
    } while (status == EDM_RUNNING && !p->stopped);
    return status == EDM_OK ? 0 : -1;
}

/* One fault to its end. -1 when there is no way on. */
static int resolve(edm_pager *p, uint32_t page, int write, uint64_t now) {
    edm_cmds out, more;
    for (;;) {
        edm_fault(p, page, write, now, &out);
        if (p->stopped || !out.n) return -1;
        if (out.c[0].op != EDM_RECLAIM) break;
        if (reclaim_all(p, now, &more)) return -1;
    }
    for (uint32_t k = 1; k < out.n; k++) /* first: what is FETCHING cannot be chosen */
        if (out.c[k].op == EDM_WAKE_LPET && reclaim_all(p, now, &more)) return -1;
    for (uint32_t k = 0; k < out.n; k++) {
        switch (out.c[k].op) {
        case EDM_ZERO_FILL: case EDM_FETCH: case EDM_RESCUE: case EDM_PREFETCH:
            edm_installed(p, out.c[k].page, now);
            break;
        case EDM_ALLOW_WRITE: edm_done(p, page, now); break;
        default: break;
        }
    }
    return 0;
}

static uint64_t run_events(edm_pager *p, const edm_refs *r) {
    uint64_t before = p->stats.zero_fills + p->stats.fetches;
    for (uint64_t i = edm_consume(p, r, 0); i < r->n && !p->stopped; i = edm_consume(p, r, i + 1)) {
        p->stats.refs++;
        if (resolve(p, r->page[i], r->write && r->write[i], i)) p->stopped = 1;
    }
    return p->stats.zero_fills + p->stats.fetches - before;
}

uint64_t edm_run_classic(edm_pager *p, const edm_refs *r) {
    p->stopped = 0;
    if (p->observe != EDM_OBSERVE_EXACT || p->log_sink || p->config.auto_min || p->pf != edm_prefetcher_named("none"))
        return run_events(p, r);
    uint64_t misses = p->ev->classic ? p->ev->classic(p, r) : edm_classic_with(p, p->ev, r);
    p->listed = (uint32_t)edm_known_pages(p); /* the loop asks the hooks itself */
    return misses;
}

void edm_stop(edm_pager *p) { p->stopped = 1; }
int edm_stopped(const edm_pager *p) { return p->stopped; }
