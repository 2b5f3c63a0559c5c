/* take_mmap.c: mmap and its family, as the program sees them, and open(2) for O_DIRECT.
 *
 * A private anonymous mapping that can be read and written, large enough and where the kernel chooses the
 * place, is a range of the region. The kernel never hears of what the program does to that range: it would
 * undo the registration with userfaultfd. Parts may be unmapped, mapped anew (MAP_FIXED), grown,
 * moved. A range that must not be read (PROT_NONE) would keep the runtime out, too: refused.
 */
#define _GNU_SOURCE
#include "preload.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#define PUBLIC __attribute__((visibility("default")))
enum { PLAIN = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK, RW = PROT_READ | PROT_WRITE };

static void *kernel_map(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

static int fail(int error) {
    errno = error;
    return -1;
}

/* Does [at, at + bytes) lie in the region: wholly (1), not at all (0), in part (-1)? */
static int within(const void *at, size_t bytes) {
    uintptr_t start = (uintptr_t)at, end = start + bytes;
    if (end < start) end = UINTPTR_MAX;
    if (end <= edm_program.start || start >= edm_program.end) return 0;
    return start >= edm_program.start && end <= edm_program.end ? 1 : -1;
}

/* The content of whole pages is given up. */
static int forget(void *at, size_t bytes) {
    edm_inside++;
    int error = edm_region_discard(edm_program.region, edm_page_of(at), (uint32_t)edm_pages_for(bytes));
    edm_inside--;
    return error ? fail(-error) : 0;
}

/* MAP_FIXED over a part of the region. */
static void *map_anew(void *at, size_t bytes, int flags, int fd) {
    if (within(at, bytes) < 0 || fd >= 0 || !(flags & MAP_ANONYMOUS) || !(flags & MAP_PRIVATE)) {
        edm_say("mmap(MAP_FIXED) of something else over paged memory: refused (EINVAL)");
        errno = EINVAL;
        return MAP_FAILED;
    }
    return forget(at, bytes) ? MAP_FAILED : at;
}

PUBLIC void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    int fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    if (fixed && edm_program.active && !edm_inside && within(at, bytes)) {
        if (flags & MAP_FIXED_NOREPLACE) {
            errno = EEXIST;
            return MAP_FAILED;
        }
        return map_anew(at, bytes, flags, fd);
    }
    int plain = protection == RW && !(flags & ~PLAIN) && (flags & MAP_PRIVATE) && (flags & MAP_ANONYMOUS);
    void *p = plain && edm_may_page(bytes) ? edm_piece(bytes, 0) : NULL;
    if (p) return p;
    p = kernel_map(at, bytes, protection, flags, fd, offset);
    return plain && p != MAP_FAILED ? edm_left_out(p, bytes) : p;
}

PUBLIC void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return mmap(at, bytes, protection, flags, fd, offset);
}

PUBLIC int munmap(void *at, size_t bytes) {
    int in = edm_program.active ? within(at, bytes) : 0;
    if (!in) return (int)syscall(SYS_munmap, at, bytes);
    if (in < 0 || (uintptr_t)at & 4095 || !bytes) return fail(EINVAL);
    edm_piece_back(edm_page_of(at), (uint32_t)edm_pages_for(bytes));
    return 0;
}

/* Grown or moved: in place where there is room behind it, else copied. */
static void *move(void *at, uint32_t have, size_t bytes, int flags) {
    size_t want = edm_pages_for(bytes);
    uint32_t first = edm_page_of(at);
    if (want <= have) {
        if (want < have) edm_piece_back(first + (uint32_t)want, have - (uint32_t)want);
        return at;
    }
    if (edm_ranges_extend(first, have, want - have)) return at;
    void *to = MAP_FAILED;
    if (flags & MREMAP_MAYMOVE) {
        to = edm_piece(bytes, 0);
        if (!to) to = edm_left_out(kernel_map(NULL, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), bytes);
    } else {
        errno = ENOMEM;
    }
    if (to == MAP_FAILED) return to;
    memcpy(to, at, (size_t)have << 12);
    edm_piece_back(first, have);
    return to;
}

PUBLIC void *mremap(void *at, size_t had, size_t bytes, int flags, ...) {
    va_list list;
    va_start(list, flags);
    void *to = flags & MREMAP_FIXED ? va_arg(list, void *) : NULL;
    va_end(list);
    int in = edm_program.active ? within(at, had) : 0, onto = edm_program.active && to ? within(to, bytes) : 0;
    if (!in && !onto) return (void *)syscall(SYS_mremap, at, had, bytes, flags, to);
    if (in < 0 || onto || (flags & ~MREMAP_MAYMOVE) || !had || !bytes) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    return move(at, (uint32_t)edm_pages_for(had), bytes, flags);
}

PUBLIC int madvise(void *at, size_t bytes, int advice) {
    int in = edm_program.active ? within(at, bytes) : 0;
    if (!in) return (int)syscall(SYS_madvise, at, bytes, advice);
    if (in < 0 || (uintptr_t)at & 4095) return fail(EINVAL);
    uint32_t first = edm_page_of(at), n = (uint32_t)edm_pages_for(bytes);
    edm_region *r = edm_program.region;
    int error = 0;
    edm_inside++;
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE: error = edm_region_discard(r, first, n); break;
    case MADV_WILLNEED: edm_region_willneed(r, first, n); break; /* a wish, like the next ones */
    case MADV_RANDOM: edm_region_advise(r, first, n, 1); break;
    case MADV_NORMAL:
    case MADV_SEQUENTIAL: edm_region_advise(r, first, n, 0); break;
    case MADV_PAGEOUT:
    case MADV_COLD: edm_region_evict(r, first, n); break;
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTFORK:
    case MADV_DODUMP:
    case MADV_DONTDUMP: break; /* as it is, or no matter */
    default: error = -EINVAL;
    }
    edm_inside--;
    return error ? fail(-error) : 0;
}

PUBLIC int mprotect(void *at, size_t bytes, int protection) {
    int in = edm_program.active ? within(at, bytes) : 0;
    if (in && (in < 0 || !(protection & PROT_READ))) {
        edm_say("mprotect(PROT_NONE) of paged memory: refused (EACCES)");
        return fail(EACCES);
    }
    return (int)syscall(SYS_mprotect, at, bytes, protection);
}

/* A device that writes into a page by itself is not seen by the runtime, which may be taking that page
 * away: what it wrote would be lost. Programs that ask for O_DIRECT know file systems without. */
static int direct(int flags) {
    if (!(flags & O_DIRECT) || !edm_program.active || edm_inside) return 0;
    edm_say("O_DIRECT would read and write paged memory behind our back: refused (EINVAL)");
    return 1;
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    return direct(flags) ? fail(EINVAL) : (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(mode, flags) \
    mode_t mode = 0; \
    va_list list; \
    va_start(list, flags); \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) mode = va_arg(list, mode_t); \
    va_end(list)

PUBLIC int open(const char *path, int flags, ...) {
    MODE(mode, flags);
    return open_at(AT_FDCWD, path, flags, mode);
}
PUBLIC int open64(const char *path, int flags, ...) {
    MODE(mode, flags);
    return open_at(AT_FDCWD, path, flags, mode);
}
PUBLIC int openat(int folder, const char *path, int flags, ...) {
    MODE(mode, flags);
    return open_at(folder, path, flags, mode);
}
PUBLIC int openat64(int folder, const char *path, int flags, ...) {
    MODE(mode, flags);
    return open_at(folder, path, flags, mode);
}

/* Ends without the destructors. */
_Noreturn PUBLIC void _exit(int status) {
    edm_report();
    for (;;) syscall(SYS_exit_group, status);
}
_Noreturn PUBLIC void _Exit(int status) { _exit(status); }
