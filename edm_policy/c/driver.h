/* driver.h: how much a driver does at a time, and how long it waits: of the real one, and so of the simulator's, too.
 *
 * No decision about pages, but what two drivers must have alike for their runs to be comparable.
 */
#ifndef EDM_DRIVER_H
#define EDM_DRIVER_H

/* cffi-begin */
enum {
    EDM_DIRECT = 32,         /* evictions in a faulting thread's reclaim step */
    EDM_TOLD = 32,           /* pages whose bytes are read and told at a time, of a batch that was unmapped at once */
    EDM_PUT = 64,            /* pages stored at a time: who waits for room has it early */
    EDM_CHUNK = 4096,        /* references that a thread of a replay takes at a time */
    EDM_LOOK_NS = 25000,     /* LPET's shortest nap by the clock */
    EDM_STEADY_NS = 5000000, /* rings that come at this pace are steady: LPET sleeps by the clock */
    EDM_AGAIN_NS = 1000000,  /* where nothing could be chosen, LPET asks again after this, if not before */
    EDM_SPINS = 2000,        /* rounds that who waits for a page or for room spins before it sleeps */
    EDM_SPIN_NS = 150000,    /* a network's delay that is shorter is spun for, on the core */
    EDM_FOLLOW = 64,         /* reads of messages after which a single handler goes to the core of who faults then */
    EDM_ALONE = 32,          /* messages of one thread in a row: it faults alone, and the near handler serves it */
    EDM_BUCKETS = 64,        /* events that who waits for a page waits on: page * EDM_SCATTER (32 bits) / 2^32 of them */
};
#define EDM_SCATTER 2654435761 /* Knuth's multiplicative hashing */
/* cffi-end */

#endif
