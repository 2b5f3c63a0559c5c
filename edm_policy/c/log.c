/* log.c: the decision log, and its replay through a fresh pager. */
#include "core.h"

void edm_log_to(edm_pager *p, edm_log_sink sink, void *ctx, edm_rec *buffer, uint64_t capacity) {
    edm_log_flush(p);
    p->log_sink = sink;
    p->log_ctx = ctx;
    p->log_buf = buffer;
    p->log_cap = capacity;
}

void edm_log_flush(edm_pager *p) {
    if (p->log_sink && p->log_n) p->log_sink(p->log_ctx, p->log_buf, p->log_n);
    p->log_n = 0;
}

/* Plays one event. Returns how many records it took, or 0 if it is none. */
static uint64_t apply(edm_pager *p, const edm_rec *r, uint64_t left, edm_cmds *out, int *status) {
    out->n = 0;
    *status = -1;
    switch (r->kind) {
    case EDM_EV_FAULT: edm_fault(p, r->page, r->flags, r->now, out); return 1;
    case EDM_EV_INSTALLED: edm_installed(p, r->page, r->now); return 1;
    case EDM_EV_FETCH_FAILED: edm_fetch_failed(p, r->page, r->now, out); return 1;
    case EDM_EV_TOUCHED: edm_touched(p, r->page, r->flags, r->now); return 1;
    case EDM_EV_RECLAIM: *status = edm_reclaim(p, r->page, r->now, out); return 1;
    case EDM_EV_DONE: edm_done(p, r->page, r->now); return 1;
    case EDM_EV_STORED: edm_stored(p, r->page, r->now); return 1;
    case EDM_EV_STORE_FAILED: edm_store_failed(p, r->page, r->now); return 1;
    case EDM_EV_DISCARD: edm_discard(p, r->page, r->now, out); return 1;
    case EDM_EV_RECALL: edm_recall(p, r->page, r->now, out); return 1;
    case EDM_EV_FLUSH: edm_flush(p, r->page, r->now, out); return 1;
    case EDM_EV_ADOPT: edm_adopt(p, r->page, r->now); return 1;
    case EDM_EV_WILLNEED: edm_willneed(p, r->page, r->now, out); return 1;
    case EDM_EV_ADVISE:
        if (left < 2) return 0;
        edm_advise(p, r[0].page, r[1].page, r[0].flags, r->now);
        return 2;
    case EDM_EV_RESIZE:
        if (left < 3) return 0;
        edm_resize(p, r[0].page, r[1].page, r[2].page, r->now);
        return 3;
    default: return 0;
    }
}

/* Could this event have happened? In a log that was changed it may not have. */
static int possible(const edm_pager *p, const edm_rec *r) {
    if (r->kind == EDM_EV_RECLAIM || r->kind == EDM_EV_RESIZE) return 1;
    if (r->page >= p->pages) return 0;
    unsigned s = edm_state_of(p, r->page);
    int held = (p->word[r->page] & EDM_HELD) != 0;
    switch (r->kind) {
    case EDM_EV_INSTALLED:
    case EDM_EV_FETCH_FAILED: return s == EDM_FETCHING;
    case EDM_EV_DONE: return held;
    case EDM_EV_STORED:
    case EDM_EV_STORE_FAILED:
        if (edm_cleaning(p->word[r->page])) return !held || (p->word[r->page] & EDM_DIRTY);
        return s == EDM_LEAVING || held;
    default: return 1;
    }
}

static int same(const edm_rec *a, const edm_rec *b) {
    return a->page == b->page && a->kind == b->kind && a->flags == b->flags;
}

uint64_t edm_replay_log(edm_pager *p, const edm_rec *recs, uint64_t n, edm_rec *got) {
    edm_cmds out;
    for (uint64_t i = 0; i < n;) {
        int status;
        uint64_t took = possible(p, &recs[i]) ? apply(p, &recs[i], n - i, &out, &status) : 0;
        if (!took) {
            *got = (edm_rec){0, 0, 0, 0, 0}; /* no event, or one that could not be */
            return i;
        }
        uint64_t now = recs[i].now;
        i += took;
        for (uint32_t k = 0; k < out.n; k++, i++) {
            *got = (edm_rec){now, out.c[k].page, (uint8_t)(out.c[k].op | 0x80), out.c[k].flags, 0};
            if (i >= n || !same(&recs[i], got)) return i;
        }
        if (status >= 0) {
            *got = (edm_rec){now, 0, EDM_STATUS | 0x80, (uint8_t)status, 0};
            if (i >= n || !same(&recs[i], got)) return i;
            i++;
        }
    }
    return n;
}
