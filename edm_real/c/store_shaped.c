/* store_shaped.c: `shaped:p50=120us,p99=400us,gbit=10,URL`: a network, and its failures, in
 * front of any store.
 *
 * A call takes one round trip: a lognormal through p50 and p99, and the time its pages occupy
 * the link, one call after the other (gbit; pages that are put go one way, those that are got the other).
 * Then the inner store is asked. What may go wrong, each with a probability, drawn anew for every call
 * or page:
 *
 *   loss   a message is lost; it comes after a retransmission more (200 ms, TCP's least)
 *   hang   the call gets no answer before its deadline
 *   fail   a page's answer is -EIO, and the inner store is not asked
 *   flip   one bit of a page that is got is wrong
 *
 * `seed` fixes the draws: the n-th draw is a function of seed and n. Threads share them, so
 * which call gets which draw depends on their order. Waits shorter than EDM_SPIN_NS are spun:
 * the kernel's timers are 50 us late.
 */
#include "stores.h"

#include "checksum.h"
#include "driver.h"
#include "sync.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRANSMIT_NS 200000000u
#define P99_SIGMA 2.3263478740408408 /* the normal distribution's 99th percentile */

struct shaped {
    edm_store base;
    edm_store *inner;
    uint64_t p50_ns, p99_ns, seed;
    double gbit, loss, fail, flip, hang, sigma;
    _Atomic uint64_t draws, errors, up_free_ns, down_free_ns; /* when the last call's pages are through */
};

static uint64_t draw(struct shaped *s) {
    uint64_t n = atomic_fetch_add_explicit(&s->draws, 1, memory_order_relaxed);
    return edm_mix64(s->seed * 0x9e3779b97f4a7c15u + edm_mix64(n + 1));
}

static double uniform(struct shaped *s) { return ((double)(draw(s) >> 11) + 0.5) * 0x1p-53; } /* within (0, 1) */

static int happens(struct shaped *s, double share) { return share > 0 && uniform(s) < share; }

static double round_trip_ns(struct shaped *s) {
    if (s->sigma == 0) return (double)s->p50_ns;
    double normal = sqrt(-2 * log(uniform(s))) * cos(2 * 3.14159265358979323846 * uniform(s)); /* Box and Muller, 1958 */
    return (double)s->p50_ns * exp(s->sigma * normal);
}

/* When `bytes`, sent now, are through the link's one way. */
static uint64_t through(const struct shaped *s, _Atomic uint64_t *free_ns, uint64_t now, uint64_t bytes) {
    if (s->gbit == 0 || !bytes) return now;
    uint64_t wire = (uint64_t)((double)bytes * 8.0 / s->gbit), free = *free_ns, end;
    do end = (free > now ? free : now) + wire;
    while (!atomic_compare_exchange_weak(free_ns, &free, end));
    return end;
}

static void wait_until(uint64_t when) {
    for (uint64_t now = edm_now_ns(); now < when; now = edm_now_ns()) {
        uint64_t left = when - now;
        if (left > EDM_SPIN_NS) {
            left -= EDM_SPIN_NS / 2;
            struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
            nanosleep(&t, NULL);
        } else {
            edm_relax();
        }
    }
}

/* The way there and back. 0, or -ETIMEDOUT at the deadline (0: none is set). */
static int travel(struct shaped *s, uint64_t up, uint64_t down, uint64_t deadline_ns) {
    uint64_t now = edm_now_ns(), when = through(s, &s->up_free_ns, now, up);
    when = through(s, &s->down_free_ns, when, down) + (uint64_t)round_trip_ns(s);
    while (happens(s, s->loss)) when += RETRANSMIT_NS;
    int late = deadline_ns && (when > deadline_ns || happens(s, s->hang));
    wait_until(late ? deadline_ns : when);
    return late ? -ETIMEDOUT : 0;
}

typedef int (*call)(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns);

/* Pages that fail are not asked for; the others are, in runs. */
static int ask(struct shaped *s, call fn, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint64_t bytes = edm_io_bytes(&s->base, io, n);
    const edm_store_ops *inner = s->inner->ops;
    int error = travel(s, fn == inner->put ? bytes : 0, fn == inner->get ? bytes : 0, deadline_ns), failed = 0;
    for (uint32_t i = 0; i < n; i++) io[i].result = error ? error : happens(s, s->fail) ? -EIO : 0;
    for (uint32_t i = 0, run; i < n; i += run ? run : 1) {
        for (run = 0; i + run < n && !io[i + run].result; run++) {}
        if (run) fn(s->inner, io + i, run, deadline_ns);
    }
    for (uint32_t i = 0; i < n; i++) failed += io[i].result != 0;
    if (failed) s->errors += (uint64_t)failed;
    return -failed;
}

static int put(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct shaped *s = (struct shaped *)base;
    return ask(s, s->inner->ops->put, io, n, deadline_ns);
}

static int get(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct shaped *s = (struct shaped *)base;
    int failed = ask(s, s->inner->ops->get, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result || !happens(s, s->flip)) continue;
        uint64_t bit = draw(s) % (edm_io_size(base, &io[i]) * 8u);
        ((uint8_t *)io[i].data)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return failed;
}

static int del(edm_store *base, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct shaped *s = (struct shaped *)base;
    return ask(s, s->inner->ops->del, io, n, deadline_ns);
}

static int sync_inner(edm_store *base, uint64_t deadline_ns) {
    struct shaped *s = (struct shaped *)base;
    int error = travel(s, 0, 0, deadline_ns);
    return error ? error : s->inner->ops->sync(s->inner, deadline_ns);
}

/* The inner store's, and the errors made here. */
static void stats(edm_store *base, edm_store_stats *out) {
    struct shaped *s = (struct shaped *)base;
    s->inner->ops->stats(s->inner, out);
    out->errors = s->errors;
}

static void close_shaped(edm_store *base) {
    struct shaped *s = (struct shaped *)base;
    s->inner->ops->close(s->inner);
    free(s);
}

static const edm_store_ops ops = {"shaped", put, get, del, sync_inner, stats, .close = close_shaped};

static edm_store *open_shaped(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    struct shaped o = {.seed = 1};
    edm_url_option options[] = {{"p50", EDM_URL_TIME, &o.p50_ns},  {"p99", EDM_URL_TIME, &o.p99_ns},
                                {"gbit", EDM_URL_NUMBER, &o.gbit}, {"loss", EDM_URL_SHARE, &o.loss},
                                {"fail", EDM_URL_SHARE, &o.fail},  {"flip", EDM_URL_SHARE, &o.flip},
                                {"hang", EDM_URL_SHARE, &o.hang},  {"seed", EDM_URL_COUNT, &o.seed},
                                {0}};
    for (size_t n; (n = strcspn(rest, ",:+")), rest[n] == ','; rest += n + 1)
        if (edm_url_option_read(rest, n, options, "shaped", why, why_size)) return NULL;
    if (!o.p99_ns) o.p99_ns = o.p50_ns;
    if (o.p99_ns < o.p50_ns || (o.p99_ns && !o.p50_ns) || o.loss == 1) {
        snprintf(why, why_size, "store shaped: p99 must not be below p50, p50 not 0 then, and loss below 1");
        return NULL;
    }
    edm_store *inner = edm_store_open(rest, page_size, pages, why, why_size);
    if (!inner) return NULL;
    struct shaped *s = malloc(sizeof *s);
    if (!s) {
        inner->ops->close(inner);
        snprintf(why, why_size, "store shaped: out of memory");
        return NULL;
    }
    *s = o;
    s->inner = inner;
    s->sigma = s->p99_ns > s->p50_ns ? log((double)s->p99_ns / (double)s->p50_ns) / P99_SIGMA : 0;
    s->base = (edm_store){&ops, inner->caps | EDM_STORE_BLOCKING, page_size, pages};
    return &s->base;
}

const edm_store_kind edm_store_shaped = {"shaped:", "shaped:[p50=120us,p99=400us,gbit=10,fail=0.01,...,]URL", open_shaped};
