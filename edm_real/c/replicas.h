/* replicas.h: the inside of `replicated:`, for its files: store_replicated.c (puts), replicas_read.c
 * (gets) and replicas_keeper.c (members that come back).
 *
 * What is known of a page is one word: version (48 bits), members that are being written (8),
 * members that are current (8). An odd version: a put or del holds the page. Each put or del is a
 * generation of its own. A write to a member that ends, however late, makes that member current only
 * if its generation is still the page's; while it is under way no other write of the page is
 * sent to that member, so the member never keeps an older page over a newer one. What is not
 * current is never read, and what is read must have the page's checksum.
 */
#ifndef EDM_REPLICAS_H
#define EDM_REPLICAS_H

#include "hist.h"
#include "lanes.h"
#include "members.h"

#include <pthread.h>

enum { EDM_REPLICAS_MAX = 8, EDM_REPLICAS_EVENTS = 16 };

enum edm_replicas_read { EDM_READ_ONE, EDM_READ_FIRST, EDM_READ_HEDGE };

typedef struct edm_replicas {
    edm_store base;
    uint32_t members, needed, batch; /* needed: puts that must succeed, 0: all that are alive; batch: pages in a call */
    enum edm_replicas_read read;
    uint64_t patience_ns;            /* a member that takes longer for a call is dead */
    double hedge_quantile;           /* of the answers' times; 0: hedge_ns is fixed */
    _Atomic uint64_t hedge_ns;
    edm_store *member[EDM_REPLICAS_MAX];
    edm_lane *lane[EDM_REPLICAS_MAX]; /* NULL: a call of this member never sleeps */
    _Atomic uint8_t dead[EDM_REPLICAS_MAX];
    _Atomic uint8_t behind[EDM_REPLICAS_MAX];  /* it may lack pages */
    _Atomic uint8_t suspect[EDM_REPLICAS_MAX]; /* it may lack pages it is thought to have */
    _Atomic uint32_t late[EDM_REPLICAS_MAX];   /* hedges since it last answered a read */
    uint64_t reconnects[EDM_REPLICAS_MAX];     /* the keeper's: seen last */
    _Atomic uint64_t *word, *sum;              /* per page; the sum is of the generation's bytes */
    _Atomic uint32_t *size;                    /* per page: as it was put */
    edm_event_t answered[EDM_REPLICAS_EVENTS]; /* who waits for jobs waits on one of these */
    _Atomic uint32_t next_event;
    edm_hist answers;                          /* times of the members asked first */
    pthread_t keeper;
    int keeping;
    edm_event_t wake;
    _Atomic int stop;
    uint8_t *copies; /* the keeper's: a batch of pages */
    _Atomic uint64_t gets, puts, dels, errors, bytes_in, bytes_out, kept, skipped, resynced, asked, hedges, hedges_won;
} edm_replicas;

/* What a reader saw of a page before it asked. */
typedef struct edm_replica_view {
    uint64_t word, sum;
} edm_replica_view;

static inline uint64_t edm_version(uint64_t word) { return word >> 16; }
static inline uint64_t edm_generation(uint64_t word) { return (edm_version(word) + 1) >> 1; }
static inline uint8_t edm_writing(uint64_t word) { return (uint8_t)(word >> 8); }
static inline uint8_t edm_current(uint64_t word) { return (uint8_t)word; }
static inline int edm_held(uint64_t word) { return (int)(edm_version(word) & 1); }

/* Replaces the word, and counts the pages that are kept. 0: it was another one, which `seen` holds now. */
int edm_word_swap(edm_replicas *r, uint64_t page, uint64_t *seen, uint64_t next);
/* A write of the page on member m ended. */
void edm_wrote(edm_replicas *r, uint32_t m, uint64_t page, uint64_t generation, int ok);
/* What an answer tells of the member itself. */
void edm_judge(edm_replicas *r, uint32_t m, int error, uint64_t begun_ns, uint64_t deadline_ns);
/* Until when a member is waited for: an equal share of the time that is left for each of `turns`, and no
 * longer than `patience`. */
uint64_t edm_share(const edm_replicas *r, uint64_t deadline_ns, uint32_t turns);
edm_event_t *edm_replicas_event(edm_replicas *r);

/* replicas_read.c */
int edm_replicas_get(edm_replicas *r, edm_store_io *io, uint32_t n, uint64_t deadline_ns); /* a batch */
/* As a get of these generations only: from member m (how many pages it was asked for), or from all in turn. */
uint32_t edm_replicas_get_from(edm_replicas *r, uint32_t m, edm_store_io *io, uint32_t n, const edm_replica_view *view,
                               uint64_t deadline_ns);
int edm_replicas_get_in_turn(edm_replicas *r, edm_store_io *io, uint32_t n, const edm_replica_view *view,
                             uint64_t deadline_ns, int for_program);

/* replicas_keeper.c */
int edm_replicas_keep(edm_replicas *r);
void edm_replicas_unkeep(edm_replicas *r);

#endif
