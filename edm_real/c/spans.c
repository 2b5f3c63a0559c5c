/* spans.c: counting spans, and reading what was counted. See spans.h. */
#define _GNU_SOURCE
#include "region.h"
#include "spans.h"

#include <string.h>
#include <sys/mman.h>

_Static_assert((int)EDM_SPAN_BUCKETS == (int)EDM_HIST_BUCKETS, "what Python is shown");
_Static_assert(sizeof((edm_spans *)0)->raised / sizeof(uint64_t) == EDM_BUCKETS, "one for each bucket of pages");

/* A thread's table among those of the region it last worked for; 0 is nobody's id. */
static __thread struct {
    uint64_t id;
    uint32_t table;
    int role;
    uint64_t flushes; /* at its last mark, those under way included */
    int here;         /* a handler: see edm_span_handles() */
    uint64_t left;    /* a handler: when it had resolved its last fault */
} own __attribute__((tls_model("initial-exec")));

void edm_span_role(int role) { own.role = role; }

static edm_span_table *table_of(edm_spans *s) {
    if (EDM_UNLIKELY(own.id != s->id)) {
        uint32_t n = atomic_fetch_add(&s->threads, 1);
        own.table = n < EDM_SPAN_TABLES ? n : EDM_SPAN_TABLES - 1;
        own.id = s->id;
        s->table[own.table].role = own.role;
    }
    return &s->table[own.table];
}

static void bump(_Atomic uint64_t *count, uint64_t by) {
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + by, memory_order_relaxed);
}

static void remember_flushes(edm_spans *s) {
    uint64_t flushes = s->flushes;
    own.flushes = s->flushed == flushes ? flushes : UINT64_MAX;
}

static int beside(edm_spans *s, int kind) {
    int interrupted = kind <= EDM_SPAN_RETURN && kind != EDM_SPAN_ROOM && s->flushes != own.flushes;
    remember_flushes(s);
    if (interrupted) return EDM_BESIDE_FLUSH;
    if (s->workers > (own.role == EDM_ROLE_FAULTER)) return EDM_BESIDE_FAULTER;
    if (own.role != EDM_ROLE_LPET && s->lpet > 0) return EDM_BESIDE_LPET;
    return EDM_BESIDE_NOBODY;
}

static void count(edm_spans *s, int kind, uint32_t pages, int beside, uint64_t ticks) {
    if (s->ended) return;
    edm_span_table *t = table_of(s);
    unsigned class = pages ? 31u - (unsigned)__builtin_clz(pages) : 0;
    if (class >= EDM_SPAN_SIZES) class = EDM_SPAN_SIZES - 1;
    struct edm_span_cell *cell = &t->at[kind][class][beside];
    if (t == &s->table[EDM_SPAN_TABLES - 1]) { /* shared */
        edm_hist_record(&cell->ticks, ticks);
        atomic_fetch_add_explicit(&cell->pages, pages, memory_order_relaxed);
    } else {
        _Atomic uint32_t *bucket = &cell->ticks.at[edm_hist_bucket(ticks)];
        bump(&cell->ticks.count, 1);
        bump(&cell->ticks.sum, ticks);
        bump(&cell->pages, pages);
        atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1, memory_order_relaxed);
    }
}

static uint64_t ticks_from(uint64_t since, uint64_t until) { return until > since ? until - since : 0; }

uint64_t edm_span_add(edm_spans *s, int kind, uint32_t pages, uint64_t since) {
    uint64_t now = edm_ticks();
    count(s, kind, pages, beside(s, kind), ticks_from(since, now));
    return now;
}

void edm_span_handles(int here) { own.here = here; }

uint64_t edm_span_arrives(edm_spans *s, uint32_t page, int write) {
    uint64_t touched = s->touched[page % EDM_TOUCHES], now = edm_ticks();
    int kind = write ? EDM_SPAN_ARRIVE_WRITE : EDM_SPAN_ARRIVE, way = 0;
    if (!touched) return now;
    s->touched[page % EDM_TOUCHES] = 0;
    if (own.role == EDM_ROLE_HANDLER) {
        int next = own.left > touched;
        way = own.here ? EDM_BESIDE_HERE + next : EDM_BESIDE_AWAY + next;
        if (next) count(s, EDM_SPAN_TURN, 1, way, own.left - touched);
        count(s, kind, 1, way, ticks_from(next ? own.left : touched, now));
        remember_flushes(s);
    } else {
        now = edm_span_add(s, kind, 1, touched);
    }
    s->way[page % EDM_TOUCHES] = (uint8_t)way;
    return now;
}

void edm_span_left(edm_spans *s, uint32_t page) { s->left[page % EDM_TOUCHES] = own.left = edm_ticks(); }

void edm_span_touches(edm_spans *s, uint32_t page) {
    s->left[page % EDM_TOUCHES] = 0;
    remember_flushes(s);
    s->touched[page % EDM_TOUCHES] = edm_ticks();
}

void edm_span_returned(edm_spans *s, uint32_t page) {
    uint64_t left = s->left[page % EDM_TOUCHES];
    s->touched[page % EDM_TOUCHES] = 0; /* it may have been no fault */
    int way = s->way[page % EDM_TOUCHES];
    if (!left) return;
    if (way) count(s, EDM_SPAN_RETURN, 1, way, ticks_from(left, edm_ticks()));
    else edm_span_add(s, EDM_SPAN_RETURN, 1, left);
}

void edm_span_rings(edm_spans *s, uint64_t mark) {
    uint64_t nobody = 0;
    atomic_compare_exchange_strong(&s->rung, &nobody, mark);
}

void edm_span_comes(edm_spans *s, int slept) {
    uint64_t mark = atomic_exchange(&s->rung, 0);
    if (mark && slept) edm_span_add(s, EDM_SPAN_LATE, 1, mark);
}

void edm_span_wakes(edm_spans *s, uint32_t bucket) { s->raised[bucket] = edm_ticks(); }

void edm_span_woken(edm_spans *s, uint32_t bucket) {
    uint64_t raised = s->raised[bucket];
    if (raised) edm_span_add(s, EDM_SPAN_WOKEN, 1, raised);
}

void edm_span_works(edm_spans *s, int role, int by) {
    atomic_fetch_add(role == EDM_ROLE_LPET ? &s->lpet : &s->workers, by);
}

uint64_t edm_span_flush_begins(edm_spans *s) {
    atomic_fetch_add(&s->flushes, 1);
    return edm_ticks();
}

void edm_span_flush_ended(edm_spans *s, uint32_t pages, uint64_t mark) {
    if (pages) edm_span_add(s, EDM_SPAN_FLUSH, pages, mark);
    atomic_fetch_add(&s->flushed, 1);
    remember_flushes(s); /* its own is no interruption */
}

int edm_region_spans(edm_region *r, int on) {
    static _Atomic uint64_t ids;
    edm_spans *s = r->spans_made;
    r->spans = NULL;
    if (!on) return 0;
    if (s) { /* LPET may be at a mark still: what it adds now is lost, or one too many */
        madvise(s, sizeof *s, MADV_DONTNEED);
    } else {
        s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s == MAP_FAILED) return -ENOMEM;
        r->spans_made = s;
    }
    s->id = atomic_fetch_add(&ids, 1) + 1;
    s->begin_ns = edm_now_ns();
    s->begin_ticks = edm_ticks();
    r->spans = s;
    return 0;
}

void edm_spans_free(edm_region *r) {
    r->spans = NULL;
    if (r->spans_made) munmap(r->spans_made, sizeof *r->spans_made);
    r->spans_made = NULL;
}

static double ns_per_tick(const edm_spans *s) {
    uint64_t ticks = edm_ticks() - s->begin_ticks;
    return ticks ? (double)(edm_now_ns() - s->begin_ns) / (double)ticks : 1;
}

double edm_span_bucket_ns(edm_region *r, uint32_t bucket) {
    return r->spans ? edm_hist_value(bucket) * ns_per_tick(r->spans) : 0;
}

uint64_t edm_spans_read(edm_region *r, int kind, int role, int size, int beside, uint32_t *counts, double *ns, uint64_t *pages) {
    edm_spans *s = r->spans;
    uint64_t n = 0, ticks = 0;
    memset(counts, 0, EDM_HIST_BUCKETS * sizeof *counts);
    *ns = 0, *pages = 0;
    if (!s) return 0;
    for (int t = 0; t < EDM_SPAN_TABLES; t++) {
        struct edm_span_cell *c = &s->table[t].at[kind][size][beside];
        if (s->table[t].role != role || !c->ticks.count) continue;
        n += c->ticks.count, ticks += c->ticks.sum, *pages += c->pages;
        for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++) counts[i] += c->ticks.at[i];
    }
    *ns = (double)ticks * ns_per_tick(s);
    return n;
}

uint64_t edm_span_flushes(edm_region *r) { return r->spans ? (uint64_t)r->spans->flushes : 0; }

double edm_span_own_ns(edm_region *r) {
    enum { TIMES = 1000 };
    edm_spans *s = r->spans;
    if (!s) return 0;
    edm_spans *other = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (other == MAP_FAILED) return 0;
    uint64_t best = UINT64_MAX, id = own.id;
    uint32_t table = own.table;
    other->id = UINT64_MAX;
    for (int round = 0; round < 10; round++) {
        uint64_t begin = edm_ticks(), at = begin;
        for (int i = 0; i < TIMES; i++) at = edm_span_add(other, i % EDM_SPAN_KINDS, 1, at);
        if (at - begin < best) best = at - begin;
    }
    own.id = id, own.table = table;
    munmap(other, sizeof *s);
    return (double)best / TIMES * ns_per_tick(s);
}

/* The quickest of some: one may be interrupted. */
uint64_t edm_spin_ns(void) {
    enum { TIMES = 8 };
    edm_event_t never = {0};
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < TIMES; i++) {
        uint64_t begin = edm_now_ns();
        for (int k = 0; k < EDM_SPINS && edm_event_ticket(&never) == 0; k++) edm_relax();
        uint64_t took = edm_now_ns() - begin;
        if (took < best) best = took;
    }
    return best;
}
