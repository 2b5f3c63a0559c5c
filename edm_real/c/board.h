/* board.h: a region's figures for other processes to read (python -m edm_real top).
 *
 * A region with a board has a small sealed memfd, named edm-region, that a reader finds in
 * /proc/PID/fd and maps: who may look is the kernel's to say, and nothing is left behind. The fault
 * path knows nothing of it. A reader asks (the futex `asked`); a thread of the region, asleep
 * otherwise, copies the figures in and answers (`told`). Between two questions it costs nothing.
 */
#ifndef EDM_BOARD_H
#define EDM_BOARD_H

#include "runtime.h"
#include "store.h"

/* cffi-begin */
typedef struct edm_figures { /* what one answer holds */
    uint64_t now_ns;      /* CLOCK_MONOTONIC */
    uint32_t pid;         /* of the process whose region it is: a fork's child has the descriptor, too */
    uint32_t page_size, faults_mode, has_lpet;
    edm_config config;    /* with the watermarks as they are now */
    edm_stats policy;
    edm_runtime_stats runtime;
    edm_store_stats store;
    uint64_t latency_sum, latency_max;
    uint32_t latency[4352]; /* EDM_HIST_BUCKETS of the fault path, since the region was opened */
    char name[64], url[192];
} edm_figures;

/* Gives a region a board; 0, or -errno when it cannot have one (it works without). `url` is shown:
 * it must hold no secret. Both texts are cut to their fields. */
int edm_board_open(edm_region *r, const char *name, const char *url);
/* The board's own descriptor, for a reader in the same process to open anew; -1: there is none. */
int edm_board_fd(const edm_region *r);
/* Asks the board behind a descriptor from /proc/PID/fd. -ETIMEDOUT: no answer (the process is
 * stopped); -EPROTO: not a board of this version, or its region was closed. */
int edm_board_ask(int fd, uint32_t timeout_ms, edm_figures *out);
/* Latencies of the faults between two answers (before == NULL: since the region was opened).
 * max_ns is the whole time's. */
void edm_board_latency(const edm_figures *now, const edm_figures *before, edm_latency *out);
/* cffi-end */

typedef struct edm_board edm_board;
void edm_figures_of(edm_region *r, edm_figures *out); /* all but pid, name and url */
void edm_board_close(edm_board *b); /* NULL: nothing to do */

#endif
