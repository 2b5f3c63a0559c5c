/* uffd.h: userfaultfd: the kernel ABI this project needs, and its calls.
 *
 * Headers older than the running kernel (Debian 12's are Linux 6.1's) lack parts of the
 * ABI; what is missing is defined here and its sizes are asserted. What the kernel can do
 * is decided at run time from its answer to UFFDIO_API.
 *
 * The calls below are the one place where errnos of the ioctls are classified: EAGAIN
 * (something else held the page or the address space just then) is tried again here; all
 * others come back as -errno with their meaning beside each call. All are safe in signal
 * handlers.
 */
#ifndef EDM_UFFD_H
#define EDM_UFFD_H

#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdint.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFDIO_POISON
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
struct uffdio_poison {
    struct uffdio_range range;
    uint64_t mode;
    int64_t updated;
};
#endif
_Static_assert(sizeof(struct uffdio_copy) == 40, "struct uffdio_copy is 40 bytes");
_Static_assert(sizeof(struct uffdio_poison) == 32, "struct uffdio_poison is 32 bytes");
_Static_assert(sizeof(struct uffd_msg) == 32, "struct uffd_msg is 32 bytes");

/* How the descriptor was had. */
enum edm_uffd_access { EDM_UFFD_NONE = 0, EDM_UFFD_DEVICE = 1, EDM_UFFD_SYSCALL = 2, EDM_UFFD_USER_ONLY = 3 };

/* Opens a descriptor (device, full system call, user-mode-only; `kernel_faults` leaves the
 * last out) and agrees on `wanted` features. The descriptor, or -errno; `access` says how.
 * -EINVAL: the kernel lacks a wanted feature. */
int edm_uffd_open(uint64_t wanted, int kernel_faults, int *access);

/* All features of the running kernel, 0 if no descriptor can be had. */
uint64_t edm_uffd_features(void);

/* 0 or -errno. */
int edm_uffd_register(int fd, void *start, size_t bytes);
/* Installs pages with the bytes at `from`. -EEXIST: a page is there (nothing changed);
 * -ENOENT: no such mapping any more. flags: UFFDIO_COPY_MODE_*. */
int edm_uffd_copy(int fd, void *to, const void *from, size_t bytes, uint64_t flags);
/* Sets or lifts write-protection. */
int edm_uffd_protect(int fd, void *start, size_t bytes, int protect, int wake);
int edm_uffd_poison(int fd, void *start, size_t bytes);
int edm_uffd_wake(int fd, void *start, size_t bytes);

#endif
