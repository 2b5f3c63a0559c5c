/* patience.h: how long something is still waited for, by a clock that is not fooled.
 *
 * A program that is stopped (Ctrl-Z, a debugger) or whose virtual machine is paused comes back with its deadlines
 * past, and has asked for nothing meanwhile. Given up then, pages would be lost that the store has. So what is left is
 * spent by the steps that wait: one that took longer than it can have waited was not running, and half
 * of what was left stays. It ends all the same: after some ten of them.
 */
#ifndef EDM_PATIENCE_H
#define EDM_PATIENCE_H

#include "sync.h"

#define EDM_LATE_NS 50000000u /* a loaded machine wakes a thread sooner */
#define EDM_LEAST_NS 1000000u

/* Was a step that waits for most_ns at most, and began at began_ns, stopped meanwhile? */
static inline int edm_was_stopped(uint64_t began_ns, uint64_t most_ns) {
    return edm_now_ns() - began_ns > most_ns + most_ns / 16 + EDM_LATE_NS;
}

static inline void edm_patience_spend(uint64_t *left_ns, uint64_t began_ns, uint64_t most_ns) {
    uint64_t took = edm_now_ns() - began_ns, half = *left_ns / 2;
    if (edm_was_stopped(began_ns, most_ns)) took = most_ns < half ? most_ns : half;
    *left_ns = took + EDM_LEAST_NS < *left_ns ? *left_ns - took : 0;
}

#endif
