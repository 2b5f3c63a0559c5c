/* stripes.h: the inside of `striped:`, for its files: store_striped.c (calls) and stripes_keeper.c (pages
 * that move, members that come back).
 *
 * What is known of a page is one word: the members that hold an old copy of it (16 bits), a counter of
 * changes (8), held (1: a put, a del or a move has the page), present (1), where it is (4). Who holds a
 * page may change where it is; whoever reads one asks where it is now, and asks again if it is not
 * there any more.
 */
#ifndef EDM_STRIPES_H
#define EDM_STRIPES_H

#include "lanes.h"
#include "members.h"
#include "ring.h"

#include <pthread.h>

enum { EDM_STRIPES_MAX = EDM_RING_UNITS, EDM_STRIPES_EVENTS = 16, EDM_NOWHERE = 255 };
enum { EDM_WHERE = 15, EDM_PRESENT = 16, EDM_STRIPE_HELD = 32, EDM_CHANGE = 1 << 8 };

typedef struct edm_stripes {
    edm_store base;
    uint32_t batch, threads;
    uint64_t patience_ns;                     /* a member that takes longer for a call is dead */
    pthread_mutex_t adding;                   /* one member at a time */
    _Atomic uint32_t members;
    edm_store *member[EDM_STRIPES_MAX];
    edm_lane *lane[EDM_STRIPES_MAX];          /* NULL: a call of this member never sleeps */
    edm_ring *rings[EDM_STRIPES_MAX + 1];     /* by the number of members; kept until the end */
    edm_ring *_Atomic ring;                   /* the last of them */
    _Atomic uint8_t dead[EDM_STRIPES_MAX];
    _Atomic uint64_t kept[EDM_STRIPES_MAX];   /* pages */
    _Atomic uint64_t full_until_ns[EDM_STRIPES_MAX]; /* no page moves there until then */
    _Atomic uint32_t *word;                   /* per page */
    _Atomic uint64_t *sum;                    /* per page: of its last bytes, for its holder */
    _Atomic uint32_t *size;                   /* per page: as it was put, for its holder */
    edm_event_t answered[EDM_STRIPES_EVENTS]; /* who waits for jobs waits on one of these */
    _Atomic uint32_t next_event;
    pthread_t keeper;
    int keeping;
    edm_event_t wake;
    _Atomic int stop, unsettled;              /* unsettled: pages are not where they belong, or have old copies */
    uint8_t *copies;                          /* the keeper's: a batch of pages */
    _Atomic uint64_t gets, puts, dels, errors, bytes_in, bytes_out, moved;
} edm_stripes;

static inline uint32_t edm_old_copies(uint32_t word) { return word >> 16; }
static inline uint32_t edm_where(uint32_t word) { return word & EDM_WHERE; }

/* Takes a page: 1. 0: somebody has it. */
int edm_stripe_hold(edm_stripes *s, uint64_t page);
void edm_stripe_release(edm_stripes *s, uint64_t page);
/* Of a held page: it is on member `at` now (EDM_NOWHERE: on none), and these have old copies. */
void edm_stripe_set(edm_stripes *s, uint64_t page, uint32_t at, uint32_t old_copies);

/* Calls each member for its pages, side by side: at[i] is io[i]'s, EDM_NOWHERE leaves it as it is. A member that
 * gives no answer is dead from then on, and its pages say -EHOSTDOWN. */
void edm_stripes_call(edm_stripes *s, enum edm_verb verb, edm_store_io *io, uint32_t n, const uint8_t *at,
                      uint64_t deadline_ns);

/* stripes_keeper.c */
int edm_stripes_keep(edm_stripes *s);
void edm_stripes_unkeep(edm_stripes *s);

#endif
