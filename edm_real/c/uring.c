/* uring.c: see uring.h. */
#include "uring.h"

#include "store.h"

#include <errno.h>

#ifdef EDM_HAVE_URING
#include <liburing.h>
#include <stdlib.h>

struct edm_uring {
    struct io_uring ring;
    int broken;
};

int edm_uring_open(edm_uring **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return -ENOMEM;
    int error = io_uring_queue_init(EDM_URING_DEPTH, &(*out)->ring, 0);
    if (!error) return 0;
    free(*out);
    *out = NULL;
    return error;
}

void edm_uring_close(edm_uring *u) {
    if (!u) return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

/* What the kernel has not taken by now it will not take: those get the error, and the ring is left alone. */
static uint32_t give_up(edm_uring *u, edm_uring_io *io, uint32_t sent, uint32_t n, int error) {
    u->broken = 1;
    for (uint32_t i = sent; i < n; i++) io[i].result = error;
    return sent;
}

void edm_uring_transfer(edm_uring *u, int fd, int writing, edm_uring_io *io, uint32_t n) {
    uint32_t sent = 0, done = 0;
    if (u->broken) n = give_up(u, io, 0, n, -EIO);
    for (uint32_t i = 0; i < n; i++) {
        struct io_uring_sqe *e = io_uring_get_sqe(&u->ring);
        if (writing) io_uring_prep_write(e, fd, io[i].data, io[i].size, io[i].offset);
        else io_uring_prep_read(e, fd, io[i].data, io[i].size, io[i].offset);
        io_uring_sqe_set_data64(e, i);
    }
    while (done < n) {
        struct io_uring_cqe *c;
        int more = sent < n ? io_uring_submit_and_wait(&u->ring, n - done) : io_uring_wait_cqe(&u->ring, &c);
        if (sent < n && more > 0) sent += (uint32_t)more;
        else if (sent < n && more < 0 && more != -EINTR && more != -EAGAIN && more != -EBUSY) n = give_up(u, io, sent, n, more);
        while (!io_uring_peek_cqe(&u->ring, &c)) {
            io[io_uring_cqe_get_data64(c)].result = c->res;
            io_uring_cqe_seen(&u->ring, c);
            done++;
        }
    }
}
#else
int edm_uring_open(edm_uring **out) {
    *out = NULL;
    return -ENOSYS;
}

void edm_uring_close(edm_uring *u) { (void)u; }

void edm_uring_transfer(edm_uring *u, int fd, int writing, edm_uring_io *io, uint32_t n) {
    (void)u, (void)fd, (void)writing;
    for (uint32_t i = 0; i < n; i++) io[i].result = -ENOSYS;
}
#endif

int edm_store_uring(void) {
    edm_uring *u;
    int error = edm_uring_open(&u);
    edm_uring_close(u);
    return error;
}
