/* store_replicated.c: `replicated:A,B[,C]`, every page on each of several stores.
 *
 * A put goes to all members that are alive, one after the other; write=all (the rule unless
 * given) asks for all of those, write=quorum for more than half of all members. A get asks the
 * members in turn until one has the right bytes: a checksum of its own tells. `current` says
 * which members have a page's last version; what is not current is never read.
 *
 * A member that does not answer is dead: it is skipped, and tried again by the keeper, a thread,
 * every RETRY_NS. The keeper also copies pages to members that are alive and lack them: after
 * they come back, and where a put or a copy failed. `busy` keeps a put and the copy of the same
 * page apart.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "stores.h"
#include "sync.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS_MAX = 8, BATCH = 64 };
#define RETRY_NS 200000000u
#define KEEPER_NS 50000000u /* between two looks */
#define PATIENCE_NS 1000000000u /* for a call of the keeper's */

struct replicated {
    edm_store base;
    uint32_t members, needed; /* needed: puts that must succeed; 0: all that are alive */
    edm_store *member[MEMBERS_MAX];
    _Atomic uint8_t dead[MEMBERS_MAX], behind[MEMBERS_MAX]; /* behind: it may lack pages */
    _Atomic uint8_t *current, *busy;                        /* per page: bit per member; a lock */
    _Atomic uint64_t *sum;                                  /* per page */
    _Atomic uint32_t *size;                                 /* per page: what it was put with */
    _Atomic uint32_t *turn;                                 /* per page: puts and dels begun, and ended */
    pthread_t keeper;
    int keeping;
    edm_event_t wake;
    _Atomic int stop;
    void *copy; /* the keeper's: a page */
    _Atomic uint64_t gets, puts, dels, errors, skipped, resynced, bytes_in, bytes_out;
};

typedef int (*call)(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns);

static int is_silence(int error) {
    return error && error != -ENOENT && error != -ENOSPC && error != -EBADMSG && error != -EIO;
}

static void judge(struct replicated *r, uint32_t m, int error) {
    if (!is_silence(error)) return;
    r->dead[m] = 1;
    r->behind[m] = 1;
}

/* An equal share of the time that is left for each of `turns` members. */
static uint64_t share(uint64_t deadline_ns, uint32_t turns) {
    uint64_t now = edm_now_ns();
    return now < deadline_ns ? now + (deadline_ns - now) / turns : deadline_ns;
}

/* ---- pages that are being written ---- */

static int lock_one(struct replicated *r, uint64_t page) {
    uint8_t free = 0;
    return atomic_compare_exchange_strong(&r->busy[page], &free, 1);
}

static void unlock(struct replicated *r, const edm_store_io *io, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) r->busy[io[i].page] = 0;
}

/* All or none, so that two batches never wait for each other. A page twice in a batch cannot be. */
static int lock(struct replicated *r, const edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    for (;;) {
        uint32_t k = 0;
        while (k < n && lock_one(r, io[k].page)) k++;
        if (k == n) return 0;
        unlock(r, io, k);
        if (edm_now_ns() >= deadline_ns) return -ETIMEDOUT;
        sched_yield();
    }
}

static int all_failed(edm_store_io *io, uint32_t n, int error) {
    for (uint32_t i = 0; i < n; i++) io[i].result = error;
    return -(int)n;
}

/* ---- put, get, del ---- */

/* At most BATCH pages to every member that is alive. */
static int put_some(struct replicated *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint8_t has[BATCH] = {0};
    int32_t error[BATCH] = {0};
    uint32_t asked = 0;
    if (lock(r, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) r->turn[io[i].page]++;
    for (uint32_t m = 0; m < r->members; m++) {
        if (r->dead[m]) {
            r->skipped += n;
            continue;
        }
        r->member[m]->ops->put(r->member[m], io, n, share(deadline_ns, r->members - m));
        for (uint32_t i = 0; i < n; i++) {
            judge(r, m, io[i].result);
            if (io[i].result) error[i] = io[i].result, r->behind[m] = 1;
            else has[i] |= (uint8_t)(1u << m);
        }
        asked += !r->dead[m];
    }
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t copies = (uint32_t)__builtin_popcount(has[i]), needed = r->needed ? r->needed : asked;
        r->sum[io[i].page] = edm_checksum(io[i].data, edm_io_size(&r->base, &io[i]));
        r->size[io[i].page] = io[i].size;
        r->current[io[i].page] = has[i];
        io[i].result = copies && copies >= needed ? 0 : error[i] ? error[i] : -ETIMEDOUT;
        failed += io[i].result != 0;
        r->turn[io[i].page]++;
    }
    unlock(r, io, n);
    return -failed;
}

static int in_batches(struct replicated *r, int (*some)(struct replicated *, edm_store_io *, uint32_t, uint64_t),
                      edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i += BATCH) failed += some(r, io + i, n - i < BATCH ? n - i : BATCH, deadline_ns);
    if (failed) r->errors += (uint64_t)-failed;
    return failed;
}

/* Asks one member for those pages that are still missing and that it has. */
static void get_from(struct replicated *r, uint32_t m, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_store_io some[BATCH];
    uint64_t sum[BATCH];
    uint32_t of[BATCH], k = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!io[i].result || !(r->current[io[i].page] >> m & 1)) continue;
        of[k] = i;
        sum[k] = r->sum[io[i].page];
        some[k++] = io[i];
    }
    if (!k) return;
    r->member[m]->ops->get(r->member[m], some, k, deadline_ns);
    for (uint32_t i = 0; i < k; i++) {
        int error = some[i].result;
        if (!error && edm_checksum(some[i].data, edm_io_size(&r->base, &some[i])) != r->sum[some[i].page]) error = -EBADMSG;
        judge(r, m, error);
        if (error == -ENOENT && lock_one(r, some[i].page)) { /* it has lost it; no put is under way */
            if (r->sum[some[i].page] == sum[i]) atomic_fetch_and(&r->current[some[i].page], (uint8_t) ~(1u << m));
            r->busy[some[i].page] = 0;
            r->behind[m] = 1;
        }
        io[of[i]].result = error;
    }
}

static int get_once(struct replicated *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    int failed = 0;
    for (int dead = 0; dead < 2; dead++) /* those that are dead last: they may have it, and live */
        for (uint32_t m = 0; m < r->members; m++)
            if (r->dead[m] == dead) get_from(r, m, io, n, share(deadline_ns, dead ? 1 : r->members));
    for (uint32_t i = 0; i < n; i++) failed += io[i].result != 0;
    return -failed;
}

/* While a page is being put, members and checksum may differ: it is asked for again. */
static int get_some(struct replicated *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint32_t turn[BATCH];
    for (uint32_t i = 0; i < n; i++) io[i].result = -ENOENT;
    for (;;) {
        int changing = 0;
        for (uint32_t i = 0; i < n; i++) turn[i] = r->turn[io[i].page];
        int failed = get_once(r, io, n, deadline_ns);
        for (uint32_t i = 0; i < n; i++)
            changing |= io[i].result && (r->busy[io[i].page] || r->turn[io[i].page] != turn[i]);
        if (!failed || !changing || edm_now_ns() >= deadline_ns) return failed;
        sched_yield();
    }
}

static int del_some(struct replicated *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    if (lock(r, io, n, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) r->turn[io[i].page]++;
    for (uint32_t i = 0; i < n; i++) r->current[io[i].page] = 0; /* what a member keeps is never read */
    for (uint32_t m = 0; m < r->members; m++) {
        if (r->dead[m]) continue;
        r->member[m]->ops->del(r->member[m], io, n, share(deadline_ns, r->members - m));
        for (uint32_t i = 0; i < n; i++) judge(r, m, io[i].result);
    }
    for (uint32_t i = 0; i < n; i++) {
        io[i].result = 0;
        r->turn[io[i].page]++;
    }
    unlock(r, io, n);
    return 0;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct replicated *r = (struct replicated *)s;
    r->puts += n;
    r->bytes_in += edm_io_bytes(s, io, n);
    return in_batches(r, put_some, io, n, deadline_ns);
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct replicated *r = (struct replicated *)s;
    r->gets += n;
    r->bytes_out += edm_io_bytes(s, io, n);
    return in_batches(r, get_some, io, n, deadline_ns);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct replicated *r = (struct replicated *)s;
    r->dels += n;
    return in_batches(r, del_some, io, n, deadline_ns);
}

static int sync_all(edm_store *s, uint64_t deadline_ns) {
    struct replicated *r = (struct replicated *)s;
    int error = 0, done = 0;
    for (uint32_t m = 0; m < r->members; m++) {
        if (r->dead[m]) continue;
        int one = r->member[m]->ops->sync(r->member[m], share(deadline_ns, r->members - m));
        if (one) error = one;
        else done++;
    }
    return error ? error : done ? 0 : -ETIMEDOUT;
}

/* ---- the keeper ---- */

static void try_again(struct replicated *r, uint32_t m) {
    edm_store_io io = {.page = 0, .data = r->copy};
    r->member[m]->ops->get(r->member[m], &io, 1, edm_now_ns() + RETRY_NS);
    if (!is_silence(io.result)) r->dead[m] = 0;
}

/* Copies a page to member m; 0 if it has the last version now, or none is needed. */
static int copy_page(struct replicated *r, uint32_t m, uint64_t page) {
    edm_store_io io = {.page = page, .data = r->copy};
    if (!lock_one(r, page)) return -EAGAIN;
    uint8_t current = r->current[page];
    if (current && !(current >> m & 1)) {
        io.result = -ENOENT;
        io.size = r->size[page];
        if (!get_once(r, &io, 1, edm_now_ns() + PATIENCE_NS)) {
            r->member[m]->ops->put(r->member[m], &io, 1, edm_now_ns() + PATIENCE_NS);
            judge(r, m, io.result);
        }
        if (!io.result) {
            atomic_fetch_or(&r->current[page], (uint8_t)(1u << m));
            r->resynced++;
        }
    }
    r->busy[page] = 0;
    return io.result;
}

static void bring_up_to_date(struct replicated *r, uint32_t m) {
    r->behind[m] = 0;
    for (uint64_t page = 0; page < r->base.pages && !r->stop && !r->dead[m]; page++) {
        uint8_t current = r->current[page];
        if (current && !(current >> m & 1) && copy_page(r, m, page)) r->behind[m] = 1;
    }
}

static void *keeper_main(void *store) {
    struct replicated *r = store;
    while (!r->stop) {
        uint32_t ticket = edm_event_ticket(&r->wake);
        for (uint32_t m = 0; m < r->members && !r->stop; m++) {
            if (r->dead[m]) try_again(r, m);
            if (!r->dead[m] && r->behind[m]) bring_up_to_date(r, m);
        }
        if (!r->stop) edm_event_wait(&r->wake, ticket, 0, KEEPER_NS);
    }
    return NULL;
}

static int start_keeper(struct replicated *r) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r->keeping = !pthread_create(&r->keeper, NULL, keeper_main, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r->keeping ? 0 : -EAGAIN;
}

/* ---- the store ---- */

static void stats(edm_store *s, edm_store_stats *out) {
    struct replicated *r = (struct replicated *)s;
    *out = (edm_store_stats){.gets = r->gets, .puts = r->puts, .dels = r->dels, .errors = r->errors,
                             .bytes_in = r->bytes_in, .bytes_out = r->bytes_out,
                             .skipped = r->skipped, .resynced = r->resynced};
    for (uint64_t page = 0; page < s->pages; page++) out->pages += r->current[page] != 0;
    for (uint32_t m = 0; m < r->members; m++) out->dead += r->dead[m];
    out->bytes_held = out->pages * s->page_size;
}

static void close_replicated(edm_store *s) {
    struct replicated *r = (struct replicated *)s;
    r->stop = 1;
    edm_event_raise(&r->wake);
    if (r->keeping) pthread_join(r->keeper, NULL);
    for (uint32_t m = 0; m < r->members; m++) r->member[m]->ops->close(r->member[m]);
    free((void *)r->current);
    free((void *)r->busy);
    free((void *)r->sum);
    free((void *)r->turn);
    free((void *)r->size);
    free(r->copy);
    free(r);
}

static const edm_store_ops ops = {"replicated", put, get, del, sync_all, stats, close_replicated};

/* The length of the first member's URL: up to a comma outside of brackets. */
static size_t member_length(const char *text) {
    int depth = 0;
    size_t n = 0;
    for (; text[n] && (depth || text[n] != ','); n++) depth += (text[n] == '[') - (text[n] == ']');
    return n;
}

static int open_members(struct replicated *r, char *urls, char *why, size_t why_size) {
    for (char *at = urls; *at;) {
        size_t n = member_length(at);
        char *next = at + n + (at[n] == ','), *url = at;
        at[n] = '\0';
        if (n > 1 && *url == '[' && url[n - 1] == ']') {
            url[n - 1] = '\0';
            url++;
        }
        if (r->members == MEMBERS_MAX) {
            snprintf(why, why_size, "store replicated: %d members at most", MEMBERS_MAX);
            return -EINVAL;
        }
        edm_store *member = edm_store_open(url, r->base.page_size, r->base.pages, why, why_size);
        if (!member) return -EINVAL;
        r->member[r->members++] = member;
        r->base.caps &= member->caps | EDM_STORE_BLOCKING;
        at = next;
    }
    if (r->members >= 2) return 0;
    snprintf(why, why_size, "store replicated: it takes two stores at least; write replicated:URL,URL "
             "(and [URL] around one with commas in it)");
    return -EINVAL;
}

static int set_up(struct replicated *r, const char *rest, char *why, size_t why_size) {
    char write[EDM_URL_TEXT_MAX] = "all", *urls = strdup(rest), *options;
    edm_url_option known[] = {{"write", EDM_URL_TEXT, write}, {0}};
    int error = urls ? 0 : -ENOMEM;
    if (urls && (options = strrchr(urls, '?')) && !strncmp(options, "?write=", 7)) {
        *options = '\0';
        error = edm_url_options(options + 1, known, "replicated", why, why_size);
    }
    if (!error && strcmp(write, "all") && strcmp(write, "quorum")) {
        snprintf(why, why_size, "store replicated: write must be all or quorum");
        error = -EINVAL;
    }
    if (!error) error = open_members(r, urls, why, why_size);
    r->needed = strcmp(write, "quorum") ? 0 : r->members / 2 + 1;
    if (!error && start_keeper(r)) {
        snprintf(why, why_size, "store replicated: no thread can be started");
        error = -EAGAIN;
    }
    free(urls);
    return error;
}

static edm_store *open_replicated(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    struct replicated *r = calloc(1, sizeof *r);
    snprintf(why, why_size, "store replicated: out of memory for %llu pages", (unsigned long long)pages);
    if (!r) return NULL;
    r->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING | EDM_STORE_PERSISTENT, page_size, pages};
    r->current = calloc(pages, 1);
    r->busy = calloc(pages, 1);
    r->sum = calloc(pages, sizeof *r->sum);
    r->turn = calloc(pages, sizeof *r->turn);
    r->size = calloc(pages, sizeof *r->size);
    r->copy = aligned_alloc(64, page_size);
    if (r->current && r->busy && r->sum && r->turn && r->size && r->copy && !set_up(r, rest, why, why_size)) return &r->base;
    close_replicated(&r->base);
    return NULL;
}

const edm_store_kind edm_store_replicated = {"replicated:", "replicated:URL,URL[,URL][?write=all|quorum]", open_replicated};
