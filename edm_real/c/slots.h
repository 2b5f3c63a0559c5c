/* slots.h: up to 32 of something that threads borrow (a compressor's memory, a connection), with
 * no allocation and no wait beyond a deadline.
 */
#ifndef EDM_SLOTS_H
#define EDM_SLOTS_H

#include "sync.h"

enum { EDM_SLOTS = 32 };

typedef struct edm_slots {
    _Atomic uint32_t taken; /* bit per slot */
    edm_event_t given;
} edm_slots;

/* The lowest free one (the others' memory stays cold), or -ETIMEDOUT. */
static inline int edm_slot_take(edm_slots *s, uint64_t deadline_ns) {
    for (;;) {
        uint32_t ticket = edm_event_ticket(&s->given), taken = atomic_load_explicit(&s->taken, memory_order_relaxed);
        if (taken != UINT32_MAX) {
            int which = __builtin_ctz(~taken);
            if (atomic_compare_exchange_weak_explicit(&s->taken, &taken, taken | 1u << which, memory_order_acquire,
                                                      memory_order_relaxed))
                return which;
            continue;
        }
        uint64_t now = edm_now_ns();
        if (now >= deadline_ns) return -ETIMEDOUT;
        edm_event_wait(&s->given, ticket, 100, deadline_ns - now);
    }
}

static inline void edm_slot_give(edm_slots *s, int which) {
    atomic_fetch_and_explicit(&s->taken, ~(1u << which), memory_order_release);
    edm_event_raise(&s->given);
}

#endif
