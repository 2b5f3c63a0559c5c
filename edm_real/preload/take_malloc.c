/* take_malloc.c: malloc and its family, as the program sees them. Large blocks are whole pages of the region. */
#define _GNU_SOURCE
#include "preload.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static size_t (*libc_usable)(void *);

__attribute__((constructor(101))) static void prepare(void) {
    libc_usable = (size_t(*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
}

static void *block(size_t bytes, size_t align) {
    void *p = edm_piece(bytes, align);
    if (p) edm_block_pages[edm_page_of(p)] = (uint32_t)edm_pages_for(bytes);
    return p;
}

static uint32_t size_of(const void *p) {
    uint32_t n = (uintptr_t)p & 4095 ? 0 : edm_block_pages[edm_page_of(p)];
    if (n) return n;
    edm_say("free() or realloc() of a pointer that no malloc() gave, or twice");
    abort();
}

static void back(void *p) {
    uint32_t first = edm_page_of(p), n = size_of(p);
    edm_block_pages[first] = 0;
    edm_piece_back(first, n);
}

PUBLIC void *malloc(size_t bytes) {
    void *p = edm_may_page(bytes) ? block(bytes, 0) : NULL;
    return p ? p : edm_left_out(__libc_malloc(bytes), bytes);
}

PUBLIC void *calloc(size_t n, size_t size) {
    size_t bytes;
    void *p = !__builtin_mul_overflow(n, size, &bytes) && edm_may_page(bytes) ? block(bytes, 0) : NULL;
    return p ? p : edm_left_out(__libc_calloc(n, size), n * size);
}

PUBLIC void free(void *p) {
    if (!edm_is_paged(p)) __libc_free(p);
    else if (edm_program.active) back(p); /* a forked child has nothing to give back */
}

/* A paged block to another size. */
static void *resize(void *p, size_t bytes) {
    uint32_t first = edm_page_of(p), have = size_of(p);
    size_t want = edm_pages_for(bytes);
    if (bytes >= edm_program.least && want <= have) {
        edm_block_pages[first] = (uint32_t)want;
        if (want < have) edm_piece_back(first + (uint32_t)want, have - (uint32_t)want);
        return p;
    }
    if (want > have && edm_ranges_extend(first, have, want - have)) {
        edm_block_pages[first] = (uint32_t)want;
        return p;
    }
    void *to = malloc(bytes);
    if (!to) return NULL;
    memcpy(to, p, want < have ? bytes : (size_t)have << 12);
    back(p);
    return to;
}

PUBLIC void *realloc(void *p, size_t bytes) {
    if (!p) return malloc(bytes);
    if (edm_is_paged(p)) {
        if (bytes) return resize(p, bytes);
        free(p);
        return NULL;
    }
    void *to = edm_may_page(bytes) && libc_usable ? block(bytes, 0) : NULL;
    if (!to) return edm_left_out(__libc_realloc(p, bytes), bytes);
    size_t had = libc_usable(p);
    memcpy(to, p, had < bytes ? had : bytes);
    __libc_free(p);
    return to;
}

PUBLIC void *reallocarray(void *p, size_t n, size_t size) {
    size_t bytes;
    if (!__builtin_mul_overflow(n, size, &bytes)) return realloc(p, bytes);
    errno = ENOMEM;
    return NULL;
}

PUBLIC void *memalign(size_t align, size_t bytes) {
    int power = align && !(align & (align - 1));
    void *p = power && edm_may_page(bytes) ? block(bytes, align) : NULL;
    return p ? p : edm_left_out(__libc_memalign(align, bytes), bytes);
}

PUBLIC void *aligned_alloc(size_t align, size_t bytes) { return memalign(align, bytes); }
PUBLIC void *valloc(size_t bytes) { return memalign(4096, bytes); }
PUBLIC void *pvalloc(size_t bytes) { return memalign(4096, edm_pages_for(bytes) << 12); }

PUBLIC int posix_memalign(void **out, size_t align, size_t bytes) {
    if (!align || align % sizeof(void *) || (align & (align - 1))) return EINVAL;
    int saved = errno;
    void *p = memalign(align, bytes);
    errno = saved;
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

PUBLIC size_t malloc_usable_size(void *p) {
    if (p && edm_is_paged(p)) return (size_t)size_of(p) << 12;
    return p && libc_usable ? libc_usable(p) : 0;
}
