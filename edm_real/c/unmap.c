/* unmap.c: takes pages out of the program's sight and keeps their last bytes.
 *
 *     vmsplice(pipe, pages)                 the pipe takes a reference to each frame
 *     process_madvise(pages, DONTNEED)      unmapped, one TLB flush for the whole batch
 *     readv(pipe, buffers or the store)     the bytes, and the frames are freed
 *
 * When the second call returns, no core can write to the frames any more: what the third
 * reads is final (docs/measurements.md has the test, and the costs). Where splicing is not to
 * be had, or a page is larger than a pipe:
 *
 *     UFFDIO_WRITEPROTECT, memcpy, DONTNEED   a writer meanwhile faults, and waits: the page is HELD
 *
 * Pages that are write-protected all along (clean ones under exact tracking) need no copy.
 */
#define _GNU_SOURCE
#include "region.h"

#include "checksum.h"

#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

enum { WANTED_BYTES = 1 << 20 };

void edm_pipes_open(edm_region *r) {
    for (uint32_t i = 0; i < EDM_PIPES; i++) {
        struct edm_pipe *p = &r->pipe[i];
        if (pipe2(p->fd, O_CLOEXEC | O_NONBLOCK)) {
            p->fd[0] = p->fd[1] = -1;
            continue;
        }
        /* Refused beyond the user's share of pipe memory: a small pipe does, in more steps. */
        if (fcntl(p->fd[1], F_SETPIPE_SZ, WANTED_BYTES) < 0) p->bytes = (uint32_t)fcntl(p->fd[1], F_GETPIPE_SZ);
        else p->bytes = WANTED_BYTES;
    }
}

void edm_pipes_close(edm_region *r) {
    for (uint32_t i = 0; i < EDM_PIPES; i++)
        for (int end = 0; end < 2; end++)
            if (r->pipe[i].fd[end] >= 0) close(r->pipe[i].fd[end]);
}

static struct edm_pipe *try_pipe(edm_region *r) {
    for (uint32_t i = 0; i < EDM_PIPES; i++)
        if (edm_lock_try(&r->pipe[i].lock)) return &r->pipe[i];
    return NULL;
}

static struct edm_pipe *take_pipe(edm_region *r) {
    struct edm_pipe *p = try_pipe(r);
    if (p) return p;
    edm_lock_take(&r->pipe[EDM_PIPES - 1].lock);
    return &r->pipe[EDM_PIPES - 1];
}

/* The bytes of pages that are in the pipe. */
static void read_pages(edm_region *r, int fd, uint8_t *const *to, uint32_t n) {
    struct iovec run[EDM_TOLD];
    uint32_t runs = 0, at = 0;
    for (uint32_t i = 0; i < n; i++) edm_look_up(to[i]);
    for (uint32_t i = 0; i < n; i++)
        if (i && to[i] == to[i - 1] + r->page_size) run[runs - 1].iov_len += r->page_size;
        else run[runs++] = (struct iovec){to[i], r->page_size};
    while (at < runs) { /* all the bytes are there: a short read is a detail of the pipe */
        ssize_t got = readv(fd, run + at, (int)(runs - at));
        for (size_t left = got > 0 ? (size_t)got : 0; left && at < runs;) {
            size_t part = left < run[at].iov_len ? left : run[at].iov_len;
            run[at].iov_base = (uint8_t *)run[at].iov_base + part;
            run[at].iov_len -= part;
            left -= part;
            at += !run[at].iov_len;
        }
    }
}

/* The checksums of what has just come, while it is in the caches: a marked page is written back much later. */
static void sum_pages(edm_region *r, const uint32_t *pages, uint8_t *const *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) r->stashed_sum[pages[i]] = edm_checksum(to[i], r->page_size);
}

static void tell(const edm_out *o, uint32_t first, uint32_t n) {
    if (o->told) o->told(o->ctx, first, n);
}

/* Some at a time, so that the caches still hold them when they are summed, and who waits for one need not wait for all. */
static void take_in(edm_region *r, int fd, const edm_out *o, uint32_t first, uint32_t n) {
    uint64_t read = 0, sum = 0;
    for (uint32_t end = first + n, some; first < end; first += some) {
        some = end - first < EDM_TOLD ? end - first : EDM_TOLD;
        uint64_t begin = edm_span_begin(r);
        read_pages(r, fd, o->to + first, some);
        uint64_t middle = edm_span_begin(r);
        sum_pages(r, o->pages + first, o->to + first, some);
        read += middle - begin;
        sum += edm_span_begin(r) - middle;
        tell(o, first, some);
    }
    edm_span_n(r, EDM_SPAN_READ, n, edm_span_begin(r) - read);
    edm_span_n(r, EDM_SPAN_SUM, n, edm_span_begin(r) - sum);
}

/* How many of the pages, from the first on, the pipe took; 0: refused, errno says why. */
static uint32_t fill_pipe(edm_region *r, struct edm_pipe *p, const uint32_t *pages, uint32_t n) {
    struct iovec run[EDM_CMDS_MAX];
    uint64_t mark = edm_span_begin(r);
    uint32_t most = p->bytes >> r->shift;
    ssize_t taken = vmsplice(p->fd[1], run, edm_runs(r, r->memory, pages, n < most ? n : most, run), 0);
    if (taken <= 0) return 0;
    edm_span_n(r, EDM_SPAN_SPLICE, (uint32_t)((size_t)taken >> r->shift), mark);
    return (uint32_t)((size_t)taken >> r->shift);
}

static void copy_protected(edm_region *r, const uint32_t *pages, uint8_t *const *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) memcpy(to[i], edm_at(r, pages[i]), r->page_size);
    sum_pages(r, pages, to, n);
}

static void by_protection(edm_region *r, const edm_out *o, uint32_t first, uint32_t n) {
    struct iovec run[EDM_CMDS_MAX];
    uint32_t runs = edm_runs(r, r->memory, o->pages + first, n, run);
    for (uint32_t i = 0; i < runs; i++) edm_uffd_protect(r->uffd, run[i].iov_base, run[i].iov_len, 1, 0);
    copy_protected(r, o->pages + first, o->to + first, n);
    edm_forget(r, o->pages + first, n, NULL, 0);
    tell(o, first, n);
}

/* Pages out of sight, and with them the clean ones, and buffers nobody needs, if these did not go already. */
static void forget_with(edm_region *r, const edm_out *o, uint32_t first, uint32_t n, int *riders) {
    const uint32_t *pages = o->pages + first;
    uint32_t both[EDM_CMDS_MAX], m = *riders ? o->m : 0;
    for (uint32_t i = 0; m && i < n; i++) both[i] = pages[i];
    for (uint32_t i = 0; i < m; i++) both[n + i] = o->clean[i];
    if (m) edm_sort(both, n + m);
    edm_forget(r, m ? both : pages, n + m, o->free, *riders ? o->f : 0);
    if (m) tell(o, 0, 0);
    *riders = 0;
}

/* The next pages through one pipe, or two, in one call that unmaps them (riders NULL: they stay mapped). How many; 0:
 * refused, errno says why. */
static uint32_t through_pipes(edm_region *r, const edm_out *o, uint32_t at, int *riders) {
    struct edm_pipe *p = take_pipe(r), *more = NULL;
    const uint32_t *pages = o->pages + at;
    uint32_t n = o->n - at, first = p->fd[1] < 0 ? (errno = EBADF, 0) : fill_pipe(r, p, pages, n), second = 0;
    if (first && first < n) more = try_pipe(r);
    if (more && more->fd[1] >= 0) second = fill_pipe(r, more, pages + first, n - first);
    if (first) {
        if (riders) forget_with(r, o, at, first + second, riders);
        take_in(r, p->fd[0], o, at, first);
    }
    edm_lock_give(&p->lock);
    if (second) take_in(r, more->fd[0], o, at + first, second);
    if (more) edm_lock_give(&more->lock);
    return first + second;
}

/* How many pages it did; fewer than all: splicing is not to be had here (a sandbox). */
static uint32_t by_pipe(edm_region *r, const edm_out *o, int *riders) {
    uint32_t done = 0;
    while (done < o->n) {
        uint32_t part = through_pipes(r, o, done, riders);
        if (!part && errno != EFAULT) break;
        if (!part) { /* the program gave this page back behind our back: zeros */
            memset(o->to[done], 0, r->page_size);
            sum_pages(r, o->pages + done, o->to + done, part = 1);
            tell(o, done, part);
        }
        done += part;
    }
    return done;
}

void edm_unmap(edm_region *r, const edm_out *o) {
    int riders = o->m + o->f > 0;
    uint32_t done = 0;
    if (r->splices && o->n) {
        done = by_pipe(r, o, &riders);
        if (done < o->n) r->splices = 0;
    }
    if (riders) forget_with(r, o, 0, 0, &riders);
    if (done < o->n) by_protection(r, o, done, o->n - done);
}

void edm_copy_out(edm_region *r, const uint32_t *pages, uint8_t *const *to, uint32_t n) {
    const edm_out o = {.pages = pages, .to = to, .n = n};
    uint32_t done = 0;
    if (r->splices) {
        done = by_pipe(r, &o, NULL);
        if (done < n) r->splices = 0;
    }
    if (done < n) copy_protected(r, pages + done, to + done, n - done);
}
