/* stripes_keeper.c: the thread that moves pages to where they belong, and deletes what they leave behind.
 *
 * A page that moves is held: it is got from where it is, proved by its checksum, put where it
 * belongs, and only then is it there; the old copy is deleted afterwards. So at each moment it is
 * readable in one place, and a move that fails has changed nothing. Puts of a held page wait, and a put of
 * one that has not moved yet goes to its new place by itself. A dead member is asked every KEEPER_NS
 * whether it lives.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "stripes.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define RETRY_NS 200000000u
#define KEEPER_NS 50000000u
#define PATIENCE_NS 1000000000u
#define FULL_NS 1000000000u
#define IDLE_NS 500000000u

/* 1: it lives. */
static int try_again(edm_stripes *s, uint32_t m) {
    edm_store_io io = {.page = 0, .data = s->copies};
    s->member[m]->ops->get(s->member[m], &io, 1, edm_now_ns() + RETRY_NS);
    if (edm_is_silence(io.result)) return 0;
    s->dead[m] = 0;
    s->unsettled = 1;
    return 1;
}

static int ready(const edm_stripes *s, uint32_t m) { return !s->dead[m] && s->full_until_ns[m] < edm_now_ns(); }

/* Where the page should go from where it is; EDM_NOWHERE: it is well there, or it cannot be done now. */
static uint8_t better(const edm_stripes *s, uint64_t page, uint32_t word) {
    if (!(word & EDM_PRESENT)) return EDM_NOWHERE;
    uint32_t first = edm_ring_first(s->ring, page);
    return first != edm_where(word) && !s->dead[edm_where(word)] && ready(s, first) ? (uint8_t)first : EDM_NOWHERE;
}

/* Of a batch that is held. */
static void move(edm_stripes *s, edm_store_io *io, uint32_t n, uint8_t *to) {
    uint8_t from[EDM_JOB_PAGES];
    for (uint32_t i = 0; i < n; i++) from[i] = (uint8_t)edm_where(s->word[io[i].page]);
    edm_stripes_call(s, EDM_GET, io, n, from, edm_now_ns() + PATIENCE_NS);
    for (uint32_t i = 0; i < n; i++)
        if (io[i].result || edm_checksum(io[i].data, edm_io_size(&s->base, &io[i])) != s->sum[io[i].page]) to[i] = EDM_NOWHERE;
    edm_stripes_call(s, EDM_PUT, io, n, to, edm_now_ns() + PATIENCE_NS);
    for (uint32_t i = 0; i < n; i++) {
        if (to[i] == EDM_NOWHERE) {
            s->unsettled = 1;
            continue;
        }
        uint32_t old = edm_old_copies(s->word[io[i].page]), bit = 1u << to[i];
        if (!io[i].result) {
            edm_stripe_set(s, io[i].page, to[i], (old | 1u << from[i]) & ~bit);
            s->moved++;
        } else {
            if (io[i].result == -ENOSPC) s->full_until_ns[to[i]] = edm_now_ns() + FULL_NS;
            edm_stripe_set(s, io[i].page, from[i], old | bit);
        }
    }
}

/* Deletes the old copies of a batch that is held, one member's at a time. */
static void tidy(edm_stripes *s, edm_store_io *io, uint32_t n) {
    for (uint32_t m = 0; m < s->members; m++) {
        uint8_t at[EDM_JOB_PAGES];
        uint32_t some = 0;
        for (uint32_t i = 0; i < n; i++) {
            at[i] = edm_old_copies(s->word[io[i].page]) >> m & 1 && !s->dead[m] ? (uint8_t)m : EDM_NOWHERE;
            some |= at[i] != EDM_NOWHERE;
        }
        if (some) edm_stripes_call(s, EDM_DEL, io, n, at, edm_now_ns() + PATIENCE_NS);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t word = s->word[io[i].page], where = word & EDM_PRESENT ? edm_where(word) : EDM_NOWHERE;
            if (at[i] == EDM_NOWHERE || io[i].result) continue;
            edm_stripe_set(s, io[i].page, where, edm_old_copies(word) & ~(1u << m));
        }
    }
}

/* Pages to move, or with old copies, from *page on, held; how many. */
static uint32_t gather(edm_stripes *s, uint64_t *page, edm_store_io *io, uint8_t *to, int moves) {
    uint32_t n = 0;
    for (; *page < s->base.pages && n < s->batch; ++*page) {
        uint32_t word = s->word[*page];
        if (!(word & (EDM_PRESENT | 0xffff0000u)) || (moves ? better(s, *page, word) == EDM_NOWHERE : !edm_old_copies(word))) continue;
        if (!edm_stripe_hold(s, *page)) {
            s->unsettled = 1;
            continue;
        }
        to[n] = better(s, *page, s->word[*page]);
        if (moves && to[n] == EDM_NOWHERE) {
            edm_stripe_release(s, *page);
            continue;
        }
        io[n] = (edm_store_io){.page = *page, .data = s->copies + (size_t)n * s->base.page_size, .size = s->size[*page]};
        n++;
    }
    return n;
}

/* How many pages it dealt with. What cannot be done now (a dead member, a full one, a page that is being put) leaves
 * it unsettled. */
static uint32_t settle(edm_stripes *s) {
    uint32_t done = 0;
    edm_store_io io[EDM_JOB_PAGES];
    uint8_t to[EDM_JOB_PAGES];
    s->unsettled = 0;
    for (int moves = 1; moves >= 0; moves--) {
        uint32_t n;
        for (uint64_t page = 0; !s->stop && (n = gather(s, &page, io, to, moves));) {
            if (moves) move(s, io, n, to);
            else tidy(s, io, n);
            for (uint32_t i = 0; i < n; i++) edm_stripe_release(s, io[i].page);
            done += n;
        }
    }
    for (uint64_t page = 0; page < s->base.pages && !s->unsettled; page++) {
        uint32_t word = s->word[page];
        s->unsettled |= edm_old_copies(word) || (word & EDM_PRESENT && edm_where(word) != edm_ring_first(s->ring, page));
    }
    return done;
}

static void *keeper_main(void *store) {
    edm_stripes *s = store;
    uint64_t next = 0; /* when what could not be settled is tried again */
    uint32_t members = 0;
    prctl(PR_SET_NAME, "edm-keeper");
    while (!s->stop) {
        uint32_t ticket = edm_event_ticket(&s->wake);
        if (members != s->members) next = 0;
        members = s->members;
        for (uint32_t m = 0; m < members && !s->stop; m++)
            if (s->dead[m] && try_again(s, m)) next = 0;
        if (s->unsettled && edm_now_ns() >= next) next = settle(s) ? 0 : edm_now_ns() + IDLE_NS;
        if (!s->stop) edm_event_wait(&s->wake, ticket, 0, KEEPER_NS);
    }
    return NULL;
}

int edm_stripes_keep(edm_stripes *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->keeping = !pthread_create(&s->keeper, NULL, keeper_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->keeping ? 0 : -EAGAIN;
}

void edm_stripes_unkeep(edm_stripes *s) {
    s->stop = 1;
    edm_event_raise(&s->wake);
    if (s->keeping) pthread_join(s->keeper, NULL);
}
