/* replicas_read.c: which members a get asks, and when.
 *
 * read=one: in turn, each until it fails. read=first: all at once, the first right answer wins.
 * read=hedge:T: one, and another one each time the last has not answered in T (Dean and Barroso,
 * The Tail at Scale, 2013); its own answer still counts when it comes. Members that never sleep are
 * called by the calling thread, others in their lane: only so can a caller give up waiting.
 * A member that was late LATE_MOST times on end is asked last until it answers.
 */
#define _GNU_SOURCE
#include "checksum.h"
#include "replicas.h"

#include <sched.h>
#include <string.h>

enum { LATE_MOST = 8 };

/* Of a generation: member m answered that it has not the page, or had wrong bytes. The last one to have it keeps
 * its mark: it may be asked again. */
static void forget(edm_replicas *r, uint32_t m, uint64_t page, uint64_t word) {
    uint64_t seen = r->word[page], next;
    do {
        next = seen & ~((uint64_t)1 << m);
        if (edm_version(seen) != edm_version(word) || edm_held(seen) || next == seen || !edm_current(next)) return;
    } while (!edm_word_swap(r, page, &seen, next));
    r->behind[m] = 1;
    r->suspect[m] = 1;
}

/* 0 if the answer is the page's generation's bytes, else -errno. */
static int right(edm_replicas *r, uint32_t m, const edm_store_io *io, const edm_replica_view *view) {
    int error = io->result;
    if (!error && edm_checksum(io->data, edm_io_size(&r->base, io)) != view->sum) error = -EBADMSG;
    if (error == -ENOENT || error == -EBADMSG) forget(r, m, io->page, view->word);
    return error;
}

/* Those of the pages that are still missing, and current on member m. */
static uint32_t wanted(const edm_store_io *io, uint32_t n, const edm_replica_view *view, uint32_t m, uint32_t *of) {
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++)
        if (io[i].result && edm_current(view[i].word) >> m & 1) of[k++] = i;
    return k;
}

uint32_t edm_replicas_get_from(edm_replicas *r, uint32_t m, edm_store_io *io, uint32_t n, const edm_replica_view *view,
                               uint64_t deadline_ns) {
    edm_store_io some[EDM_JOB_PAGES];
    uint32_t of[EDM_JOB_PAGES], k = wanted(io, n, view, m, of);
    if (!k) return 0;
    for (uint32_t i = 0; i < k; i++) some[i] = io[of[i]];
    uint64_t begun = edm_now_ns();
    r->member[m]->ops->get(r->member[m], some, k, deadline_ns);
    for (uint32_t i = 0; i < k; i++) {
        edm_judge(r, m, some[i].result, begun, deadline_ns);
        io[of[i]].result = right(r, m, &some[i], &view[of[i]]);
    }
    return k;
}

static int failures(const edm_store_io *io, uint32_t n) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i++) failed += io[i].result != 0;
    return failed;
}

int edm_replicas_get_in_turn(edm_replicas *r, edm_store_io *io, uint32_t n, const edm_replica_view *view,
                             uint64_t deadline_ns, int for_program) {
    uint32_t asked = 0;
    for (int dead = 0; dead < 2; dead++) /* those that are dead last: they may have it, and live */
        for (uint32_t m = 0; m < r->members; m++)
            if (r->dead[m] == dead)
                asked += edm_replicas_get_from(r, m, io, n, view,
                                               dead ? deadline_ns : edm_share(r, deadline_ns, r->members));
    if (for_program) r->asked += asked;
    return -failures(io, n);
}

/* ---- side by side ---- */

struct race {
    edm_replicas *r;
    edm_store_io *io;
    uint32_t n;
    const edm_replica_view *view;
    uint64_t deadline_ns;
    edm_event_t *tell;
    edm_job *job[EDM_REPLICAS_MAX];
    uint32_t open;           /* jobs that have not been looked at */
    uint8_t hedged;          /* members that were asked because another one was late */
};

/* Living members as they are asked: those that were late of late after the others. */
static uint32_t in_order(const edm_replicas *r, uint32_t *order) {
    uint32_t k = 0;
    for (int late = 0; late < 2; late++)
        for (uint32_t m = 0; m < r->members; m++)
            if (!r->dead[m] && (r->late[m] >= LATE_MOST) == late) order[k++] = m;
    return k;
}

/* Pages that member m was asked for, in its lane or here. 0: it has none of them, or no job is free. */
static uint32_t ask(struct race *a, uint32_t m, int first) {
    edm_replicas *r = a->r;
    uint32_t of[EDM_JOB_PAGES], k = wanted(a->io, a->n, a->view, m, of);
    if (!k) return 0;
    if (!r->lane[m]) {
        r->asked += edm_replicas_get_from(r, m, a->io, a->n, a->view, a->deadline_ns);
        return k;
    }
    edm_job *job = edm_job_take(r->lane[m]);
    if (!job) return 0;
    for (uint32_t i = 0; i < k; i++) {
        void *own = job->io[i].data;
        job->io[i] = a->io[of[i]];
        job->io[i].data = own;
        job->tag[i] = of[i];
    }
    job->verb = EDM_GET;
    job->n = k;
    job->mark = (uint32_t)first;
    job->deadline_ns = a->deadline_ns;
    r->asked += k;
    a->job[m] = job;
    a->open++;
    edm_job_send(job, a->tell);
    return k;
}

/* Takes what an ended job brought and was still missing. */
static void take(struct race *a, uint32_t m) {
    edm_job *job = a->job[m];
    uint32_t won = 0;
    for (uint32_t i = 0; i < job->n; i++) {
        uint32_t k = (uint32_t)job->tag[i];
        if (!a->io[k].result) continue;
        a->io[k].result = right(a->r, m, &job->io[i], &a->view[k]);
        if (a->io[k].result) continue;
        memcpy(a->io[k].data, job->io[i].data, edm_io_size(&a->r->base, &job->io[i]));
        won++;
    }
    edm_job_leave(job);
    a->job[m] = NULL;
    a->open--;
    if (a->hedged >> m & 1 && a->open) a->r->hedges_won += won; /* who was late still is */
}

/* Who has been asked has not answered in time: another one is. */
static uint32_t hedge(struct race *a, uint32_t m) {
    edm_replicas *r = a->r;
    int before = failures(a->io, a->n);
    a->hedged |= (uint8_t)(1u << m);
    uint32_t pages = ask(a, m, 0);
    if (!pages) return 0;
    r->hedges += pages;
    r->hedges_won += (uint64_t)(before - failures(a->io, a->n)); /* a member that was asked here */
    for (uint32_t other = 0; other < r->members; other++)
        if (a->job[other] && other != m) r->late[other]++;
    return pages;
}

static void run(struct race *a) {
    edm_replicas *r = a->r;
    uint32_t order[EDM_REPLICAS_MAX], members = in_order(r, order), asked = 0;
    uint64_t next = 0; /* when another one is asked */
    for (;;) {
        uint32_t ticket = edm_event_ticket(a->tell);
        for (uint32_t m = 0; m < r->members; m++)
            if (a->job[m] && edm_job_ended(a->job[m])) take(a, m);
        uint64_t now = edm_now_ns();
        if (!failures(a->io, a->n) || now >= a->deadline_ns) return;
        if (asked < members && (!a->open || now >= next)) {
            uint32_t m = order[asked++];
            int is_hedge = r->read == EDM_READ_HEDGE && a->open;
            if (is_hedge ? hedge(a, m) : ask(a, m, asked == 1)) next = now + r->hedge_ns;
        } else if (a->open) {
            uint64_t until = asked < members && next < a->deadline_ns ? next : a->deadline_ns;
            edm_event_wait(a->tell, ticket, 0, until - now);
        } else {
            return;
        }
    }
}

static int get_side_by_side(edm_replicas *r, edm_store_io *io, uint32_t n, const edm_replica_view *view,
                            uint64_t deadline_ns) {
    struct race a = {.r = r, .io = io, .n = n, .view = view, .deadline_ns = edm_share(r, deadline_ns, 2),
                     .tell = edm_replicas_event(r)};
    run(&a);
    for (uint32_t m = 0; m < r->members; m++)
        if (a.job[m]) edm_job_leave(a.job[m]);
    return failures(io, n) ? edm_replicas_get_in_turn(r, io, n, view, deadline_ns, 1) : 0;
}

/* ---- a get ---- */

/* 0 while the page is being put or deleted. */
static int look(const edm_replicas *r, uint64_t page, edm_replica_view *view) {
    view->word = r->word[page];
    view->sum = r->sum[page];
    return !edm_held(view->word) && edm_version(r->word[page]) == edm_version(view->word);
}

int edm_replicas_get(edm_replicas *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_replica_view view[EDM_JOB_PAGES];
    for (;;) {
        int steady = 1, failed;
        for (uint32_t i = 0; i < n; i++) {
            io[i].result = -ENOENT;
            steady &= look(r, io[i].page, &view[i]);
        }
        failed = !steady ? -(int)n
                 : r->read == EDM_READ_ONE ? edm_replicas_get_in_turn(r, io, n, view, deadline_ns, 1)
                                           : get_side_by_side(r, io, n, view, deadline_ns);
        for (uint32_t i = 0; i < n && failed; i++)
            if (io[i].result) steady &= edm_version(r->word[io[i].page]) == edm_version(view[i].word);
        if (!failed || steady || edm_now_ns() >= deadline_ns) return failed;
        sched_yield();
    }
}
