/* replicas_keeper.c: the thread that brings members up to date.
 *
 * Every KEEPER_NS a dead member is asked for a page, and lives if it answers. One that came back,
 * broke a connection, or lacked a page it was thought to have, is asked for all it should have: a
 * server that restarts may have lost any of it. What a member lacks is then copied to it from the
 * others, in batches.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "replicas.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define RETRY_NS 200000000u
#define KEEPER_NS 50000000u
#define PATIENCE_NS 1000000000u /* for a call */
enum { ANSWERS = 500 };         /* a percentile is taken of so many */

static void try_again(edm_replicas *r, uint32_t m) {
    edm_store_io io = {.page = 0, .data = r->copies};
    r->member[m]->ops->get(r->member[m], &io, 1, edm_now_ns() + RETRY_NS);
    if (edm_is_silence(io.result)) return;
    r->late[m] = 0;
    r->suspect[m] = 1;
    r->dead[m] = 0;
}

/* A connection that broke and was made again may lead to a server that has restarted. */
static void look_at_connections(edm_replicas *r, uint32_t m) {
    edm_store_stats now;
    r->member[m]->ops->stats(r->member[m], &now);
    if (now.reconnects != r->reconnects[m]) r->suspect[m] = 1;
    r->reconnects[m] = now.reconnects;
}

typedef int (*choose_fn)(edm_replicas *r, uint32_t m, uint64_t page, uint64_t word);

/* The next batch of pages, from *page on, that `choose` takes; what was known of them. */
static uint32_t gather(edm_replicas *r, uint32_t m, uint64_t *page, choose_fn choose, edm_store_io *io,
                       edm_replica_view *view) {
    uint32_t n = 0;
    for (; *page < r->base.pages && n < r->batch; ++*page) {
        edm_replica_view v = {r->word[*page], r->sum[*page]};
        edm_store_io one = {.page = *page, .data = r->copies + (size_t)n * r->base.page_size, .result = -ENOENT,
                            .size = r->size[*page]};
        if (edm_held(v.word) || !choose(r, m, *page, v.word)) continue;
        view[n] = v;
        io[n++] = one;
    }
    return n;
}

static int has(edm_replicas *r, uint32_t m, uint64_t page, uint64_t word) {
    (void)r, (void)page;
    return edm_current(word) >> m & 1;
}

/* It lacks the page, others have it, and from now on it is being written: puts leave it alone. */
static int claim(edm_replicas *r, uint32_t m, uint64_t page, uint64_t word) {
    uint64_t seen = word, bit = (uint64_t)1 << (8 + m);
    if (!edm_current(word) || (edm_current(word) | edm_writing(word)) >> m & 1) return 0;
    return edm_word_swap(r, page, &seen, word | bit);
}

/* Pages it turns out to lack are forgotten, which asks for a copy. */
static void verify(edm_replicas *r, uint32_t m) {
    edm_store_io io[EDM_JOB_PAGES];
    edm_replica_view view[EDM_JOB_PAGES];
    uint32_t n;
    r->suspect[m] = 0;
    for (uint64_t page = 0; !r->stop && !r->dead[m] && (n = gather(r, m, &page, has, io, view));)
        edm_replicas_get_from(r, m, io, n, view, edm_now_ns() + PATIENCE_NS);
    if (r->dead[m]) r->suspect[m] = 1;
    r->behind[m] = 1;
}

static void copy(edm_replicas *r, uint32_t m, edm_store_io *io, uint32_t n, const edm_replica_view *view) {
    edm_store_io got[EDM_JOB_PAGES];
    uint64_t generation[EDM_JOB_PAGES];
    uint32_t k = 0;
    edm_replicas_get_in_turn(r, io, n, view, edm_now_ns() + PATIENCE_NS, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result) {
            edm_wrote(r, m, io[i].page, edm_generation(view[i].word), 0);
        } else {
            generation[k] = edm_generation(view[i].word);
            got[k++] = io[i];
        }
    }
    uint64_t now = edm_now_ns();
    if (k) r->member[m]->ops->put(r->member[m], got, k, now + PATIENCE_NS);
    for (uint32_t i = 0; i < k; i++) {
        edm_judge(r, m, got[i].result, now, now + PATIENCE_NS);
        edm_wrote(r, m, got[i].page, generation[i], !got[i].result);
        r->resynced += !got[i].result;
    }
}

static void bring_up_to_date(edm_replicas *r, uint32_t m) {
    edm_store_io io[EDM_JOB_PAGES];
    edm_replica_view view[EDM_JOB_PAGES];
    uint32_t n;
    r->behind[m] = 0; /* before the look: what is missed from now on sets it again */
    for (uint64_t page = 0; !r->stop && !r->dead[m] && (n = gather(r, m, &page, claim, io, view));)
        copy(r, m, io, n, view);
    if (r->dead[m] || r->stop) r->behind[m] = 1;
}

static void set_hedge(edm_replicas *r) {
    if (r->hedge_quantile == 0 || r->answers.count < ANSWERS) return;
    r->hedge_ns = (uint64_t)edm_hist_quantile(&r->answers, r->hedge_quantile);
    edm_hist_reset(&r->answers);
}

static void *keeper_main(void *store) {
    edm_replicas *r = store;
    prctl(PR_SET_NAME, "edm-keeper");
    while (!r->stop) {
        uint32_t ticket = edm_event_ticket(&r->wake);
        for (uint32_t m = 0; m < r->members && !r->stop; m++) {
            if (r->dead[m]) try_again(r, m);
            if (r->dead[m]) continue;
            look_at_connections(r, m);
            if (r->suspect[m]) verify(r, m);
            if (r->behind[m]) bring_up_to_date(r, m);
        }
        set_hedge(r);
        if (!r->stop) edm_event_wait(&r->wake, ticket, 0, KEEPER_NS);
    }
    return NULL;
}

int edm_replicas_keep(edm_replicas *r) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r->keeping = !pthread_create(&r->keeper, NULL, keeper_main, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r->keeping ? 0 : -EAGAIN;
}

void edm_replicas_unkeep(edm_replicas *r) {
    r->stop = 1;
    edm_event_raise(&r->wake);
    if (r->keeping) pthread_join(r->keeper, NULL);
}
