/* sync.h: a lock, an event and a clock that may be used inside signal handlers.
 *
 * The lock is three-valued (Drepper, "Futexes are tricky", 2011): 0 free, 1 held, 2 held
 * and somebody may be asleep. It spins a little first: what it guards takes some hundred
 * nanoseconds.
 */
#ifndef EDM_SYNC_H
#define EDM_SYNC_H

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t edm_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void edm_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Sleeps while *word is `expected`, for timeout_ns at most. errno is kept. */
static inline void edm_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns) {
    int saved = errno;
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &t, NULL, 0);
    errno = saved;
}

static inline void edm_futex_wake(_Atomic uint32_t *word, int most) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, most, NULL, NULL, 0);
    errno = saved;
}

typedef struct edm_lock {
    _Atomic uint32_t word;
    _Atomic uint32_t spinning; /* threads that are about to have it */
} edm_lock;

static inline int edm_lock_try(edm_lock *l) {
    uint32_t seen = 0;
    return atomic_compare_exchange_strong_explicit(&l->word, &seen, 1, memory_order_acquire, memory_order_relaxed);
}

static inline int edm_lock_spin(edm_lock *l) {
    for (int i = 0; i < 1000; i++) {
        edm_relax();
        if (!atomic_load_explicit(&l->word, memory_order_relaxed) && edm_lock_try(l)) return 1;
    }
    return 0;
}

static inline void edm_lock_take(edm_lock *l) {
    if (edm_lock_try(l)) return;
    atomic_fetch_add_explicit(&l->spinning, 1, memory_order_relaxed);
    int taken = edm_lock_spin(l);
    atomic_fetch_sub_explicit(&l->spinning, 1, memory_order_relaxed);
    if (taken) return;
    while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0) edm_futex_wait(&l->word, 2, 1000000000u);
}

static inline void edm_lock_give(edm_lock *l) {
    if (atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2) edm_futex_wake(&l->word, 1);
}

/* For a holder with much to do: those who wait have it first. Giving and taking alone would not do: the
 * core that gives it is the quickest to take it again. */
static inline void edm_lock_pass(edm_lock *l) {
    if (!atomic_load_explicit(&l->spinning, memory_order_relaxed)) return;
    edm_lock_give(l);
    for (int i = 0; i < 100 && atomic_load_explicit(&l->spinning, memory_order_relaxed); i++) edm_relax();
    edm_lock_take(l);
}

/* An event: whoever waits reads a ticket first, looks whether there is something to wait
 * for, and then waits until the event was raised after the ticket was read. */
typedef struct edm_event_t {
    _Atomic uint32_t seq, waiters;
} edm_event_t;

static inline uint32_t edm_event_ticket(edm_event_t *e) { return atomic_load_explicit(&e->seq, memory_order_acquire); }

static inline void edm_event_raise(edm_event_t *e) {
    atomic_fetch_add(&e->seq, 1);
    if (atomic_load(&e->waiters)) edm_futex_wake(&e->seq, INT32_MAX);
}

/* Spins `spins` rounds, then sleeps, for timeout_ns at most. Whether it slept. */
static inline int edm_event_wait(edm_event_t *e, uint32_t ticket, int spins, uint64_t timeout_ns) {
    for (int i = 0; i < spins; i++) {
        if (edm_event_ticket(e) != ticket) return 0;
        edm_relax();
    }
    atomic_fetch_add(&e->waiters, 1);
    int sleeps = atomic_load(&e->seq) == ticket;
    if (sleeps) edm_futex_wait(&e->seq, ticket, timeout_ns);
    atomic_fetch_sub(&e->waiters, 1);
    return sleeps;
}

#endif
