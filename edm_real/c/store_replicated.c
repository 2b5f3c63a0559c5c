/* store_replicated.c: `replicated:A,B[,C]`, every page on each of several stores.
 *
 * A put goes to all members that are alive, side by side (lanes.h). write=all, the rule unless
 * given, waits for all of those; write=quorum for more than half of all members, and what the
 * others have taken when they answer counts then. A member that misses a put is `behind`, and is
 * brought up to date by the keeper. A member that gives no answer for `patience` is dead: it is
 * skipped until it answers the keeper. replicas.h tells how an old page is kept from being read.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "replicas.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS 1000000000u

void edm_judge(edm_replicas *r, uint32_t m, int error, uint64_t begun_ns, uint64_t deadline_ns) {
    if (!edm_is_dead(error, begun_ns, deadline_ns)) return;
    r->dead[m] = 1;
    r->behind[m] = 1;
}

uint64_t edm_share(const edm_replicas *r, uint64_t deadline_ns, uint32_t turns) {
    uint64_t now = edm_now_ns(), share = now < deadline_ns ? (deadline_ns - now) / turns : 0;
    return share ? now + (share < r->patience_ns ? share : r->patience_ns) : deadline_ns;
}

edm_event_t *edm_replicas_event(edm_replicas *r) {
    return &r->answered[atomic_fetch_add_explicit(&r->next_event, 1, memory_order_relaxed) % EDM_REPLICAS_EVENTS];
}

/* ---- a page's word ---- */

int edm_word_swap(edm_replicas *r, uint64_t page, uint64_t *seen, uint64_t next) {
    uint64_t before = *seen;
    if (!atomic_compare_exchange_strong(&r->word[page], seen, next)) return 0;
    if (!edm_current(before) && edm_current(next)) r->kept++;
    if (edm_current(before) && !edm_current(next)) r->kept--;
    return 1;
}

void edm_wrote(edm_replicas *r, uint32_t m, uint64_t page, uint64_t generation, int ok) {
    uint64_t seen = r->word[page], next;
    int mine;
    do {
        mine = edm_generation(seen) == generation;
        next = seen & ~((uint64_t)1 << (8 + m));
        if (ok && mine) next |= (uint64_t)1 << m;
    } while (!edm_word_swap(r, page, &seen, next));
    if (!ok || !mine) r->behind[m] = 1;
}

static void release(edm_replicas *r, const edm_store_io *io, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) atomic_fetch_sub(&r->word[io[i].page], (uint64_t)1 << 16);
}

/* Makes all versions odd, or none, so that two batches never wait for each other. */
static int hold(edm_replicas *r, const edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    for (;;) {
        uint32_t k = 0;
        for (; k < n; k++) {
            uint64_t seen = r->word[io[k].page];
            while (!edm_held(seen) && !edm_word_swap(r, io[k].page, &seen, seen + (1u << 16))) {}
            if (edm_held(seen)) break;
        }
        if (k == n) return 0;
        release(r, io, k);
        if (edm_now_ns() >= deadline_ns) return -ETIMEDOUT;
        sched_yield();
    }
}

static uint8_t alive(const edm_replicas *r) {
    uint8_t mask = 0;
    for (uint32_t m = 0; m < r->members; m++) mask |= (uint8_t)(!r->dead[m] << m);
    return mask;
}

/* A new generation of a held page, on no member yet; the members it goes to: all of `to` that are not
 * still being written an older one. */
static uint8_t begin(edm_replicas *r, uint64_t page, uint8_t to) {
    uint64_t seen = r->word[page], next;
    do next = (seen & ~(uint64_t)0xff) | (uint64_t)(to & ~edm_writing(seen)) << 8;
    while (!edm_word_swap(r, page, &seen, next));
    return to & (uint8_t)~edm_writing(seen);
}

/* Even again. A put that failed leaves no page: its generation ends, and answers that come late find another. */
static void end(edm_replicas *r, uint64_t page, int failed) {
    uint64_t seen = r->word[page], next;
    do next = failed ? (seen & ~(uint64_t)0xff) + (3u << 16) : seen + (1u << 16);
    while (!edm_word_swap(r, page, &seen, next));
}

static int all_failed(edm_store_io *io, uint32_t n, int error) {
    for (uint32_t i = 0; i < n; i++) io[i].result = error;
    return -(int)n;
}

/* ---- writes side by side ---- */

struct writes { /* a batch on its way to the members */
    enum edm_verb verb;
    edm_store_io *io;
    uint32_t n;
    uint64_t deadline_ns, generation[EDM_JOB_PAGES];
    uint8_t to[EDM_JOB_PAGES];      /* per page: the members it goes to */
    int32_t error[EDM_JOB_PAGES];
    edm_job *job[EDM_REPLICAS_MAX];
};

static void ended(edm_replicas *r, uint32_t m, enum edm_verb verb, const edm_store_io *io, const uint64_t *generation,
                  uint32_t n, uint64_t begun_ns, uint64_t deadline_ns) {
    for (uint32_t i = 0; i < n; i++) {
        edm_judge(r, m, io[i].result, begun_ns, deadline_ns);
        if (verb == EDM_PUT) edm_wrote(r, m, io[i].page, generation[i], !io[i].result);
        else atomic_fetch_and(&r->word[io[i].page], ~((uint64_t)1 << (8 + m)));
    }
}

/* In the lane's thread. */
static void job_ended(void *store, uint32_t m, const edm_job *job) {
    edm_replicas *r = store;
    if (job->verb != EDM_GET) {
        ended(r, m, job->verb, job->io, job->tag, job->n, job->sent_ns, job->deadline_ns);
        return;
    }
    int answered = 0;
    for (uint32_t i = 0; i < job->n; i++) {
        edm_judge(r, m, job->io[i].result, job->sent_ns, job->deadline_ns);
        answered |= !edm_is_silence(job->io[i].result);
    }
    if (answered) r->late[m] = 0;
    if (job->mark && r->hedge_quantile > 0) edm_hist_record(&r->answers, edm_now_ns() - job->sent_ns);
}

/* Those of the pages that go to member m. */
static uint32_t pick(const struct writes *w, uint32_t m, edm_store_io *some, uint64_t *generation, uint32_t *of) {
    uint32_t k = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        if (!(w->to[i] >> m & 1)) continue;
        void *own = some[k].data;
        some[k] = w->io[i];
        if (own) some[k].data = own;
        generation[k] = w->generation[i];
        of[k++] = i;
    }
    return k;
}

/* Over the lane: the bytes are copied, so that nobody has to wait for the member. 0: no job is free. */
static int send(edm_replicas *r, struct writes *w, uint32_t m, edm_event_t *tell) {
    uint32_t of[EDM_JOB_PAGES];
    edm_job *job = edm_job_take(r->lane[m]);
    if (!job) return 0;
    job->verb = w->verb;
    job->n = pick(w, m, job->io, job->tag, of);
    job->deadline_ns = w->deadline_ns;
    for (uint32_t k = 0; k < job->n && w->verb == EDM_PUT; k++)
        memcpy(job->io[k].data, w->io[of[k]].data, edm_io_size(&r->base, &job->io[k]));
    w->job[m] = job;
    edm_job_send(job, tell);
    return 1;
}

/* In the calling thread. */
static void write_here(edm_replicas *r, struct writes *w, uint32_t m) {
    edm_store_io some[EDM_JOB_PAGES] = {0};
    uint64_t generation[EDM_JOB_PAGES];
    uint32_t of[EDM_JOB_PAGES], k = pick(w, m, some, generation, of);
    if (!k) return;
    uint64_t begun = edm_now_ns();
    edm_store_call(r->member[m], w->verb, some, k, w->deadline_ns);
    ended(r, m, w->verb, some, generation, k, begun, w->deadline_ns);
    for (uint32_t i = 0; i < k; i++)
        if (some[i].result) w->error[of[i]] = some[i].result;
}

/* Leaves a job; one that has not ended says -ETIMEDOUT. */
static void note_job(struct writes *w, uint32_t m) {
    edm_job *job = w->job[m];
    int ended = edm_job_ended(job);
    for (uint32_t i = 0, k = 0; i < w->n; i++) {
        if (!(w->to[i] >> m & 1)) continue;
        int32_t error = ended ? job->io[k].result : -ETIMEDOUT;
        if (error) w->error[i] = error;
        k++;
    }
    edm_job_leave(job);
}

static void miss(edm_replicas *r, uint32_t m) {
    r->behind[m] = 1;
    r->skipped++;
}

static void skip(edm_replicas *r, struct writes *w, uint32_t m) {
    for (uint32_t i = 0; i < w->n; i++) {
        if (!(w->to[i] >> m & 1)) continue;
        edm_wrote(r, m, w->io[i].page, w->generation[i], 0);
        miss(r, m);
    }
}

static int written(const edm_replicas *r, const struct writes *w, uint32_t i) {
    uint8_t has = edm_current(r->word[w->io[i].page]);
    if (r->needed) return (uint32_t)__builtin_popcount(has) >= r->needed;
    uint8_t missing = w->to[i] & (uint8_t)~has;
    for (uint32_t m = 0; m < r->members; m++)
        if (missing >> m & 1 && !r->dead[m]) return 0;
    return has != 0;
}

static int enough(const edm_replicas *r, const struct writes *w) {
    if (!r->needed || w->verb != EDM_PUT) return 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (!written(r, w, i)) return 0;
    return 1;
}

static void wait_for_jobs(edm_replicas *r, struct writes *w, edm_event_t *tell, uint64_t deadline_ns) {
    for (;;) {
        uint32_t ticket = edm_event_ticket(tell), open = 0;
        for (uint32_t m = 0; m < r->members; m++) open += w->job[m] && !edm_job_ended(w->job[m]);
        uint64_t now = edm_now_ns();
        if (!open || enough(r, w) || now >= deadline_ns) break;
        edm_event_wait(tell, ticket, 0, deadline_ns - now);
    }
}

static int goes_to(const struct writes *w, uint32_t m) {
    for (uint32_t i = 0; i < w->n; i++)
        if (w->to[i] >> m & 1) return 1;
    return 0;
}

/* One member of those that may sleep is called by this thread, where all are waited for anyway. */
static void write_out(edm_replicas *r, struct writes *w, uint64_t deadline_ns) {
    edm_event_t *tell = edm_replicas_event(r);
    int may_leave = r->needed && w->verb == EDM_PUT;
    uint32_t here = r->members;
    for (uint32_t m = 0; m < r->members && !may_leave; m++)
        if (r->lane[m] && goes_to(w, m)) here = m;
    for (uint32_t m = 0; m < r->members; m++) {
        if (!r->lane[m] || m == here || !goes_to(w, m) || send(r, w, m, tell)) continue;
        if (may_leave) skip(r, w, m);
        else write_here(r, w, m);
    }
    for (uint32_t m = 0; m < r->members; m++)
        if ((!r->lane[m] || m == here) && goes_to(w, m)) write_here(r, w, m);
    wait_for_jobs(r, w, tell, deadline_ns);
    for (uint32_t m = 0; m < r->members; m++)
        if (w->job[m]) note_job(w, m);
}

/* At most a batch. Members get half of the time at most: then there is an answer in time, whatever they do. */
static int write_some(edm_replicas *r, enum edm_verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct writes w = {.verb = verb, .io = io, .n = n, .deadline_ns = edm_share(r, deadline_ns, 2)};
    if (hold(r, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    uint8_t to = alive(r);
    for (uint32_t i = 0; i < n; i++) {
        w.to[i] = begin(r, io[i].page, to);
        w.generation[i] = edm_generation(r->word[io[i].page]);
        if (verb == EDM_DEL) continue;
        r->sum[io[i].page] = edm_checksum(io[i].data, edm_io_size(&r->base, &io[i]));
        r->size[io[i].page] = io[i].size;
        for (uint32_t m = 0; m < r->members; m++)
            if (!(w.to[i] >> m & 1)) miss(r, m);
    }
    write_out(r, &w, deadline_ns);
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) {
        io[i].result = verb == EDM_DEL || written(r, &w, i) ? 0 : w.error[i] ? w.error[i] : -ETIMEDOUT;
        end(r, io[i].page, io[i].result);
        failed += io[i].result != 0;
    }
    return -failed;
}

/* ---- put, get, del ---- */

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_replicas *r = (edm_replicas *)s;
    int failed = 0;
    for (uint32_t i = 0; i < n; i += r->batch)
        failed += write_some(r, EDM_PUT, io + i, n - i < r->batch ? n - i : r->batch, deadline_ns);
    r->puts += n;
    r->bytes_in += edm_io_bytes(s, io, n);
    r->errors += (uint64_t)-failed;
    return failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_replicas *r = (edm_replicas *)s;
    int failed = 0;
    for (uint32_t i = 0; i < n; i += r->batch)
        failed += edm_replicas_get(r, io + i, n - i < r->batch ? n - i : r->batch, deadline_ns);
    r->gets += n;
    r->bytes_out += edm_io_bytes(s, io, n);
    r->errors += (uint64_t)-failed;
    return failed;
}

/* What a member keeps of it is never read. */
static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_replicas *r = (edm_replicas *)s;
    int failed = 0;
    for (uint32_t i = 0; i < n; i += r->batch)
        failed += write_some(r, EDM_DEL, io + i, n - i < r->batch ? n - i : r->batch, deadline_ns);
    r->dels += n;
    r->errors += (uint64_t)-failed;
    return failed;
}

static int sync_all(edm_store *s, uint64_t deadline_ns) {
    edm_replicas *r = (edm_replicas *)s;
    int error = 0, done = 0;
    for (uint32_t m = 0; m < r->members; m++) {
        if (r->dead[m]) continue;
        int one = r->member[m]->ops->sync(r->member[m], edm_share(r, deadline_ns, r->members - m));
        if (one) error = one;
        else done++;
    }
    return error ? error : done ? 0 : -ETIMEDOUT;
}

/* ---- the store ---- */

static void stats(edm_store *s, edm_store_stats *out) {
    edm_replicas *r = (edm_replicas *)s;
    *out = (edm_store_stats){.gets = r->gets, .puts = r->puts, .dels = r->dels, .errors = r->errors,
                             .bytes_in = r->bytes_in, .bytes_out = r->bytes_out, .pages = r->kept,
                             .bytes_held = r->kept * s->page_size, .skipped = r->skipped, .resynced = r->resynced,
                             .asked = r->asked, .hedges = r->hedges, .hedges_won = r->hedges_won};
    for (uint32_t m = 0; m < r->members; m++) {
        edm_store_stats one;
        r->member[m]->ops->stats(r->member[m], &one);
        out->dead += r->dead[m];
        edm_stats_of_member(out, &one);
    }
}

static void close_replicated(edm_store *s) {
    edm_replicas *r = (edm_replicas *)s;
    edm_replicas_unkeep(r);
    for (uint32_t m = 0; m < r->members; m++)
        if (r->lane[m]) edm_lane_close(r->lane[m]);
    for (uint32_t m = 0; m < r->members; m++) r->member[m]->ops->close(r->member[m]);
    free((void *)r->word);
    free((void *)r->sum);
    free((void *)r->size);
    free(r->copies);
    free(r);
}

static const edm_store_ops ops = {"replicated", put, get, del, sync_all, stats, .close = close_replicated};

static int refuse(char *why, size_t why_size, const char *text) {
    snprintf(why, why_size, "store replicated: %s", text);
    return -EINVAL;
}

/* "one", "first", "hedge:200us" or "hedge:p95". */
static int set_read(edm_replicas *r, const char *text, char *why, size_t why_size) {
    char hedge[EDM_URL_TEXT_MAX + 8];
    uint64_t ns = 1000000; /* p95: until enough answers were seen */
    const edm_url_option time[] = {{"hedge", EDM_URL_TIME, &ns}, {0}};
    if (!strcmp(text, "one") || !strcmp(text, "first")) {
        r->read = *text == 'f' ? EDM_READ_FIRST : EDM_READ_ONE;
        return 0;
    }
    if (strncmp(text, "hedge:", 6)) return refuse(why, why_size, "read must be one, first, hedge:200us or hedge:p95");
    r->read = EDM_READ_HEDGE;
    if (text[6] == 'p') {
        char *rest;
        r->hedge_quantile = strtod(text + 7, &rest) / 100;
        if (rest == text + 7 || *rest || !(r->hedge_quantile >= 0.5 && r->hedge_quantile < 1))
            return refuse(why, why_size, "hedge:p95 takes a percentile from 50 to below 100");
    } else {
        snprintf(hedge, sizeof hedge, "hedge=%s", text + 6);
        if (edm_url_option_read(hedge, strlen(hedge), time, "replicated", why, why_size))
            return refuse(why, why_size, "read=hedge: takes a time or a percentile; write read=hedge:200us or read=hedge:p95");
    }
    r->hedge_ns = ns;
    return 0;
}

static int open_members(edm_replicas *r, char *urls, uint32_t threads, char *why, size_t why_size) {
    for (char *url; (url = edm_member_next(&urls));) {
        if (r->members == EDM_REPLICAS_MAX) return refuse(why, why_size, "8 members at most");
        edm_store *member = edm_store_open(url, r->base.page_size, r->base.pages, why, why_size);
        if (!member) return -EINVAL;
        uint32_t m = r->members++;
        r->member[m] = member;
        r->base.caps &= member->caps | EDM_STORE_BLOCKING;
        if (!(member->caps & EDM_STORE_BLOCKING)) continue;
        r->lane[m] = edm_lane_open(member, threads, job_ended, r, m);
        if (!r->lane[m]) return refuse(why, why_size, "no threads can be started; lower ?threads= (8 a member unless given)");
    }
    if (r->members >= 2) return 0;
    return refuse(why, why_size, "it takes two stores at least; write replicated:URL,URL (and [URL] around one with "
                                 "commas in it)");
}

static int set_up(edm_replicas *r, char *urls, char *why, size_t why_size) {
    char write[EDM_URL_TEXT_MAX] = "all", read[EDM_URL_TEXT_MAX] = "one";
    uint64_t threads = EDM_LANE_THREADS;
    const edm_url_option known[] = {{"write", EDM_URL_TEXT, write}, {"read", EDM_URL_TEXT, read},
                                    {"threads", EDM_URL_COUNT, &threads}, {"patience", EDM_URL_TIME, &r->patience_ns}, {0}};
    const char *options = edm_member_options(urls, known);
    int error = edm_url_options(options, known, "replicated", why, why_size);
    if (!error && strcmp(write, "all") && strcmp(write, "quorum")) error = refuse(why, why_size, "write must be all or quorum");
    if (!error && (threads < 1 || threads > EDM_LANE_THREADS_MAX)) error = refuse(why, why_size, "threads must be 1 to 16");
    if (!error) error = set_read(r, read, why, why_size);
    if (!error) error = open_members(r, urls, (uint32_t)threads, why, why_size);
    r->needed = strcmp(write, "quorum") ? 0 : r->members / 2 + 1;
    if (!error && edm_replicas_keep(r)) error = refuse(why, why_size, "no thread can be started");
    return error;
}

static edm_store *open_replicated(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    edm_replicas *r = calloc(1, sizeof *r);
    char *urls = strdup(rest);
    snprintf(why, why_size, "store replicated: out of memory for %llu pages", (unsigned long long)pages);
    if (r) {
        r->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING | EDM_STORE_PERSISTENT, page_size, pages};
        r->batch = edm_job_pages(page_size);
        r->patience_ns = PATIENCE_NS;
        r->word = calloc(pages, sizeof *r->word);
        r->sum = calloc(pages, sizeof *r->sum);
        r->size = calloc(pages, sizeof *r->size);
        r->copies = aligned_alloc(64, (size_t)r->batch * page_size);
    }
    int ready = r && urls && r->word && r->sum && r->size && r->copies && !set_up(r, urls, why, why_size);
    free(urls);
    if (ready) return &r->base;
    if (r) close_replicated(&r->base);
    return NULL;
}

const edm_store_kind edm_store_replicated = {
    "replicated:", "replicated:URL,URL[,URL][?read=one|first|hedge:200us&write=all|quorum&patience=1s&threads=8]", open_replicated};
