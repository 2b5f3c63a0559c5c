/* uffd.c: opening userfaultfd and its ioctls. See uffd.h. */
#define _GNU_SOURCE
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 64 }; /* EAGAINs in a row before the processor is given away */

static int get_descriptor(int kernel_faults, int *access) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        close(device);
        *access = EDM_UFFD_DEVICE;
        if (fd >= 0) return fd;
    }
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    *access = EDM_UFFD_SYSCALL;
    if (fd >= 0 || kernel_faults) return fd >= 0 ? fd : -errno;
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    *access = EDM_UFFD_USER_ONLY;
    return fd >= 0 ? fd : -errno;
}

int edm_uffd_open(uint64_t wanted, int kernel_faults, int *access) {
    int fd = get_descriptor(kernel_faults, access);
    if (fd < 0) {
        *access = EDM_UFFD_NONE;
        return fd;
    }
    struct uffdio_api api = {.api = UFFD_API, .features = wanted};
    if (ioctl(fd, UFFDIO_API, &api)) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

uint64_t edm_uffd_features(void) {
    int access;
    int fd = get_descriptor(0, &access);
    struct uffdio_api api = {.api = UFFD_API, .features = 0};
    if (fd < 0) return 0;
    if (ioctl(fd, UFFDIO_API, &api)) api.features = 0;
    close(fd);
    return api.features;
}

int edm_uffd_register(int fd, void *start, size_t bytes) {
    struct uffdio_register r = {.range = {(uintptr_t)start, bytes},
                                .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
    return ioctl(fd, UFFDIO_REGISTER, &r) ? -errno : 0;
}

static void pause_after(int *tries) {
    if (++*tries % SPINS == 0) sched_yield();
}

int edm_uffd_copy(int fd, void *to, const void *from, size_t bytes, uint64_t flags) {
    uintptr_t dst = (uintptr_t)to, src = (uintptr_t)from;
    for (int tries = 0;;) {
        struct uffdio_copy c = {.dst = dst, .src = src, .len = bytes, .mode = flags};
        if (!ioctl(fd, UFFDIO_COPY, &c)) return 0;
        if (c.copy > 0) { /* stopped midway */
            dst += (uint64_t)c.copy;
            src += (uint64_t)c.copy;
            bytes -= (uint64_t)c.copy;
        }
        if (errno != EAGAIN) return -errno;
        pause_after(&tries);
    }
}

int edm_uffd_protect(int fd, void *start, size_t bytes, int protect, int wake) {
    struct uffdio_writeprotect w = {.range = {(uintptr_t)start, bytes},
                                    .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP
                                            : wake  ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE};
    for (int tries = 0; ioctl(fd, UFFDIO_WRITEPROTECT, &w);) {
        if (errno != EAGAIN) return -errno;
        pause_after(&tries);
    }
    return 0;
}

int edm_uffd_poison(int fd, void *start, size_t bytes) {
    struct uffdio_poison p = {.range = {(uintptr_t)start, bytes}};
    for (int tries = 0; ioctl(fd, UFFDIO_POISON, &p);) {
        if (errno != EAGAIN) return -errno;
        pause_after(&tries);
    }
    return 0;
}

int edm_uffd_wake(int fd, void *start, size_t bytes) {
    struct uffdio_range range = {(uintptr_t)start, bytes};
    return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}
