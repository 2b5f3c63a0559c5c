/* store_striped.c: `striped:A,B,C`, each page on one of several stores.
 *
 * A page belongs to the member that the ring names (edm_policy/c/ring.h); it is put there, or, when that
 * one is dead or full, on the next of the ring. A batch is split by member, and the parts are carried out
 * side by side (lanes.h). Where each page is, is kept: so a member may be added while the store is
 * used, and stripes_keeper.c moves the pages that belong to it. A dead member fails its own
 * pages, at once and until it answers again.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "stripes.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS 1000000000u

/* ---- a page's word ---- */

int edm_stripe_hold(edm_stripes *s, uint64_t page) {
    return !(atomic_fetch_or(&s->word[page], EDM_STRIPE_HELD) & EDM_STRIPE_HELD);
}

void edm_stripe_release(edm_stripes *s, uint64_t page) { atomic_fetch_and(&s->word[page], ~(uint32_t)EDM_STRIPE_HELD); }

void edm_stripe_set(edm_stripes *s, uint64_t page, uint32_t at, uint32_t old_copies) {
    uint32_t was = s->word[page], changed = ((was + EDM_CHANGE) & 0xff00) | EDM_STRIPE_HELD | old_copies << 16;
    if (was & EDM_PRESENT) s->kept[edm_where(was)]--;
    if (at != EDM_NOWHERE) s->kept[at]++;
    s->word[page] = at == EDM_NOWHERE ? changed : changed | EDM_PRESENT | at;
    if (old_copies) s->unsettled = 1;
}

static void release(edm_stripes *s, const edm_store_io *io, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) edm_stripe_release(s, io[i].page);
}

/* All or none, so that two batches never wait for each other. */
static int hold(edm_stripes *s, const edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    for (;;) {
        uint32_t k = 0;
        while (k < n && edm_stripe_hold(s, io[k].page)) k++;
        if (k == n) return 0;
        release(s, io, k);
        if (edm_now_ns() >= deadline_ns) return -ETIMEDOUT;
        sched_yield();
    }
}

static int all_failed(edm_store_io *io, uint32_t n, int error) {
    for (uint32_t i = 0; i < n; i++) io[i].result = error;
    return -(int)n;
}

static int failures(const edm_store_io *io, uint32_t n) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) failed += io[i].result != 0;
    return failed;
}

/* ---- calls, split by member ---- */

static void judge(edm_stripes *s, uint32_t m, edm_store_io *io, uint64_t begun_ns, uint64_t deadline_ns) {
    if (!edm_is_dead(io->result, begun_ns, deadline_ns)) return;
    s->dead[m] = 1;
    io->result = -EHOSTDOWN;
}

static uint32_t part(const uint8_t *at, uint32_t n, uint32_t m, uint32_t *of) {
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++)
        if (at[i] == m) of[k++] = i;
    return k;
}

static void call_here(edm_stripes *s, enum edm_verb verb, edm_store_io *io, uint32_t n, const uint8_t *at, uint32_t m,
                      uint64_t deadline_ns) {
    edm_store_io some[EDM_JOB_PAGES];
    uint32_t of[EDM_JOB_PAGES], k = part(at, n, m, of);
    for (uint32_t i = 0; i < k; i++) some[i] = io[of[i]];
    uint64_t begun = edm_now_ns();
    edm_store_call(s->member[m], verb, some, k, deadline_ns);
    for (uint32_t i = 0; i < k; i++) {
        judge(s, m, &some[i], begun, deadline_ns);
        io[of[i]].result = some[i].result;
    }
}

static edm_job *send(edm_stripes *s, enum edm_verb verb, const edm_store_io *io, uint32_t n, const uint8_t *at, uint32_t m,
                     uint64_t deadline_ns, edm_event_t *tell) {
    uint32_t of[EDM_JOB_PAGES];
    edm_job *job = edm_job_take(s->lane[m]);
    if (!job) return NULL;
    job->n = part(at, n, m, of);
    for (uint32_t i = 0; i < job->n; i++) {
        void *own = job->io[i].data;
        job->io[i] = io[of[i]];
        job->io[i].data = own;
        job->tag[i] = of[i];
        if (verb == EDM_PUT) memcpy(own, io[of[i]].data, edm_io_size(&s->base, &io[of[i]]));
    }
    job->verb = verb;
    job->deadline_ns = deadline_ns;
    edm_job_send(job, tell);
    return job;
}

/* A write is waited for until it has ended: it may not come after the page's next. Its member ends it in time. */
static void wait_for(edm_job *job, enum edm_verb verb, uint64_t deadline_ns, edm_event_t *tell) {
    for (;;) {
        uint32_t ticket = edm_event_ticket(tell);
        uint64_t now = edm_now_ns();
        if (edm_job_ended(job) || (verb == EDM_GET && now >= deadline_ns)) return;
        edm_event_wait(tell, ticket, 0, now < deadline_ns ? deadline_ns - now : 1000000);
    }
}

static void take(edm_stripes *s, edm_job *job, edm_store_io *io, uint32_t m) {
    int ended = edm_job_ended(job);
    for (uint32_t i = 0; i < job->n; i++) {
        edm_store_io *to = &io[job->tag[i]];
        to->result = ended ? job->io[i].result : -ETIMEDOUT;
        judge(s, m, to, job->sent_ns, job->deadline_ns);
        if (!to->result && job->verb == EDM_GET) memcpy(to->data, job->io[i].data, edm_io_size(&s->base, to));
    }
    edm_job_leave(job);
}

void edm_stripes_call(edm_stripes *s, enum edm_verb verb, edm_store_io *io, uint32_t n, const uint8_t *at,
                      uint64_t deadline_ns) {
    edm_job *job[EDM_STRIPES_MAX] = {0};
    uint32_t members = s->members, asked = 0, here = EDM_NOWHERE;
    edm_event_t *tell = &s->answered[atomic_fetch_add_explicit(&s->next_event, 1, memory_order_relaxed) % EDM_STRIPES_EVENTS];
    for (uint32_t i = 0; i < n; i++)
        if (at[i] != EDM_NOWHERE) asked |= 1u << at[i];
    for (uint32_t m = 0; m < members; m++) /* the last one that may sleep is called by this thread */
        if (asked >> m & 1 && s->lane[m]) here = m;
    for (uint32_t m = 0; m < members; m++)
        if (asked >> m & 1 && s->lane[m] && m != here) job[m] = send(s, verb, io, n, at, m, deadline_ns, tell);
    for (uint32_t m = 0; m < members; m++)
        if (asked >> m & 1 && !job[m]) call_here(s, verb, io, n, at, m, deadline_ns);
    for (uint32_t m = 0; m < members; m++) {
        if (!job[m]) continue;
        wait_for(job[m], verb, deadline_ns, tell);
        take(s, job[m], io, m);
    }
}

static uint64_t share(const edm_stripes *s, uint64_t deadline_ns) {
    uint64_t now = edm_now_ns(), half = now < deadline_ns ? (deadline_ns - now) / 2 : 0;
    return half ? now + (half < s->patience_ns ? half : s->patience_ns) : deadline_ns;
}

/* ---- put ---- */

/* The first of the page's members that lives and was not tried; EDM_NOWHERE: there is none. */
static uint8_t choose(const edm_stripes *s, uint64_t page, uint32_t tried) {
    uint8_t order[EDM_STRIPES_MAX];
    const edm_ring *ring = s->ring;
    uint32_t first = edm_ring_first(ring, page);
    if (!((tried >> first & 1) | s->dead[first])) return (uint8_t)first;
    edm_ring_order(ring, page, order);
    for (uint32_t k = 0; k < ring->units; k++)
        if (!((tried >> order[k] & 1) | s->dead[order[k]])) return order[k];
    return EDM_NOWHERE;
}

/* A page that was put on member m, or not. Where it was and where it may have come to late are old copies. */
static void note(edm_stripes *s, const edm_store_io *io, uint32_t m) {
    uint32_t word = s->word[io->page], old = edm_old_copies(word), was = word & EDM_PRESENT ? edm_where(word) : EDM_NOWHERE;
    if (!io->result) {
        if (was != EDM_NOWHERE && was != m) old |= 1u << was;
        s->sum[io->page] = edm_checksum(io->data, edm_io_size(&s->base, io));
        s->size[io->page] = io->size;
        edm_stripe_set(s, io->page, m, old & ~(1u << m));
        if (m != edm_ring_first(s->ring, io->page)) s->unsettled = 1;
    } else if (was != m) {
        edm_stripe_set(s, io->page, was, old | 1u << m);
    }
}

/* At most a batch. A page goes on to the next member while there is one, and time. */
static int put_some(edm_stripes *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint32_t tried[EDM_JOB_PAGES] = {0};
    uint8_t at[EDM_JOB_PAGES];
    if (hold(s, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) io[i].result = -EHOSTDOWN;
    for (uint32_t turn = 0, some = 1; some && (!turn || edm_now_ns() < deadline_ns); turn++) {
        some = 0;
        for (uint32_t i = 0; i < n; i++) {
            at[i] = io[i].result ? choose(s, io[i].page, tried[i]) : EDM_NOWHERE;
            if (at[i] == EDM_NOWHERE) continue;
            tried[i] |= 1u << at[i];
            some = 1;
        }
        if (!some) break;
        edm_stripes_call(s, EDM_PUT, io, n, at, share(s, deadline_ns));
        for (uint32_t i = 0; i < n; i++)
            if (at[i] != EDM_NOWHERE) note(s, &io[i], at[i]);
    }
    release(s, io, n);
    return -failures(io, n);
}

/* ---- get, del ---- */

static int get_once(edm_stripes *s, edm_store_io *io, uint32_t n, const uint32_t *seen, uint64_t deadline_ns) {
    uint8_t at[EDM_JOB_PAGES];
    for (uint32_t i = 0; i < n; i++) {
        int dead = seen[i] & EDM_PRESENT && s->dead[edm_where(seen[i])];
        at[i] = seen[i] & EDM_PRESENT && !dead ? (uint8_t)edm_where(seen[i]) : EDM_NOWHERE;
        io[i].result = dead ? -EHOSTDOWN : -ENOENT;
    }
    edm_stripes_call(s, EDM_GET, io, n, at, share(s, deadline_ns));
    return -failures(io, n);
}

static int get_some(edm_stripes *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint32_t seen[EDM_JOB_PAGES];
    for (;;) {
        for (uint32_t i = 0; i < n; i++) seen[i] = s->word[io[i].page];
        int failed = get_once(s, io, n, seen, deadline_ns), moved = 0;
        for (uint32_t i = 0; i < n && failed; i++)
            moved |= io[i].result && ((seen[i] ^ s->word[io[i].page]) & 0xff1f);
        if (!moved || edm_now_ns() >= deadline_ns) return failed;
    }
}

static int del_some(edm_stripes *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint8_t at[EDM_JOB_PAGES];
    if (hold(s, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t word = s->word[io[i].page], where = edm_where(word);
        at[i] = word & EDM_PRESENT && !s->dead[where] ? (uint8_t)where : EDM_NOWHERE;
        io[i].result = at[i] == EDM_NOWHERE;
    }
    edm_stripes_call(s, EDM_DEL, io, n, at, share(s, deadline_ns));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t word = s->word[io[i].page], left = word & EDM_PRESENT && io[i].result ? 1u << edm_where(word) : 0;
        edm_stripe_set(s, io[i].page, EDM_NOWHERE, edm_old_copies(word) | left); /* the keeper deletes what is left */
        io[i].result = 0;
    }
    release(s, io, n);
    return 0;
}

static int in_batches(edm_stripes *s, int (*some)(edm_stripes *, edm_store_io *, uint32_t, uint64_t), edm_store_io *io,
                      uint32_t n, uint64_t deadline_ns) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i += s->batch) failed += some(s, io + i, n - i < s->batch ? n - i : s->batch, deadline_ns);
    s->errors += (uint64_t)-failed;
    return failed;
}

static int put(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_stripes *s = (edm_stripes *)base;
    s->puts += n;
    s->bytes_in += edm_io_bytes(base, io, n);
    return in_batches(s, put_some, io, n, deadline_ns);
}

static int get(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_stripes *s = (edm_stripes *)base;
    s->gets += n;
    s->bytes_out += edm_io_bytes(base, io, n);
    return in_batches(s, get_some, io, n, deadline_ns);
}

static int del(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_stripes *s = (edm_stripes *)base;
    s->dels += n;
    return in_batches(s, del_some, io, n, deadline_ns);
}

static int sync_all(edm_store *base, uint64_t deadline_ns) {
    edm_stripes *s = (edm_stripes *)base;
    int error = 0;
    for (uint32_t m = 0; m < s->members; m++) {
        int one = !s->dead[m] ? s->member[m]->ops->sync(s->member[m], deadline_ns) : s->kept[m] ? -EHOSTDOWN : 0;
        if (one) error = one;
    }
    return error;
}

static void stats(edm_store *base, edm_store_stats *out) {
    edm_stripes *s = (edm_stripes *)base;
    *out = (edm_store_stats){.gets = s->gets, .puts = s->puts, .dels = s->dels, .errors = s->errors,
                             .bytes_in = s->bytes_in, .bytes_out = s->bytes_out, .moved = s->moved};
    for (uint32_t m = 0; m < s->members; m++) {
        edm_store_stats one;
        s->member[m]->ops->stats(s->member[m], &one);
        out->pages += s->kept[m];
        out->dead += s->dead[m];
        out->bytes_held += one.bytes_held;
        out->same += one.same;
        edm_stats_of_member(out, &one);
    }
}

/* ---- opening, adding, closing ---- */

static void close_striped(edm_store *base) {
    edm_stripes *s = (edm_stripes *)base;
    edm_stripes_unkeep(s);
    for (uint32_t m = 0; m < s->members; m++) {
        if (s->lane[m]) edm_lane_close(s->lane[m]);
        s->member[m]->ops->close(s->member[m]);
    }
    for (uint32_t k = 0; k <= EDM_STRIPES_MAX; k++) free(s->rings[k]);
    pthread_mutex_destroy(&s->adding);
    free((void *)s->word);
    free((void *)s->sum);
    free((void *)s->size);
    free(s->copies);
    free(s);
}

static const edm_store_ops ops = {"striped", put, get, del, sync_all, stats, .close = close_striped};

static int refuse(char *why, size_t why_size, const char *text) {
    snprintf(why, why_size, "store striped: %s", text);
    return -EINVAL;
}

static void nothing(void *ctx, uint32_t number, const edm_job *job) { (void)ctx, (void)number, (void)job; }

/* Opens a member; the pages' ring is as it was. */
static int open_member(edm_stripes *s, const char *url, char *why, size_t why_size) {
    uint32_t m = s->members;
    if (m == EDM_STRIPES_MAX) return refuse(why, why_size, "16 members at most");
    edm_store *member = edm_store_open(url, s->base.page_size, s->base.pages, why, why_size);
    if (!member) return -EINVAL;
    if (!(member->caps & EDM_STORE_SIGNAL_SAFE) && s->ring) {
        member->ops->close(member);
        return refuse(why, why_size, "this store may not be asked by a fault handler, as the others are");
    }
    edm_lane *lane = member->caps & EDM_STORE_BLOCKING ? edm_lane_open(member, s->threads, nothing, NULL, m) : NULL;
    edm_ring *ring = malloc(sizeof *ring);
    if ((member->caps & EDM_STORE_BLOCKING && !lane) || !ring) {
        if (lane) edm_lane_close(lane);
        free(ring);
        member->ops->close(member);
        return refuse(why, why_size, "no threads can be started; lower ?threads= (8 a member unless given)");
    }
    edm_ring_make(ring, m + 1);
    s->rings[m + 1] = ring;
    s->member[m] = member;
    s->lane[m] = lane;
    s->members = m + 1;
    return 0;
}

static int set_up(edm_stripes *s, char *urls, char *why, size_t why_size) {
    uint64_t threads = EDM_LANE_THREADS;
    const edm_url_option known[] = {{"patience", EDM_URL_TIME, &s->patience_ns}, {"threads", EDM_URL_COUNT, &threads}, {0}};
    const char *options = edm_member_options(urls, known);
    int error = edm_url_options(options, known, "striped", why, why_size);
    if (!error && (threads < 1 || threads > EDM_LANE_THREADS_MAX)) error = refuse(why, why_size, "threads must be 1 to 16");
    s->threads = (uint32_t)threads;
    for (char *url; !error && (url = edm_member_next(&urls));) {
        error = open_member(s, url, why, why_size);
        if (!error) s->base.caps &= s->member[s->members - 1]->caps | EDM_STORE_BLOCKING;
    }
    if (!error && !s->members) error = refuse(why, why_size, "it takes stores; write striped:URL,URL (and [URL] around one "
                                                             "with commas in it)");
    if (error) return error;
    s->ring = s->rings[s->members];
    return edm_stripes_keep(s) ? refuse(why, why_size, "no thread can be started") : 0;
}

static edm_store *open_striped(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    edm_stripes *s = calloc(1, sizeof *s);
    char *urls = strdup(rest);
    snprintf(why, why_size, "store striped: out of memory for %llu pages", (unsigned long long)pages);
    if (s) {
        s->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING | EDM_STORE_PERSISTENT, page_size, pages};
        s->batch = edm_job_pages(page_size);
        s->patience_ns = PATIENCE_NS;
        pthread_mutex_init(&s->adding, NULL);
        s->word = calloc(pages, sizeof *s->word);
        s->sum = calloc(pages, sizeof *s->sum);
        s->size = calloc(pages, sizeof *s->size);
        s->copies = aligned_alloc(64, (size_t)s->batch * page_size);
    }
    int ready = s && urls && s->word && s->sum && s->size && s->copies && !set_up(s, urls, why, why_size);
    free(urls);
    if (ready) return &s->base;
    if (s) close_striped(&s->base);
    return NULL;
}

int edm_store_add(edm_store *store, const char *url, char *why, size_t why_size) {
    edm_stripes *s = (edm_stripes *)store;
    if (store->ops != &ops) {
        snprintf(why, why_size, "store %s: takes no more members; open the region with store=\"striped:URL,URL\"", store->ops->scheme);
        return -EINVAL;
    }
    pthread_mutex_lock(&s->adding);
    int error = open_member(s, url, why, why_size);
    if (!error) {
        s->ring = s->rings[s->members];
        s->unsettled = 1;
        edm_event_raise(&s->wake);
    }
    pthread_mutex_unlock(&s->adding);
    return error;
}

const edm_store_kind edm_store_striped = {"striped:", "striped:URL[,URL...][?patience=1s&threads=8]", open_striped};
