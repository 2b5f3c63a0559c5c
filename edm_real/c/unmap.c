/* unmap.c: takes pages out of the program's sight and keeps their last bytes.
 *
 *     vmsplice(pipe, pages)                 the pipe takes a reference to each frame
 *     process_madvise(pages, DONTNEED)      unmapped, one TLB flush for the whole batch
 *     readv(pipe, buffers)                  the bytes, and the frames are freed
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

static struct edm_pipe *take_pipe(edm_region *r) {
    for (uint32_t i = 0; i < EDM_PIPES - 1; i++)
        if (edm_lock_try(&r->pipe[i].lock)) return &r->pipe[i];
    edm_lock_take(&r->pipe[EDM_PIPES - 1].lock);
    return &r->pipe[EDM_PIPES - 1];
}

static void read_buffers(edm_region *r, int fd, const uint32_t *buffers, uint32_t n) {
    struct iovec run[EDM_CMDS_MAX];
    uint32_t runs = edm_runs(r, r->stash.bytes, buffers, n, run), at = 0;
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

/* How many of the pages, from the first on, the pipe took; 0: refused, errno says why. */
static uint32_t fill_pipe(edm_region *r, struct edm_pipe *p, const uint32_t *pages, uint32_t n) {
    struct iovec run[EDM_CMDS_MAX];
    uint32_t most = p->bytes >> r->shift;
    ssize_t taken = vmsplice(p->fd[1], run, edm_runs(r, r->memory, pages, n < most ? n : most, run), 0);
    return taken > 0 ? (uint32_t)((size_t)taken >> r->shift) : 0;
}

static void by_protection(edm_region *r, const uint32_t *pages, const uint32_t *buffers, uint32_t n) {
    struct iovec run[EDM_CMDS_MAX];
    uint32_t runs = edm_runs(r, r->memory, pages, n, run);
    for (uint32_t i = 0; i < runs; i++) edm_uffd_protect(r->uffd, run[i].iov_base, run[i].iov_len, 1, 0);
    for (uint32_t i = 0; i < n; i++) memcpy(edm_buffer_at(r, buffers[i]), edm_at(r, pages[i]), r->page_size);
    edm_forget(r, r->memory, pages, n);
}

/* Unmaps pages[0..n) and clean[0..m) with one call. */
static void forget_both(edm_region *r, const uint32_t *pages, uint32_t n, const uint32_t *clean, uint32_t m) {
    uint32_t both[EDM_CMDS_MAX];
    if (m) {
        for (uint32_t i = 0; i < n; i++) both[i] = pages[i];
        for (uint32_t i = 0; i < m; i++) both[n + i] = clean[i];
        edm_sort(both, n + m);
        pages = both;
    }
    if (n + m) edm_forget(r, r->memory, pages, n + m);
}

/* How many pages it did, clean ones with the first of them; fewer than n: splicing is not to be
 * had here (a sandbox). */
static uint32_t by_pipe(edm_region *r, const uint32_t *pages, const uint32_t *buffers, uint32_t n,
                        const uint32_t *clean, uint32_t m) {
    struct edm_pipe *p = take_pipe(r);
    uint32_t done = 0;
    while (done < n) {
        uint64_t mark = edm_span_begin(r);
        uint32_t part = p->fd[1] < 0 ? 0 : fill_pipe(r, p, pages + done, n - done);
        if (part) {
            edm_span_n(r, EDM_SPAN_SPLICE, part, mark);
            forget_both(r, pages + done, part, clean, m);
            m = 0;
            mark = edm_span_begin(r);
            read_buffers(r, p->fd[0], buffers + done, part);
            edm_span_n(r, EDM_SPAN_READ, part, mark);
        } else if (p->fd[1] >= 0 && errno == EFAULT) { /* the program gave this page back behind our back: zeros */
            memset(edm_buffer_at(r, buffers[done]), 0, r->page_size);
            part = 1;
        } else {
            break;
        }
        done += part;
    }
    edm_lock_give(&p->lock);
    forget_both(r, NULL, 0, clean, m);
    return done;
}

void edm_unmap(edm_region *r, const uint32_t *pages, const uint32_t *buffers, uint32_t n, const uint32_t *clean,
               uint32_t m) {
    uint32_t done = 0;
    if (r->splices && n) {
        done = by_pipe(r, pages, buffers, n, clean, m);
        m = 0;
        if (done < n) r->splices = 0;
    }
    forget_both(r, NULL, 0, clean, m);
    if (done < n) by_protection(r, pages + done, buffers + done, n - done);
}
