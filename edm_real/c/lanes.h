/* lanes.h: threads that call a store for a caller who may not want to wait for it.
 *
 * A lane belongs to one store: a few threads and a few jobs, all made when it is opened. A call
 * becomes a job with buffers of its own, so that its sender may leave it at any moment: an
 * answer that comes late goes into the job's buffers, and nobody looks at them. A store that hangs
 * keeps the threads of its own lane, and of no other. Sending, waiting and leaving allocate
 * nothing and are safe in a fault handler.
 */
#ifndef EDM_LANES_H
#define EDM_LANES_H

#include "store.h"
#include "sync.h"

enum { EDM_JOB_PAGES = 64, EDM_LANE_JOBS = 24, EDM_LANE_THREADS = 8, EDM_LANE_THREADS_MAX = 16 };

enum edm_verb { EDM_GET, EDM_PUT, EDM_DEL };

typedef struct edm_lane edm_lane;

typedef struct edm_job {
    enum edm_verb verb; /* the first six: the sender's */
    uint32_t n, mark;
    edm_store_io io[EDM_JOB_PAGES]; /* .data stays as it is: the job's own */
    uint64_t tag[EDM_JOB_PAGES];    /* the sender's, for each page */
    uint64_t deadline_ns;
    uint64_t sent_ns;
    edm_lane *lane;
    edm_event_t *tell;
    _Atomic uint32_t holders; /* sender and lane: the last one gives it back */
    _Atomic int ended;
} edm_job;

/* What the lane's thread does with a job that ended, before its sender is told. */
typedef void (*edm_job_fn)(void *ctx, uint32_t number, const edm_job *job);

/* Pages of page_size bytes in one job: at most 256 KiB, and one at least. */
uint32_t edm_job_pages(uint32_t page_size);
/* NULL: out of memory, or no threads are to be had. `number`: for `ended`. */
edm_lane *edm_lane_open(edm_store *store, uint32_t threads, edm_job_fn ended, void *ctx, uint32_t number);
/* Jobs that wait are dropped, those under way are waited for. The store stays open. */
void edm_lane_close(edm_lane *lane);

edm_job *edm_job_take(edm_lane *lane); /* NULL: all are in use */
/* `tell` is raised when it ended; it must live as long as the lane. */
void edm_job_send(edm_job *job, edm_event_t *tell);
static inline int edm_job_ended(const edm_job *job) { return atomic_load_explicit(&job->ended, memory_order_acquire); }
void edm_job_leave(edm_job *job); /* the sender looks at it no more, whether it ended or not */

int edm_store_call(edm_store *s, enum edm_verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns);

#endif
