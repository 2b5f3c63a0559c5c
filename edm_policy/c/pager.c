/* pager.c: the state machine: events in, commands out. See pager.h for the contract.
 *
 * Every change of a page's state goes through edm_move(), which checks it against the
 * table below. An event that makes no sense for the page's state (installing a page
 * nobody fetched) is a driver's bug and ends in the same way.
 */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>

#define TO(s) (1u << EDM_##s)
const uint8_t edm_allowed[EDM_STATES] = {
    [EDM_NEW] = TO(FETCHING) | TO(REMOTE),
    [EDM_REMOTE] = TO(FETCHING) | TO(NEW),
    [EDM_FETCHING] = TO(RESIDENT) | TO(IDLE) | TO(POISONED),
    [EDM_RESIDENT] = TO(IDLE) | TO(LEAVING) | TO(NEW),
    [EDM_IDLE] = TO(FETCHING) | TO(RESIDENT) | TO(LEAVING) | TO(NEW),
    [EDM_LEAVING] = TO(FETCHING) | TO(RESIDENT) | TO(REMOTE) | TO(NEW) | TO(IDLE),
    [EDM_POISONED] = TO(NEW),
};
#undef TO

_Noreturn void edm_bad_transition(const edm_pager *p, uint32_t page, unsigned from, unsigned to) {
    static const char *const names[] = {"NEW", "REMOTE", "FETCHING", "RESIDENT", "IDLE", "LEAVING", "POISONED"};
    /* The one place that prints: nothing after it runs, and a wrong page must not live on. */
    fprintf(stderr, "edm: page %u may not go from %s to %s (evictor %s)\n", page, names[from],
            to < EDM_STATES ? names[to] : "?", p->ev->name);
    abort();
}

static void expect(const edm_pager *p, uint32_t page, int ok) {
    if (EDM_UNLIKELY(!ok)) edm_bad_transition(p, page, edm_state_of(p, page), EDM_STATES);
}

static void begin(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out, uint8_t event, uint8_t flags) {
    if (EDM_UNLIKELY(page >= p->pages && event != EDM_EV_RECLAIM && event != EDM_EV_RESIZE)) abort();
    p->now = now;
    p->out = out;
    if (out) out->n = 0;
    edm_log(p, event, page, flags);
}

static void emit(edm_pager *p, uint8_t op, uint32_t page, uint8_t flags) {
    p->out->c[p->out->n++] = (edm_cmd){page, op, flags, 0};
    edm_log(p, op | 0x80, page, flags);
}

static void set(edm_pager *p, uint32_t page, uint16_t bits) { p->word[page] |= bits; }
static void clear(edm_pager *p, uint32_t page, uint16_t bits) { p->word[page] &= (uint16_t)~bits; }

/* ---- prefetching ---- */

void edm_prefetch_seen(edm_pager *p, uint32_t page) {
    clear(p, page, EDM_PREFETCHED);
    p->stats.prefetch_hits++;
    p->pf->used(p, page);
}

/* Nothing can be learned of its use any more: it leaves, or it was mapped and is marked now. A mapped
 * page may have been used unseen; one that was never mapped, or never out of sight, was not. */
void edm_prefetch_lost(edm_pager *p, uint32_t page) {
    int unseen = p->observe != EDM_OBSERVE_EXACT && edm_state_of(p, page) == EDM_RESIDENT;
    clear(p, page, EDM_PREFETCHED);
    if (unseen) {
        p->stats.prefetch_unseen++;
        return;
    }
    p->stats.prefetch_unused++;
    p->pf->unused(p, page);
}

static int prefetch(edm_pager *p, uint32_t page, uint8_t flags) {
    if (page >= p->pages || p->out->n >= EDM_CMDS_MAX - 1) return 0;
    uint16_t w = p->word[page];
    if ((w & EDM_STATE_MASK) != EDM_REMOTE || (w & (EDM_HELD | EDM_PENDING))) return 0;
    p->wished++;
    if (p->lspt >= p->limit) return 0;
    edm_move(p, page, EDM_FETCHING);
    set(p, page, EDM_PREFETCHED);
    if (flags & EDM_F_IDLE) set(p, page, EDM_HELD); /* and not PENDING: on its way to the stash */
    if (flags & EDM_F_WRITE) set(p, page, EDM_DIRTY);
    p->stats.prefetches++;
    emit(p, EDM_PREFETCH, page, flags | (p->dirty_always ? EDM_F_WRITE : 0));
    return 1;
}

/* Where all that is wanted is written, so will this page be: called dirty now, it saves the program the
 * fault of its first write, and costs a write-back where the guess is wrong. */
int edm_prefetch(edm_pager *p, uint32_t page) {
    return prefetch(p, page, p->writes == EDM_WRITES && !p->dirty_always ? EDM_F_WRITE : 0);
}

int edm_prefetch_marked(edm_pager *p, uint32_t page) {
    int given = prefetch(p, page, EDM_F_IDLE);
    p->stats.prefetch_marks += (uint64_t)given;
    return given;
}

/* Then nothing need ever leave, for a page or for a window. */
static int all_have_room(const edm_pager *p) { return p->high >= p->pages; }

/* Room for the next window: LPET keeps as many pages free as the last window wished for, a quarter of
 * the limit at most. It shrinks by an eighth with each fault that wishes for less. */
static uint32_t high_now(const edm_pager *p) {
    if (all_have_room(p)) return p->high;
    uint32_t most = p->limit / 4, room = p->room < most ? p->room : most;
    return p->limit - room < p->high ? p->limit - room : p->high;
}

static uint32_t low_now(const edm_pager *p) {
    uint32_t high = high_now(p), gap = p->high - p->low;
    return high > gap ? high - gap : 0;
}

/* ---- faults ---- */

/* `here`: pages to judge by. `busy`: pages this answer takes in hand, which LPET cannot choose; when they
 * are more than the low watermark it could not come to an end, and is woken by a later fault. */
static void wake_if_high(edm_pager *p, uint32_t here, uint32_t busy) {
    if (p->lpet_awake || all_have_room(p) || here < high_now(p) || busy > low_now(p)) return;
    p->lpet_awake = 1;
    p->stats.wakes++;
    emit(p, EDM_WAKE_LPET, 0, 0);
}

/* The prefetcher's turn, after the verdict on a miss or on the first use of a page of its own. */
static void look_ahead(edm_pager *p, uint32_t page, int write) {
    p->wished = 0;
    p->writes = write ? p->writes + (p->writes < EDM_WRITES) : 0;
    if (EDM_LIKELY(!p->quiet_n) || !edm_quiet(p, page)) p->pf->fault(p, page, write);
    p->room = p->wished >= p->room ? p->wished : p->room - (p->room + 7) / 8;
    if (p->wished) wake_if_high(p, p->lspt - p->leaving, p->out->n);
}

static void miss(edm_pager *p, uint32_t page, int write) {
    uint16_t w = p->word[page];
    int first = !(w & EDM_PENDING);
    if (first) {
        p->ev->miss(p, page);
        edm_note_miss(p, page);
        set(p, page, EDM_PENDING);
    }
    if (p->lspt >= p->limit) {
        p->stats.stalls += (uint64_t)first;
        emit(p, EDM_RECLAIM, page, first ? 0 : EDM_F_DIRECT);
        wake_if_high(p, p->lspt - p->leaving, 0);
        return;
    }
    uint32_t before = p->lspt - p->leaving;
    clear(p, page, EDM_PENDING);
    edm_move(p, page, EDM_FETCHING);
    if (write || p->dirty_always) set(p, page, EDM_DIRTY);
    p->stats.faults++;
    if (w & EDM_COPY) p->stats.fetches++;
    else p->stats.zero_fills++;
    emit(p, w & EDM_COPY ? EDM_FETCH : EDM_ZERO_FILL, page, write || p->dirty_always ? EDM_F_WRITE : 0);
    look_ahead(p, page, write);
    wake_if_high(p, before, p->out->n);
}

static void rescue(edm_pager *p, uint32_t page, int write) {
    uint16_t w = p->word[page];
    int leaving = (w & EDM_STATE_MASK) == EDM_LEAVING, in_lists = !leaving || (w & EDM_PENDING);
    uint8_t flags = leaving ? EDM_F_LEAVING : 0;
    edm_move(p, page, EDM_FETCHING);
    if (leaving) set(p, page, EDM_HELD); /* until the write-back under way has ended */
    if (write || p->dirty_always) set(p, page, EDM_DIRTY);
    if (p->word[page] & EDM_DIRTY) flags |= EDM_F_WRITE;
    p->stats.faults++;
    p->stats.rescues++;
    emit(p, EDM_RESCUE, page, flags);
    if (w & EDM_PREFETCHED) {
        p->stats.prefetch_mark_hits++;
        edm_prefetch_seen(p, page);
        look_ahead(p, page, write);
    }
    if (in_lists) p->ev->touch(p, page);
    else edm_list(p, p->ev->keep, page);
    set(p, page, EDM_PENDING); /* in FETCHING: the evictor has it already */
}

void edm_fault(edm_pager *p, uint32_t page, int write, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_FAULT, write != 0);
    if (p->config.auto_min) edm_auto(p);
    uint16_t w = p->word[page];
    unsigned s = w & EDM_STATE_MASK;
    if (s == EDM_POISONED) {
        emit(p, EDM_POISON, page, 0);
    } else if (s == EDM_FETCHING || (w & EDM_HELD)) {
        p->stats.waits++;
        emit(p, EDM_WAIT, page, 0);
        if (s == EDM_FETCHING && (w & EDM_PREFETCHED)) {
            p->stats.prefetch_late++;
            p->stats.prefetch_mark_hits += (w & EDM_HELD) != 0;
            edm_prefetch_seen(p, page);
            look_ahead(p, page, write);
        }
    } else if (s == EDM_RESIDENT) {
        if (write && !(w & EDM_DIRTY)) {
            set(p, page, EDM_DIRTY | EDM_HELD);
            p->stats.faults++;
            p->stats.write_faults++;
            emit(p, EDM_ALLOW_WRITE, page, 0);
            edm_see_use(p, p->ev, page);
            if (w & EDM_PREFETCHED) look_ahead(p, page, write);
        } else {
            p->stats.retries++;
            emit(p, EDM_RETRY, page, 0);
        }
    } else if (s == EDM_NEW || s == EDM_REMOTE) {
        miss(p, page, write);
    } else {
        rescue(p, page, write);
    }
    p->out = NULL;
}

/* A page in FETCHING: is it a prefetcher's marker, on its way to the stash? (A rescue is PENDING too.) */
static int is_marker(uint16_t w) { return (w & (EDM_HELD | EDM_PENDING)) == EDM_HELD; }

void edm_installed(edm_pager *p, uint32_t page, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_INSTALLED, 0);
    int in_lists = p->word[page] & EDM_PENDING, marked = is_marker(p->word[page]);
    expect(p, page, edm_state_of(p, page) == EDM_FETCHING);
    edm_move(p, page, marked ? EDM_IDLE : EDM_RESIDENT);
    clear(p, page, marked ? EDM_HELD : EDM_PENDING);
    if (p->dirty_always) set(p, page, EDM_DIRTY);
    if (!in_lists) edm_list(p, p->ev->insert, page);
}

void edm_fetch_failed(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_FETCH_FAILED, 0);
    if (p->word[page] & EDM_PENDING) edm_unlist(p, page);
    if (is_marker(p->word[page])) clear(p, page, EDM_HELD);
    if (p->word[page] & EDM_PREFETCHED) edm_prefetch_lost(p, page);
    edm_move(p, page, EDM_POISONED);
    clear(p, page, EDM_PENDING | EDM_DIRTY);
    p->stats.store_errors++;
    p->stats.poisoned++;
    emit(p, EDM_POISON, page, 0);
    p->out = NULL;
}

void edm_touched(edm_pager *p, uint32_t page, int write, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_TOUCHED, write != 0);
    uint16_t w = p->word[page];
    unsigned s = w & EDM_STATE_MASK;
    if (s != EDM_RESIDENT && ((s != EDM_IDLE && s != EDM_LEAVING) || (w & EDM_HELD)))
        return; /* it left between the access and the report, or is being taken out of sight */
    int in_lists = s != EDM_LEAVING || (w & EDM_PENDING);
    if (s != EDM_RESIDENT) edm_move(p, page, EDM_RESIDENT);
    if (s == EDM_LEAVING) {
        clear(p, page, EDM_PENDING);
        set(p, page, EDM_HELD); /* until the write-back under way has ended */
        p->stats.rescues++;
    }
    p->stats.prefetch_mark_hits += s == EDM_IDLE && (w & EDM_PREFETCHED);
    if (in_lists) edm_see_use(p, p->ev, page);
    else edm_list(p, p->ev->keep, page);
    if ((write && s != EDM_RESIDENT) || p->dirty_always) set(p, page, EDM_DIRTY);
}

/* ---- reclaim ---- */

int edm_mark(edm_pager *p, uint32_t page) {
    if (p->out->n >= p->answer_most - 1) return 0;
    if (p->word[page] & EDM_PREFETCHED) edm_prefetch_lost(p, page);
    edm_move(p, page, EDM_IDLE);
    set(p, page, EDM_HELD);
    p->stats.marks++;
    emit(p, EDM_MARK_IDLE, page, 0);
    return 1;
}

static void send_away(edm_pager *p, uint32_t page, uint8_t extra) {
    uint16_t w = p->word[page];
    uint8_t flags = extra;
    if (w & EDM_DIRTY) flags |= EDM_F_DIRTY;
    if ((w & EDM_STATE_MASK) == EDM_IDLE) flags |= EDM_F_IDLE;
    int mapped = (w & EDM_STATE_MASK) == EDM_RESIDENT && p->observe != EDM_OBSERVE_EXACT;
    if ((w & EDM_PREFETCHED) && (mapped || !(extra & EDM_F_KEEP))) edm_prefetch_lost(p, page);
    edm_move(p, page, EDM_LEAVING);
    set(p, page, EDM_HELD);
    emit(p, EDM_EVICT, page, flags);
}

static int reclaim(edm_pager *p, uint32_t max) {
    uint32_t evicted = 0, skipped = 0;
    p->passed = 0;
    if (!p->in_session) {
        p->in_session = 1;
        p->session++;
    }
    while (p->lspt - p->leaving > low_now(p)) {
        if (evicted == max || p->out->n >= p->answer_most) return EDM_RUNNING;
        int64_t victim = edm_choose(p);
        if (victim < 0) return p->out->n ? EDM_RUNNING : EDM_FAIL; /* EDM_NONE, EDM_AGAIN */
        uint32_t page = (uint32_t)victim;
        /* In somebody's hands: passed over this time. Once round and no further: the order is as before then. */
        if (EDM_UNLIKELY(!edm_takeable(p, page))) {
            edm_list(p, p->ev->keep, page);
            if (++skipped >= p->listed) return p->out->n ? EDM_RUNNING : EDM_FAIL;
            continue;
        }
        send_away(p, page, 0);
        evicted++;
    }
    p->in_session = 0;
    p->lpet_awake = 0;
    return EDM_OK;
}

int edm_reclaim(edm_pager *p, uint32_t max, uint64_t now, edm_cmds *out) {
    begin(p, max, now, out, EDM_EV_RECLAIM, 0);
    if (p->config.auto_min) edm_auto(p);
    if (max == 0 || max > p->config.batch) max = p->config.batch;
    p->answer_most = max < EDM_CMDS_MAX / EDM_LOOKS ? max * EDM_LOOKS : EDM_CMDS_MAX;
    int status = reclaim(p, max);
    p->stats.reclaims++;
    edm_log(p, EDM_STATUS | 0x80, 0, (uint8_t)status);
    p->out = NULL;
    return status;
}

void edm_done(edm_pager *p, uint32_t page, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_DONE, 0);
    expect(p, page, p->word[page] & EDM_HELD);
    clear(p, page, EDM_HELD);
}

int edm_droppable(const edm_pager *p, uint32_t page, int op, int quick) {
    uint16_t w = p->word[page];
    if (p->dirty_always || (w & EDM_DIRTY)) return 0;
    return op == EDM_EVICT || (quick && (w & EDM_COPY));
}

int edm_placeable(const edm_pager *p, uint32_t page) { return (p->word[page] & EDM_DIRTY) != 0; }

/* The store has the copy, or refused it. A page that is written again is dirty already: it is HELD then, until that is
 * allowed, or writable. */
static void end_cleaning(edm_pager *p, uint32_t page, uint16_t w) {
    expect(p, page, (w & EDM_DIRTY) || !(w & EDM_HELD)); /* the copy was made */
    clear(p, page, EDM_PENDING);
}

int edm_stored(edm_pager *p, uint32_t page, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_STORED, 0);
    uint16_t w = p->word[page];
    if (edm_cleaning(w)) {
        end_cleaning(p, page, w);
        set(p, page, EDM_COPY);
        p->stats.writebacks++;
        return 0;
    }
    if ((w & EDM_STATE_MASK) != EDM_LEAVING) { /* rescued meanwhile */
        expect(p, page, w & EDM_HELD);
        clear(p, page, EDM_HELD);
        /* A clean page was dropped, not stored; of a poisoned one nobody knows any more. */
        if ((w & EDM_DIRTY) || edm_state_of(p, page) == EDM_POISONED) set(p, page, EDM_COPY);
        return 0;
    }
    if (w & EDM_DIRTY) {
        p->stats.writebacks++;
        set(p, page, EDM_COPY);
        clear(p, page, EDM_DIRTY);
    } else {
        p->stats.clean_drops++;
    }
    if (w & EDM_PENDING) {
        edm_move(p, page, EDM_IDLE);
        clear(p, page, EDM_PENDING);
        return 2;
    }
    p->stats.evictions++;
    edm_note_left(p, page);
    edm_move(p, page, p->word[page] & EDM_COPY ? EDM_REMOTE : EDM_NEW);
    return 1;
}

int edm_store_failed(edm_pager *p, uint32_t page, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_STORE_FAILED, 0);
    uint16_t w = p->word[page];
    p->stats.store_errors++;
    if (edm_cleaning(w)) {
        end_cleaning(p, page, w);
        if (w & EDM_DIRTY) return 0;
        set(p, page, EDM_DIRTY | EDM_HELD);
        return 1;
    }
    if ((w & EDM_STATE_MASK) != EDM_LEAVING) {
        expect(p, page, w & EDM_HELD);
        clear(p, page, EDM_HELD);
        return 0;
    }
    edm_move(p, page, EDM_IDLE); /* it stays, in the stash; a later round tries again */
    if (!(w & EDM_PENDING)) edm_list(p, p->ev->keep, page);
    clear(p, page, EDM_PENDING);
    return 2;
}

/* ---- what the program asks for ---- */

void edm_discard(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_DISCARD, 0);
    uint16_t w = p->word[page];
    unsigned s = w & EDM_STATE_MASK;
    if (s == EDM_FETCHING || s == EDM_LEAVING || (w & EDM_HELD) || edm_cleaning(w)) {
        emit(p, EDM_WAIT, page, 0);
    } else if (s != EDM_NEW) {
        if (s == EDM_RESIDENT || s == EDM_IDLE) edm_unlist(p, page);
        if (w & EDM_PREFETCHED) edm_prefetch_lost(p, page);
        edm_move(p, page, EDM_NEW);
        p->word[page] = (uint16_t)((p->word[page] & ~(EDM_DIRTY | EDM_COPY | EDM_PENDING)) | EDM_HELD);
        p->stats.discards++;
        if (p->left_at) p->left_at[page] = 0;
        emit(p, EDM_DISCARD, page, (s == EDM_IDLE ? EDM_F_IDLE : 0) | (w & EDM_COPY ? EDM_F_COPY : 0));
    }
    p->out = NULL;
}

static void take_out(edm_pager *p, uint32_t page, uint8_t extra) {
    uint16_t w = p->word[page];
    if (edm_takeable(p, page)) {
        if (!(extra & EDM_F_KEEP)) edm_unlist(p, page);
        send_away(p, page, extra);
        if (extra & EDM_F_KEEP) set(p, page, EDM_PENDING);
    } else if (edm_in_lspt(w & EDM_STATE_MASK)) {
        emit(p, EDM_WAIT, page, 0);
    }
}

void edm_recall(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_RECALL, 0);
    take_out(p, page, 0);
    p->out = NULL;
}

void edm_flush(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_FLUSH, 0);
    uint16_t w = p->word[page];
    if (edm_cleaning(w)) { /* clean or not, its bytes are not in the store yet */
        emit(p, EDM_WAIT, page, 0);
    } else if ((w & (EDM_STATE_MASK | EDM_DIRTY | EDM_HELD)) == (EDM_RESIDENT | EDM_DIRTY) && !p->dirty_always) {
        clear(p, page, EDM_DIRTY);
        set(p, page, EDM_HELD | EDM_PENDING);
        emit(p, EDM_CLEAN, page, EDM_F_DIRTY);
    } else if (w & EDM_DIRTY) {
        take_out(p, page, EDM_F_KEEP);
    }
    p->out = NULL;
}

void edm_willneed(edm_pager *p, uint32_t page, uint64_t now, edm_cmds *out) {
    begin(p, page, now, out, EDM_EV_WILLNEED, 0);
    p->wished = 0;
    if (!prefetch(p, page, 0) && p->wished) emit(p, EDM_RECLAIM, page, 0);
    if (p->wished) wake_if_high(p, p->lspt - p->leaving, out->n);
    p->out = NULL;
}

int edm_adopt(edm_pager *p, uint32_t page, uint64_t now) {
    begin(p, page, now, NULL, EDM_EV_ADOPT, 0);
    if ((p->word[page] & (EDM_STATE_MASK | EDM_HELD)) != EDM_NEW) return -1;
    edm_move(p, page, EDM_REMOTE);
    set(p, page, EDM_COPY);
    return 0;
}

int edm_resize(edm_pager *p, uint32_t low, uint32_t high, uint32_t limit, uint64_t now) {
    begin(p, low, now, NULL, EDM_EV_RESIZE, 0);
    edm_log(p, EDM_EV_RESIZE, high, 1);
    edm_log(p, EDM_EV_RESIZE, limit, 2);
    if (low >= high || high > limit) return -1;
    p->config.low = p->low = low;
    p->config.high = p->high = high;
    p->config.limit = p->limit = limit;
    return 0;
}

/* ---- stretches of references ---- */

uint64_t edm_consume(edm_pager *p, const edm_refs *r, uint64_t i) {
    return p->ev->consume ? p->ev->consume(p, r, i) : edm_consume_with(p, p->ev, r, i);
}
