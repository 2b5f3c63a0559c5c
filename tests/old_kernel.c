/* old_kernel.c: preloaded (LD_PRELOAD), it makes the C library answer as an older or narrower kernel would.
 *
 * EDM_OLD_KERNEL names what there is not, separated by commas:
 *     madvise     process_madvise(MADV_DONTNEED): EINVAL, as before Linux 6.13
 *     pidfd       pidfd_open and process_madvise: ENOSYS
 *     vmsplice    EPERM, as under a strict seccomp filter
 *     pipes       pipes for pages: ENFILE
 *     bigpipes    a pipe's size cannot be set, and is one page: beyond the user's share of pipe memory
 *     poison      UFFD_FEATURE_POISON and UFFDIO_POISON, as before 6.6
 *     features    all userfaultfd features later than 5.11
 *     device      /dev/userfaultfd: ENOENT, as before 6.1
 *     kernel      userfaultfd but for UFFD_USER_MODE_ONLY: EPERM, and no device: an ordinary user
 *     protect     setting write-protection: ENOMEM (lifting it works)
 * What it was asked for and refused is counted: old_kernel_refusals().
 */
#define _GNU_SOURCE
#include "uffd.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long refusals;
long old_kernel_refusals(void) { return refusals; }

static int lacks(const char *what) {
    const char *all = getenv("EDM_OLD_KERNEL"), *at = all ? strstr(all, what) : NULL;
    return at && (at == all || at[-1] == ',') && (!at[strlen(what)] || at[strlen(what)] == ',');
}

static int refuse(int error) {
    refusals++;
    errno = error;
    return -1;
}

#define NEXT(name) \
    ({ \
        static __typeof__(&name) next; \
        if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
        next; \
    })

long syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_process_madvise && lacks("madvise")) return refuse(EINVAL);
    if ((number == SYS_pidfd_open || number == SYS_process_madvise) && lacks("pidfd")) return refuse(ENOSYS);
    if (number == SYS_userfaultfd && lacks("kernel") && !(a[0] & UFFD_USER_MODE_ONLY)) return refuse(EPERM);
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t vmsplice(int fd, const struct iovec *v, size_t n, unsigned flags) {
    return lacks("vmsplice") ? refuse(EPERM) : NEXT(vmsplice)(fd, v, n, flags);
}

int pipe2(int fd[2], int flags) {
    return lacks("pipes") && flags & O_NONBLOCK ? refuse(ENFILE) : NEXT(pipe2)(fd, flags);
}

int fcntl(int fd, int what, ...) {
    va_list list;
    va_start(list, what);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (what != F_SETPIPE_SZ || !lacks("bigpipes")) return NEXT(fcntl)(fd, what, argument);
    NEXT(fcntl)(fd, F_SETPIPE_SZ, (void *)4096);
    return refuse(EPERM);
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (!strcmp(path, "/dev/userfaultfd") && (lacks("device") || lacks("kernel"))) return refuse(ENOENT);
    return NEXT(open)(path, flags, mode);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    unsigned long hidden = lacks("features") ? ~0x1fful : lacks("poison") ? ~(unsigned long)(UFFD_FEATURE_POISON - 1) : 0;
    if (request == UFFDIO_WRITEPROTECT && lacks("protect") &&
        ((struct uffdio_writeprotect *)argument)->mode & UFFDIO_WRITEPROTECT_MODE_WP) return refuse(ENOMEM);
    if (!hidden) return NEXT(ioctl)(fd, request, argument);
    if (request == UFFDIO_POISON) return refuse(EINVAL);
    struct uffdio_api *api = argument;
    if (request == UFFDIO_API && api->features & hidden) return refuse(EINVAL);
    int answer = NEXT(ioctl)(fd, request, argument);
    if (request == UFFDIO_API && !answer) {
        api->features &= ~hidden;
        refusals++;
    }
    return answer;
}
