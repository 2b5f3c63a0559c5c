/* bare.c: what the runtime calls instead of what is taken over from the program (ld's --wrap binds
 * its calls to these), and how its threads are made. */
#define _GNU_SOURCE
#include "preload.h"

#include <stdlib.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *arg);

void *__wrap_malloc(size_t n) { return __libc_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return __libc_realloc(p, n); }
void __wrap_free(void *p) { __libc_free(p); }

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
int __wrap_munmap(void *at, size_t bytes) { return (int)syscall(SYS_munmap, at, bytes); }
int __wrap_madvise(void *at, size_t bytes, int advice) { return (int)syscall(SYS_madvise, at, bytes, advice); }
int __wrap_mprotect(void *at, size_t bytes, int protection) { return (int)syscall(SYS_mprotect, at, bytes, protection); }

struct start {
    void *(*main)(void *);
    void *arg;
};

static void *begin(void *start) {
    struct start s = *(struct start *)start;
    edm_inside = 1; /* for good: it is the runtime's */
    __libc_free(start);
    return s.main(s.arg);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *arg) {
    struct start *s = __libc_malloc(sizeof *s);
    if (!s) return ENOMEM;
    *s = (struct start){main, arg};
    int error = __real_pthread_create(thread, attributes, begin, s);
    if (error) __libc_free(s);
    return error;
}
