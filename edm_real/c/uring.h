/* uring.h: many reads or writes of one file with one system call, by io_uring where it was built in and the
 * kernel allows it. No call after edm_uring_open() allocates.
 */
#ifndef EDM_URING_H
#define EDM_URING_H

#include <stddef.h>
#include <stdint.h>

enum { EDM_URING_DEPTH = 64 };

typedef struct edm_uring edm_uring;

typedef struct edm_uring_io {
    void *data;
    uint64_t offset;
    uint32_t size;
    int32_t result; /* out: bytes or -errno */
} edm_uring_io;

/* 0 or -errno; -ENOSYS also where it was not built in, -EPERM where the machine's owner forbids it. */
int edm_uring_open(edm_uring **out);
void edm_uring_close(edm_uring *u); /* NULL is well */
/* At most EDM_URING_DEPTH, all of them ended when it returns. One thread at a time. */
void edm_uring_transfer(edm_uring *u, int fd, int writing, edm_uring_io *io, uint32_t n);

#endif
