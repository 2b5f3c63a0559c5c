/* replay.c: references against real memory, in C threads, with every byte accounted for.
 *
 * What a page holds. Each write puts a number that depends on the page, its version (1, 2, ...)
 * and the seed into word `version % words`, so the newest 512 versions of a 4 KiB page stand in
 * it side by side. versions[page] is counted here, in memory that is not paged. A read looks
 * at the word of the newest version: a page that came back stale, torn or from elsewhere has
 * another number there. At the end every word of every page is looked at. `fill` puts numbers
 * into all words first; without it pages begin as zeros.
 *
 * With several threads, a writer locks the page's version (its top bit) and publishes the next
 * one after its number is in place. A reader takes no lock: the word of version v is not
 * written again until v + words, so it must hold v's number unless that many writes came by.
 * With `whole`, a reader locks the version too and looks at every word of the page.
 *
 * Which accesses are timed. Looking at the pager's word for the page (as edm_consume() does)
 * tells a hit, which costs a nanosecond or two, from an access that will fault, which is timed.
 * Another thread may have brought or taken the page in between; then a fault goes untimed, or
 * the access is too quick to be one and is not counted.
 */
#define _GNU_SOURCE
#include "region.h"

#include "checksum.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRETCH = 256, NO_FAULT_NS = 400 };
#define LOCKED (1u << 31)

struct worker {
    edm_replay *job;
    pthread_t thread;
    uint32_t number;
    uint64_t wrong, refs, lost, end_ns;
    edm_hist latency;
};

struct edm_replay {
    edm_region *region;
    edm_replay_config c;
    const uint16_t *words; /* the pager's, to look at without its lock */
    _Atomic uint32_t *versions;
    uint32_t page_words, pages;
    int told, by_tid; /* see run_told(); a thread takes the references of its tid */
    _Atomic uint64_t next, progress; /* chunks given out; references done */
    _Atomic int stop;
    _Atomic uint32_t running;
    edm_event_t ended;
    pthread_t leader;
    uint64_t start_ns, elapsed_ns, verified, wrong_pages;
    edm_stats before, after;
    uint64_t no_room; /* the region's count before the run */
    struct worker *worker;
};

static uint64_t number_of(const edm_replay *j, uint32_t page, uint32_t version) {
    return edm_mix64(((uint64_t)page << 32 | version) ^ j->c.seed * 0x9e3779b97f4a7c15u) | 1;
}

static uint64_t initial(const edm_replay *j, uint32_t page, uint32_t word) {
    if (j->c.content) return j->c.content[(size_t)(page % j->c.content_pages) * j->page_words + word];
    return j->c.fill ? number_of(j, page, LOCKED | word) : 0; /* versions stay below LOCKED */
}

/* Other threads read and write the same words: each access is one load or store. */
static uint64_t word_of(const edm_replay *j, uint32_t page, uint32_t word) {
    return __atomic_load_n((uint64_t *)edm_at(j->region, page) + word, __ATOMIC_RELAXED);
}

static void set_word(const edm_replay *j, uint32_t page, uint32_t word, uint64_t number) {
    __atomic_store_n((uint64_t *)edm_at(j->region, page) + word, number, __ATOMIC_RELAXED);
}

/* What `word` of a page at `version` holds: the number of the newest version that wrote there. */
static uint64_t expected(const edm_replay *j, uint32_t page, uint32_t version, uint32_t word) {
    uint32_t back = (version - word) & (j->page_words - 1);
    return version > back ? number_of(j, page, version - back) : initial(j, page, word);
}

static int same_page(const edm_replay *j, uint32_t page, uint32_t version) {
    int same = 1;
    for (uint32_t word = 0; word < j->page_words; word++)
        same &= word_of(j, page, word) == expected(j, page, version, word);
    return same;
}

/* Its version, which nobody else changes until it is set again without the bit. */
static uint32_t lock_version(edm_replay *j, uint32_t page) {
    uint32_t v = atomic_load_explicit(&j->versions[page], memory_order_relaxed);
    for (int i = 0;; i++) {
        v &= ~LOCKED;
        if (atomic_compare_exchange_weak_explicit(&j->versions[page], &v, v | LOCKED, memory_order_acquire,
                                                  memory_order_relaxed)) return v;
        if (i % 64 == 63) sched_yield();
    }
}

static void read_page(struct worker *w, uint32_t page) {
    edm_replay *j = w->job;
    if (j->c.whole) {
        uint32_t v = lock_version(j, page);
        w->wrong += !same_page(j, page, v);
        atomic_store_explicit(&j->versions[page], v, memory_order_release);
        return;
    }
    uint32_t mask = j->page_words - 1;
    uint32_t v = atomic_load_explicit(&j->versions[page], memory_order_acquire) & ~LOCKED;
    uint64_t seen = word_of(j, page, v & mask);
    if (seen == (v ? number_of(j, page, v) : initial(j, page, 0))) return;
    uint32_t later = atomic_load_explicit(&j->versions[page], memory_order_acquire) & ~LOCKED;
    w->wrong += later - v < mask;
}

static void write_page(struct worker *w, uint32_t page) {
    edm_replay *j = w->job;
    uint32_t v = j->c.threads > 1 ? lock_version(j, page) : atomic_load_explicit(&j->versions[page], memory_order_relaxed);
    v = (v + 1) & ~LOCKED;
    set_word(j, page, v & (j->page_words - 1), number_of(j, page, v));
    atomic_store_explicit(&j->versions[page], v, memory_order_release);
}

static void unlock_if_ours(edm_replay *j, uint32_t page) { /* after a jump out of write_page() */
    atomic_fetch_and_explicit(&j->versions[page], ~LOCKED, memory_order_release);
}

static void access_page(struct worker *w, uint32_t page, int write) {
    if (write) write_page(w, page);
    else read_page(w, page);
}

static int is_write(const edm_replay *j, uint64_t i) { return j->c.refs.write && j->c.refs.write[i]; }

/* A reference that will fault, or did when it was looked at. */
static void timed(struct worker *w, uint32_t page, int write) {
    edm_spans *spans = w->job->region->spans;
    uint64_t start = edm_now_ns();
    if (EDM_UNLIKELY(spans != NULL)) edm_span_touches(spans, page);
    access_page(w, page, write);
    if (EDM_UNLIKELY(spans != NULL)) edm_span_returned(spans, page);
    uint64_t took = edm_now_ns() - start;
    if (took >= NO_FAULT_NS) edm_hist_record(&w->latency, took);
}

/* The pager's word without its lock: a guess, for which a race does not matter. */
__attribute__((no_sanitize("thread"))) static uint16_t guess(const edm_replay *j, uint32_t page) {
    return __atomic_load_n(&j->words[page], __ATOMIC_RELAXED);
}

/* A reference to a poisoned page; or one that found no room until the deadline: then the others would not
 * either, each after a deadline of its own, and the run ends. */
static int ends_for_want_of_room(edm_replay *j) {
    int ends = j->region->count.no_room != j->no_room;
    if (ends) j->stop = 1;
    return ends;
}

static void count_lost(struct worker *w) {
    w->lost++;
    ends_for_want_of_room(w->job);
}

/* References first .. end - 1 of this worker, hits told by looking at the page's word. */
static void run_seen(struct worker *w, uint64_t first, uint64_t end, sigjmp_buf *poisoned) {
    edm_replay *j = w->job;
    const edm_refs *refs = &j->c.refs;
    uint16_t dirty = edm_config_of(j->region->pager)->dirty == EDM_DIRTY_EXACT ? EDM_DIRTY : 0;
    volatile uint64_t i = first;
    if (EDM_UNLIKELY(sigsetjmp(*poisoned, 1))) {
        count_lost(w);
        unlock_if_ours(j, refs->page[i]);
        i++;
    }
    edm_guard_set(poisoned);
    for (; i < end && !atomic_load_explicit(&j->stop, memory_order_relaxed); i++) {
        uint32_t page = refs->page[i];
        if (j->by_tid && j->c.tid[i] % j->c.threads != w->number) continue;
        int write = is_write(j, i);
        uint16_t mask = EDM_STATE_MASK | (write ? dirty : 0), is = EDM_RESIDENT | (write ? dirty : 0);
        w->refs++;
        if (EDM_LIKELY((guess(j, page) & mask) == is)) access_page(w, page, write);
        else timed(w, page, write);
    }
    edm_guard_set(NULL);
}

/* Exact observation, or lockstep: hits go through edm_consume(), which tells the policy of each. */
static void run_told(struct worker *w, uint64_t first, uint64_t end, sigjmp_buf *poisoned) {
    edm_replay *j = w->job;
    edm_region *r = j->region;
    volatile uint64_t i = first;
    if (EDM_UNLIKELY(sigsetjmp(*poisoned, 1))) {
        count_lost(w);
        unlock_if_ours(j, j->c.refs.page[i]);
        i++;
    }
    edm_guard_set(poisoned);
    while (i < end && !atomic_load_explicit(&j->stop, memory_order_relaxed)) {
        edm_refs stretch = j->c.refs;
        stretch.n = !r->lockstep && end - i > STRETCH ? i + STRETCH : end;
        edm_lock_take(&r->lock);
        uint64_t hits_end = edm_consume(r->pager, &stretch, i);
        edm_lock_give(&r->lock);
        for (; i < hits_end; i++, w->refs++) access_page(w, stretch.page[i], is_write(j, i));
        if (i == stretch.n) continue;
        if (r->lockstep) r->lockstep_now = i;
        timed(w, stretch.page[i], is_write(j, i));
        w->refs++;
        i++;
    }
    edm_guard_set(NULL);
}

static void *worker_main(void *worker) {
    struct worker *w = worker;
    edm_replay *j = w->job;
    sigjmp_buf poisoned;
    uint64_t n = j->c.refs.n, mine = 0;
    edm_spans *spans = j->region->spans;
    if (EDM_UNLIKELY(spans != NULL)) edm_span_works(spans, EDM_ROLE_FAULTER, 1);
    while (!j->stop) {
        uint64_t step = j->by_tid || !j->c.chunk ? EDM_CHUNK : j->c.chunk, first = mine;
        if (j->by_tid) mine += step; /* everyone walks all, and takes its own */
        else first = atomic_fetch_add(&j->next, step);
        if (first >= n) break;
        uint64_t end = n - first < step ? n : first + step, before = w->refs;
        if (j->told) run_told(w, first, end, &poisoned);
        else run_seen(w, first, end, &poisoned);
        atomic_fetch_add_explicit(&j->progress, w->refs - before, memory_order_relaxed);
    }
    w->end_ns = edm_now_ns();
    if (EDM_UNLIKELY(spans != NULL)) edm_span_works(spans, EDM_ROLE_FAULTER, -1);
    return NULL;
}

static void counters(edm_region *r, edm_stats *out) {
    edm_lock_take(&r->lock);
    *out = *edm_stats_of(r->pager);
    edm_lock_give(&r->lock);
}

/* One thread looks at (or writes) every word of every page; pages that are lost are passed over. */
static void whole_pages(edm_replay *j, int fill, uint64_t *good, uint64_t *bad) {
    sigjmp_buf poisoned;
    volatile uint32_t page = 0;
    if (sigsetjmp(poisoned, 1)) {
        if (bad) ++*bad;
        if (ends_for_want_of_room(j)) j->worker[0].lost++;
        page++;
    }
    edm_guard_set(&poisoned);
    for (; page < j->pages && !j->stop; page++) {
        int same = 1;
        if (fill)
            for (uint32_t word = 0; word < j->page_words; word++) set_word(j, page, word, initial(j, page, word));
        else same = same_page(j, page, j->versions[page]);
        if (good) *good += (uint64_t)same;
        if (bad) *bad += (uint64_t)!same;
    }
    edm_guard_set(NULL);
}

static void *leader_main(void *replay) {
    edm_replay *j = replay;
    edm_region *r = j->region;
    if (r->spans) r->spans->ended = 1; /* filling does not count either */
    if (j->c.fill) whole_pages(j, 1, NULL, NULL);
    counters(r, &j->before);
    edm_region_latency_reset(r);
    if (r->spans) r->spans->ended = 0;
    j->start_ns = edm_now_ns();
    uint32_t started = 0;
    while (started < j->c.threads && !edm_thread_start(&j->worker[started].thread, worker_main, &j->worker[started])) started++;
    if (!started) worker_main(&j->worker[0]); /* no thread to be had: by itself */
    for (uint32_t i = 0; i < started; i++) pthread_join(j->worker[i].thread, NULL);
    uint64_t end = j->start_ns;
    for (uint32_t i = 0; i < j->c.threads; i++)
        if (j->worker[i].end_ns > end) end = j->worker[i].end_ns;
    j->elapsed_ns = end - j->start_ns;
    if (r->spans) r->spans->ended = 1;
    counters(r, &j->after);
    if (r->lockstep || r->log_fd >= 0) edm_region_log(r, -1); /* the log ends with the references */
    whole_pages(j, 0, &j->verified, &j->wrong_pages);
    j->running = 0;
    edm_event_raise(&j->ended);
    return NULL;
}

static void free_job(edm_replay *j) {
    free((void *)j->versions);
    free(j->worker);
    free(j);
}

edm_replay *edm_replay_start(edm_region *r, const edm_replay_config *config, char *why, size_t why_size) {
    const char *bad = NULL;
    uint32_t pages = config->pages && config->pages < r->pages ? config->pages : r->pages;
    for (uint64_t i = 0; i < config->refs.n && !bad; i++)
        if (config->refs.page[i] >= pages) bad = "the trace touches pages beyond the region";
    if (!config->threads || config->threads > 1024) bad = "threads must be 1 .. 1024";
    if (r->lockstep && (config->threads != 1 || config->fill)) bad = "lockstep takes one thread, and pages that begin as zeros";
    edm_replay *j = bad ? NULL : calloc(1, sizeof *j);
    if (j) {
        j->region = r;
        j->c = *config;
        j->words = edm_page_words(r->pager);
        j->page_words = r->page_size / 8;
        j->pages = pages;
        j->no_room = r->count.no_room;
        j->told = r->lockstep || edm_config_of(r->pager)->observe == EDM_OBSERVE_EXACT;
        j->by_tid = config->tid && config->threads > 1 && !j->told;
        j->versions = calloc(r->pages, sizeof *j->versions);
        j->worker = calloc(config->threads, sizeof *j->worker);
        j->running = 1;
        if (j->versions && j->worker) {
            for (uint32_t i = 0; i < config->threads; i++) j->worker[i].job = j, j->worker[i].number = i;
            if (!edm_thread_start(&j->leader, leader_main, j)) return j;
            bad = "no thread could be started";
        }
        free_job(j);
    }
    if (why_size) snprintf(why, why_size, "replay: %s", bad ? bad : "out of memory");
    return NULL;
}

int edm_replay_wait(edm_replay *j, uint32_t timeout_ms) {
    uint32_t ticket = edm_event_ticket(&j->ended);
    if (j->running) edm_event_wait(&j->ended, ticket, 0, (uint64_t)timeout_ms * 1000000u);
    return !j->running;
}

uint64_t edm_replay_progress(const edm_replay *j) { return j->progress; }
void edm_replay_stop(edm_replay *j) { j->stop = 1; }

static void subtract(edm_stats *out, const edm_stats *before, const edm_stats *after) {
    const uint64_t *b = (const uint64_t *)before, *a = (const uint64_t *)after;
    for (size_t i = 0; i < sizeof *out / sizeof *a; i++) ((uint64_t *)out)[i] = a[i] - b[i];
}

void edm_replay_end(edm_replay *j, edm_replay_result *out) {
    pthread_join(j->leader, NULL);
    *out = (edm_replay_result){.elapsed_ns = j->elapsed_ns, .verified_pages = j->verified,
                               .wrong_pages = j->wrong_pages, .stopped = (uint8_t)j->stop};
    for (uint32_t i = 0; i < j->c.threads; i++) {
        out->refs += j->worker[i].refs;
        out->wrong += j->worker[i].wrong;
        out->lost += j->worker[i].lost;
        if (i) edm_hist_merge(&j->worker[0].latency, &j->worker[i].latency);
    }
    subtract(&out->policy, &j->before, &j->after);
    edm_hist_summary(&j->worker[0].latency, &out->latency);
    free_job(j);
}
