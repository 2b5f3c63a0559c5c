/* evict.c: carries out what edm_reclaim() chose.
 *
 *   lock    edm_reclaim(): pages to mark idle, pages to evict; all HELD from here on
 *   -       unmap them, sorted by address, in one batch, and read their bytes into buffers, some at a time;
 *   lock    edm_done() for these: marked pages rest in the stash; clean ones are gone
 *   -       write the dirty ones to the store, straight from their buffers
 *   lock    edm_stored() or edm_store_failed() for each; their buffers are free
 *
 * A clean page under exact tracking is write-protected all along: it is dropped, not copied. So is one that is
 * marked idle, where the store has its bytes and is quickly asked for them: a rescue then fetches them
 * (its buffer_of is EDM_IN_STORE). Where the store has a place for the bytes in this process's memory, they go there at
 * once: the page is stored when it is out of sight, no buffer and no second copy is needed.
 */
#define _GNU_SOURCE
#include "region.h"

#include "checksum.h"
#include "patience.h"

#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

enum { REFUSED_NS = 5000000, STEP = 8 };

/* Where the bytes of sorted pages[0..n) go: to the store, where they shall and it has a place for them, or to buffers. */
void edm_find_places(edm_region *r, const uint32_t *pages, uint8_t **to, uint32_t n) {
    uint32_t buffers[EDM_CMDS_MAX], wanted = 0, next = 0;
    for (uint32_t i = 0; i < n; i++) {
        int may = r->store->ops->place && r->buffer_of[pages[i]] == EDM_IN_STORE;
        to[i] = may ? r->store->ops->place(r->store, pages[i]) : NULL;
        wanted += !to[i];
    }
    if (!wanted) return;
    edm_lock_take(&r->lock);
    for (uint32_t i = 0; i < wanted; edm_lock_pass(&r->lock), i++) buffers[i] = edm_buffer_take(r);
    edm_lock_give(&r->lock);
    edm_sort(buffers, wanted);
    for (uint32_t i = 0; i < n; i++) {
        if (to[i]) continue;
        r->buffer_of[pages[i]] = buffers[next];
        to[i] = edm_buffer_at(r, buffers[next++]);
    }
}

/* What went straight to the store is as if it were put. */
void edm_note_placed(edm_region *r, const uint32_t *pages, uint32_t n) {
    uint32_t placed = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (r->buffer_of[pages[i]] != EDM_IN_STORE) continue;
        r->sum[pages[i]] = r->stashed_sum[pages[i]];
        placed++;
    }
    if (EDM_UNLIKELY(placed && r->full_since_ns)) r->full_since_ns = 0;
}

static void raise_all(edm_region *r, const edm_cmd *c, uint32_t n) {
    for (uint32_t i = 0; EDM_UNLIKELY(atomic_load(&r->waiting)) && i < n; i++) edm_page_raise(r, c[i].page);
}

/* The pages are out of the program's sight, or copied. What is still to be stored comes to the front of c; how many. */
static uint32_t tell_done(edm_region *r, edm_cmd *c, uint32_t n) {
    uint32_t dirty[EDM_CMDS_MAX], kept = 0, surplus[EDM_DRAIN], surplus_n;
    uint64_t mark = edm_span_begin(r);
    edm_lock_take(&r->lock);
    for (uint32_t i = 0; i < n; edm_lock_pass(&r->lock), i++) {
        uint64_t now = edm_event_now(r);
        edm_done(r->pager, c[i].page, now);
        if (c[i].op == EDM_MARK_IDLE) continue;
        if (r->lockstep || ((c[i].flags & EDM_F_DIRTY) && r->buffer_of[c[i].page] != EDM_IN_STORE)) {
            dirty[kept++] = i;
        } else { /* clean, or stored: under one hold of the lock, nobody sees it LEAVING without a buffer */
            edm_stored(r->pager, c[i].page, now);
            edm_buffer_give(r, c[i].page);
        }
    }
    surplus_n = edm_buffers_surplus(r, surplus, 0);
    edm_lock_give(&r->lock);
    raise_all(r, c, n);
    edm_event_raise(&r->room);
    mark = edm_span_n(r, EDM_SPAN_DONE, n, mark);
    edm_buffers_drain(r, surplus, surplus_n);
    if (surplus_n) edm_span_n(r, EDM_SPAN_DRAIN, surplus_n, mark);
    for (uint32_t i = 0; i < kept; i++) c[i] = c[dirty[i]];
    return kept;
}

/* How many failed. All are put again where that may be because the process was stopped. */
static int put(edm_region *r, edm_store_io *io, uint32_t n) {
    for (uint64_t left = r->deadline_ns;; left /= 2) {
        uint64_t began = edm_now_ns();
        int failed = r->store->ops->put(r->store, io, n, began + left);
        if (EDM_LIKELY(!failed) || left < EDM_LEAST_NS || !edm_was_stopped(began, left)) return failed;
    }
}

/* Writes the dirty pages back; op is 0 then where that failed. */
static void write_back(edm_region *r, edm_cmd *cmds, uint32_t count) {
    edm_store_io io[EDM_CMDS_MAX];
    uint16_t of[EDM_CMDS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        edm_cmd *c = &cmds[i];
        if (!(c->flags & EDM_F_DIRTY) || r->buffer_of[c->page] == EDM_IN_STORE) continue;
        void *bytes = edm_stashed(r, c->page);
        uint64_t sum = r->stashed_sum[c->page];
        if (r->sum[c->page] == sum) {
            EDM_COUNT(r, same_content, 1);
            continue;
        }
        r->sum[c->page] = sum;
        edm_hook(r, EDM_AT_STORE, c->page);
        of[n] = (uint16_t)i;
        io[n++] = (edm_store_io){.page = c->page, .data = bytes};
    }
    if (!n) return;
    uint64_t mark = edm_span_begin(r);
    int failed = put(r, io, n);
    edm_span_n(r, EDM_SPAN_PUT, n, mark);
    uint32_t full = 0;
    for (uint32_t i = 0; failed && i < n; i++) {
        if (!io[i].result) continue;
        full += io[i].result == -ENOSPC;
        edm_cmd *c = &cmds[of[i]];
        c->op = 0;
        r->sum[c->page] = EDM_NO_SUM; /* the store may have the old page, or none */
        EDM_COUNT(r, failed_writebacks, 1);
        r->count.writeback_error = io[i].result;
    }
    uint64_t before = r->full_since_ns, since = full < n ? 0 : before ? before : edm_now_ns();
    if (EDM_UNLIKELY(since != before)) r->full_since_ns = since;
}

static void tell_stored(edm_region *r, edm_cmd *c, uint32_t n) {
    uint32_t surplus[EDM_DRAIN], surplus_n;
    uint64_t mark = edm_span_begin(r);
    edm_lock_take(&r->lock);
    for (uint32_t i = 0; i < n; edm_lock_pass(&r->lock), i++) {
        uint64_t now = edm_event_now(r);
        int failed = !c[i].op, buffer = failed ? edm_store_failed(r->pager, c[i].page, now) : edm_stored(r->pager, c[i].page, now);
        if (EDM_UNLIKELY(failed && buffer == 1)) c[i].op = EDM_ALLOW_WRITE;
        /* A rescuer that is still copying from it gives it back instead: see conclude(). */
        if (buffer != 2 && edm_page_state(r->pager, c[i].page) != EDM_FETCHING) edm_buffer_give(r, c[i].page);
    }
    surplus_n = edm_buffers_surplus(r, surplus, 0);
    edm_lock_give(&r->lock);
    for (uint32_t i = 0; i < n; i++)
        if (EDM_UNLIKELY(c[i].op == EDM_ALLOW_WRITE)) edm_allow_write(r, c[i].page);
    raise_all(r, c, n);
    edm_event_raise(&r->room);
    mark = edm_span_n(r, EDM_SPAN_STORED, n, mark);
    edm_buffers_drain(r, surplus, surplus_n);
    if (surplus_n) edm_span_n(r, EDM_SPAN_DRAIN, surplus_n, mark);
}

/* Commands that were told as done: their pages are written to the store, `part` in a call, and told as stored. */
static void store(edm_region *r, edm_cmd *c, uint32_t n, uint32_t part) {
    for (uint32_t i = 0, some; i < n; i += some) {
        some = n - i < part || r->lockstep ? n - i : part;
        write_back(r, c + i, some);
        edm_hook(r, EDM_AT_STORED, c[i].page);
        tell_stored(r, c + i, some);
    }
}

void edm_store_all(edm_region *r, edm_cmd *c, uint32_t n, uint32_t part) { store(r, c, tell_done(r, c, n), part); }

/* Commands whose pages are being taken out. */
struct taken {
    edm_region *r;
    edm_cmd c[EDM_CMDS_MAX]; /* n whose bytes are wanted, and from `clean` on m others; each sorted */
    uint32_t pages[EDM_CMDS_MAX];
    uint32_t n, m, clean;
    edm_cmd *rest; /* where those go that are to be stored; to_store so far */
    uint32_t to_store;
};

/* edm_out's. */
static void told(void *ctx, uint32_t first, uint32_t n) {
    struct taken *t = ctx;
    uint32_t count = n ? n : t->m;
    edm_cmd *c = t->c + (n ? first : t->clean);
    edm_note_placed(t->r, t->pages + first, n);
    for (uint32_t i = 0; EDM_UNLIKELY(edm_hook_of(t->r) != NULL) && i < count; i++) edm_hook(t->r, EDM_AT_TAKEN, c[i].page);
    count = tell_done(t->r, c, count);
    memcpy(t->rest + t->to_store, c, count * sizeof *c);
    t->to_store += count;
}

static void sort_out(edm_region *r, const edm_cmd *c, uint32_t count, struct taken *t) {
    int quick = !(r->store->caps & EDM_STORE_BLOCKING);
    t->n = t->m = 0;
    t->clean = count;
    for (uint32_t i = 0; i < count; i++) {
        if (c[i].flags & EDM_F_IDLE) continue;
        int drop = edm_droppable(r->pager, c[i].page, c[i].op, quick);
        t->c[drop ? --t->clean : t->n++] = c[i];
        t->m += (uint32_t)drop;
        r->buffer_of[c[i].page] = drop || edm_placeable(r->pager, c[i].page) ? EDM_IN_STORE : 0;
        edm_lock_pass(&r->lock);
    }
}

static void sort(struct taken *t, uint32_t first, uint32_t n) {
    edm_sort_commands(t->c + first, n);
    for (uint32_t i = first; i < first + n; i++) t->pages[i] = t->c[i].page;
}

/* Unmaps what the commands say, and keeps the bytes that are wanted. What was told as done and is still to be stored comes to
 * the front of c; how many. In lockstep none is told. */
static uint32_t take_out(edm_region *r, edm_cmd *c, uint32_t count) {
    uint64_t mark = edm_span_begin(r);
    uint32_t surplus[EDM_DRAIN], surplus_n;
    uint8_t *to[EDM_CMDS_MAX];
    struct taken t;
    t.r = r;
    t.rest = c;
    t.to_store = 0;
    for (uint32_t i = 0; EDM_UNLIKELY(edm_hook_of(r) != NULL) && i < count; i++)
        if (!(c[i].flags & EDM_F_IDLE)) edm_hook(r, EDM_AT_UNMAP, c[i].page);
    edm_lock_take(&r->lock);
    sort_out(r, c, count, &t);
    surplus_n = t.n + t.m ? edm_buffers_surplus(r, surplus, 1) : 0;
    edm_lock_give(&r->lock);
    sort(&t, 0, t.n);
    sort(&t, t.clean, t.m);
    edm_find_places(r, t.pages, to, t.n);
    for (uint32_t i = 0; i < t.n; i++) edm_look_up(edm_at(r, t.pages[i]));
    for (uint32_t i = 0; i < t.m; i++) edm_look_up(edm_at(r, t.pages[t.clean + i]));
    edm_span_n(r, EDM_SPAN_SORT, t.n + t.m, mark);
    edm_out out = {.pages = t.pages, .to = to, .clean = t.pages + t.clean, .free = surplus, .n = t.n, .m = t.m, .f = surplus_n};
    out.told = r->lockstep ? NULL : told;
    out.ctx = &t;
    edm_unmap(r, &out);
    if (r->lockstep) edm_note_placed(r, t.pages, t.n);
    if (surplus_n) {
        edm_lock_take(&r->lock);
        edm_buffers_drained(r, surplus, surplus_n);
        edm_lock_give(&r->lock);
    }
    EDM_COUNT(r, unmapped, t.n + t.m);
    EDM_COUNT(r, unmaps, 1);
    return t.to_store;
}

/* Evictions of pages in their buffers come to the front; how many. */
static uint32_t idle_first(edm_cmds *cmds) {
    uint32_t front = 0;
    for (uint32_t i = 0; i < cmds->n; i++) {
        edm_cmd c = cmds->c[i];
        if (!(c.flags & EDM_F_IDLE)) continue;
        cmds->c[i] = cmds->c[front];
        cmds->c[front++] = c;
    }
    return front;
}

/* Pages in their buffers first: they make room at once, and the others are unmapped in one batch, which
 * interrupts the threads that fault. In lockstep all in the order they were chosen. */
void edm_carry_out(edm_region *r, edm_cmds *cmds) {
    uint32_t front = r->lockstep ? 0 : idle_first(cmds);
    if (front) edm_store_all(r, cmds->c, front, EDM_PUT);
    edm_cmd *c = cmds->c + front;
    uint32_t n = cmds->n - front;
    if (r->lockstep) {
        take_out(r, c, n);
        edm_store_all(r, c, n, EDM_PUT);
    } else if (n) {
        store(r, c, take_out(r, c, n), EDM_PUT);
    }
}

static uint32_t evictions_in(const edm_cmd *c, uint32_t n) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) found += c[i].op == EDM_EVICT;
    return found;
}

/* Chooses a batch, a few pages at a time: a fault that waits for the lock meanwhile waits for a few.
 * An answer that is not full wants its commands carried out first. */
static int choose_batch(edm_region *r, uint32_t max, edm_cmds *cmds) {
    uint32_t batch = edm_config_of(r->pager)->batch, left = max && max < batch ? max : batch, step, evicted;
    edm_cmds some;
    int status;
    cmds->n = 0;
    edm_lock_take(&r->lock);
    do {
        step = r->lockstep ? max : left < STEP ? left : STEP;
        status = edm_reclaim(r->pager, step, edm_event_now(r), &some);
        edm_lock_pass(&r->lock);
        memcpy(cmds->c + cmds->n, some.c, some.n * sizeof *some.c);
        cmds->n += some.n;
        left -= evicted = evictions_in(some.c, some.n);
    } while (status == EDM_RUNNING && left && (evicted == step || some.n >= step * EDM_LOOKS - 1) &&
             cmds->n + STEP * EDM_LOOKS <= EDM_CMDS_MAX && !r->lockstep);
    edm_lock_give(&r->lock);
    return status == EDM_FAIL && cmds->n ? EDM_RUNNING : status;
}

int edm_reclaim_step(edm_region *r, uint32_t max, uint32_t *commands) {
    edm_cmds cmds;
    uint64_t mark = edm_span_begin(r);
    int status = choose_batch(r, max, &cmds);
    edm_span_n(r, EDM_SPAN_CHOOSE, cmds.n, mark);
    *commands = cmds.n;
    if (cmds.n) edm_carry_out(r, &cmds);
    return status;
}

static void nap(uint64_t ns) {
    struct timespec t = {0, (long)ns};
    nanosleep(&t, NULL);
}

void edm_refused_nap(void) { nap(REFUSED_NS); }

int edm_is_full(const edm_region *r, uint64_t waited_ns) {
    uint64_t since = r->full_since_ns;
    return since && r->full_ns && waited_ns >= r->full_ns && edm_now_ns() - since >= r->full_ns;
}

int edm_reclaim_to_ok(edm_region *r) {
    uint64_t since = edm_now_ns(), left = r->deadline_ns;
    for (;;) {
        uint64_t failed = r->count.failed_writebacks, began = edm_now_ns();
        uint32_t n;
        if (edm_reclaim_step(r, 0, &n) != EDM_RUNNING) return 0;
        if (EDM_LIKELY(r->count.failed_writebacks == failed)) continue;
        edm_refused_nap();
        edm_patience_spend(&left, began, r->deadline_ns);
        if (!left || edm_is_full(r, edm_now_ns() - since)) return -ENOMEM;
    }
}

/* Until it is rung for. To wake a sleeping thread costs the one that rings some 30 us on a virtual machine: so where
 * rings come at a steady pace (idle_ns: how long the waits before lasted), LPET sleeps by the clock, most of the time
 * until the next one is due, and then looks again and again. Only a ring that is long overdue finds it asleep. */
static void await_ring(edm_region *r, uint32_t seen, uint64_t *idle_ns) {
    uint64_t begin = edm_now_ns(), step = *idle_ns / 16 > EDM_LOOK_NS ? *idle_ns / 16 : EDM_LOOK_NS;
    if (*idle_ns < EDM_STEADY_NS) {
        if (*idle_ns > 2 * EDM_LOOK_NS) nap(*idle_ns * 3 / 4);
        while (edm_event_ticket(&r->lpet_event) == seen && edm_now_ns() - begin < 2 * *idle_ns) {
            edm_spans *spans = step == EDM_LOOK_NS ? r->spans : NULL;
            uint64_t mark = spans ? edm_ticks() : 0;
            nap(step);
            if (spans) edm_span_add(spans, EDM_SPAN_NAP, 1, mark);
        }
    }
    int sleeps = edm_event_ticket(&r->lpet_event) == seen;
    while (edm_event_ticket(&r->lpet_event) == seen) edm_event_wait(&r->lpet_event, seen, 0, 1000000000u);
    edm_span_lpet_came(r, sleeps);
    uint64_t took = edm_now_ns() - begin;
    *idle_ns = took < EDM_STEADY_NS && *idle_ns < EDM_STEADY_NS ? (3 * *idle_ns + took) / 4 : took;
}

/* LPET sleeps until the high watermark is reached, then reclaims down to the low one. As a batch
 * thread it does not take the core from the faulting thread that wakes it, where they share one. */
void *edm_lpet_main(void *region) {
    edm_region *r = region;
    uint32_t seen = 0, n;
    uint64_t idle_ns = EDM_STEADY_NS;
    struct sched_param none = {0};
    edm_span_role(EDM_ROLE_LPET);
    prctl(PR_SET_NAME, "edm-lpet");
    r->lpet_tid = (int)syscall(SYS_gettid);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    sched_setscheduler(0, SCHED_BATCH, &none); /* a wish: it works without */
    while (!r->stop) {
        await_ring(r, seen, &idle_ns);
        seen = edm_event_ticket(&r->lpet_event);
        edm_spans *spans = r->spans;
        if (EDM_UNLIKELY(spans != NULL)) edm_span_works(spans, EDM_ROLE_LPET, 1);
        for (;;) {
            uint32_t room = edm_event_ticket(&r->room);
            uint64_t failed = r->count.failed_writebacks;
            if (edm_reclaim_step(r, 0, &n) == EDM_OK || r->stop) break;
            if (!n) edm_event_wait(&r->room, room, 0, EDM_AGAIN_NS);
            else if (EDM_UNLIKELY(r->count.failed_writebacks != failed)) edm_refused_nap();
        }
        if (EDM_UNLIKELY(spans != NULL)) edm_span_works(spans, EDM_ROLE_LPET, -1);
    }
    return NULL;
}
