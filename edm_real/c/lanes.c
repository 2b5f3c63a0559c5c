/* lanes.c: see lanes.h. */
#define _GNU_SOURCE
#include "lanes.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { JOB_BYTES = 256 << 10, STACK_BYTES = 256 << 10, SPINS = 200 };
#define NAP_NS 1000000000u

struct edm_lane {
    edm_store *store;
    edm_job_fn ended;
    void *ctx;
    uint32_t number;
    _Atomic uint32_t taken; /* bit per job */
    edm_lock lock;
    uint32_t first, queued; /* (lock) of the ring */
    edm_job *ring[EDM_LANE_JOBS]; /* (lock) */
    _Atomic uint32_t sent, asleep; /* sent: what idle threads sleep on */
    _Atomic int stop;
    pthread_t thread[EDM_LANE_THREADS_MAX];
    uint32_t threads;
    uint8_t *buffers;
    size_t buffers_bytes;
    edm_job job[EDM_LANE_JOBS];
};

int edm_store_call(edm_store *s, enum edm_verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    if (verb == EDM_GET) return s->ops->get(s, io, n, deadline_ns);
    return verb == EDM_PUT ? s->ops->put(s, io, n, deadline_ns) : s->ops->del(s, io, n, deadline_ns);
}

uint32_t edm_job_pages(uint32_t page_size) {
    uint32_t pages = JOB_BYTES / page_size;
    return pages > EDM_JOB_PAGES ? EDM_JOB_PAGES : pages ? pages : 1;
}

edm_job *edm_job_take(edm_lane *l) {
    uint32_t taken = atomic_load_explicit(&l->taken, memory_order_relaxed), free;
    while ((free = ~taken & ((1u << EDM_LANE_JOBS) - 1))) {
        uint32_t bit = (uint32_t)__builtin_ctz(free);
        if (!atomic_compare_exchange_weak_explicit(&l->taken, &taken, taken | 1u << bit, memory_order_acquire,
                                                   memory_order_relaxed))
            continue;
        edm_job *job = &l->job[bit];
        job->holders = 2;
        job->ended = 0;
        return job;
    }
    return NULL;
}

void edm_job_leave(edm_job *job) {
    edm_lane *l = job->lane;
    if (atomic_fetch_sub(&job->holders, 1) == 1)
        atomic_fetch_and_explicit(&l->taken, ~(1u << (job - l->job)), memory_order_release);
}

void edm_job_send(edm_job *job, edm_event_t *tell) {
    edm_lane *l = job->lane;
    job->tell = tell;
    job->sent_ns = edm_now_ns();
    edm_lock_take(&l->lock);
    l->ring[(l->first + l->queued++) % EDM_LANE_JOBS] = job; /* there are no more jobs than places */
    edm_lock_give(&l->lock);
    atomic_fetch_add(&l->sent, 1);
    if (atomic_load(&l->asleep)) edm_futex_wake(&l->sent, 1);
}

static edm_job *next_job(edm_lane *l) {
    edm_job *job = NULL;
    edm_lock_take(&l->lock);
    if (l->queued) {
        job = l->ring[l->first];
        l->first = (l->first + 1) % EDM_LANE_JOBS;
        l->queued--;
    }
    edm_lock_give(&l->lock);
    return job;
}

static void carry_out(edm_lane *l, edm_job *job) {
    edm_event_t *tell = job->tell;
    if (edm_now_ns() < job->deadline_ns) edm_store_call(l->store, job->verb, job->io, job->n, job->deadline_ns);
    else
        for (uint32_t i = 0; i < job->n; i++) job->io[i].result = -ETIMEDOUT; /* it waited too long for a thread */
    l->ended(l->ctx, l->number, job);
    atomic_store_explicit(&job->ended, 1, memory_order_release);
    edm_job_leave(job);
    edm_event_raise(tell);
}

static void wait_for_job(edm_lane *l, uint32_t ticket) {
    for (int i = 0; i < SPINS; i++) {
        if (l->sent != ticket) return;
        edm_relax();
    }
    atomic_fetch_add(&l->asleep, 1);
    if (l->sent == ticket && !l->stop) edm_futex_wait(&l->sent, ticket, NAP_NS);
    atomic_fetch_sub(&l->asleep, 1);
}

static void *lane_main(void *lane) {
    edm_lane *l = lane;
    prctl(PR_SET_NAME, "edm-lane");
    while (!l->stop) {
        uint32_t ticket = l->sent;
        edm_job *job = next_job(l);
        if (job) carry_out(l, job);
        else wait_for_job(l, ticket);
    }
    return NULL;
}

/* They take no signals: those would run Python's handlers, or ours. */
static int start_threads(edm_lane *l, uint32_t threads) {
    sigset_t all, before;
    pthread_attr_t small;
    if (pthread_attr_init(&small)) return -ENOMEM;
    pthread_attr_setstacksize(&small, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (l->threads < threads && !pthread_create(&l->thread[l->threads], &small, lane_main, l)) l->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&small);
    return l->threads == threads ? 0 : -EAGAIN;
}

edm_lane *edm_lane_open(edm_store *store, uint32_t threads, edm_job_fn ended, void *ctx, uint32_t number) {
    edm_lane *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    uint32_t pages = edm_job_pages(store->page_size);
    l->store = store;
    l->ended = ended;
    l->ctx = ctx;
    l->number = number;
    l->buffers_bytes = (size_t)EDM_LANE_JOBS * pages * store->page_size;
    l->buffers = mmap(NULL, l->buffers_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (uint32_t k = 0; k < EDM_LANE_JOBS && l->buffers != MAP_FAILED; k++) {
        l->job[k].lane = l;
        for (uint32_t i = 0; i < pages; i++)
            l->job[k].io[i].data = l->buffers + ((size_t)k * pages + i) * store->page_size;
    }
    if (l->buffers != MAP_FAILED && !start_threads(l, threads)) return l;
    edm_lane_close(l);
    return NULL;
}

void edm_lane_close(edm_lane *l) {
    l->stop = 1;
    atomic_fetch_add(&l->sent, 1);
    edm_futex_wake(&l->sent, INT32_MAX);
    for (uint32_t k = 0; k < l->threads; k++) pthread_join(l->thread[k], NULL);
    if (l->buffers != MAP_FAILED) munmap(l->buffers, l->buffers_bytes);
    free(l);
}
