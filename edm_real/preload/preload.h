/* preload.h: the library that `python -m edm_real run` preloads into a program it knows nothing of.
 *
 * Before main() one region is opened, in monitor mode, so that system calls into it work. Calls of
 * malloc's and mmap's families are taken over: what they ask for in large pieces comes from the region
 * (ranges.c), all else goes on to the C library and the kernel. There is no Python here.
 *
 * The runtime itself must never use paged memory: a handler thread that faulted would wait for itself.
 * Its own calls are bound to the C library when this is linked (--wrap, bare.c), and whatever libraries
 * it uses ask for is theirs while `edm_inside` is set: in all of its threads, and around calls into it.
 */
#ifndef EDM_PRELOAD_H
#define EDM_PRELOAD_H

#include "region.h"
#include "report.h"

#include <stddef.h>

struct edm_program {
    edm_region *region;
    uintptr_t start, end;   /* the region's memory; kept in a forked child, where it is not mapped */
    size_t least;
    int pid;                /* the process that opened it */
    _Atomic int active;     /* 0 before it is open, and in a forked child */
    _Atomic uint64_t left_out;
};
extern struct edm_program edm_program;
extern __thread int edm_inside __attribute__((tls_model("initial-exec")));

/* May this thread be given paged memory just now? */
static inline int edm_may_page(size_t bytes) {
    return bytes >= edm_program.least && !edm_inside &&
           atomic_load_explicit(&edm_program.active, memory_order_acquire);
}
static inline int edm_is_paged(const void *p) {
    return (uintptr_t)p >= edm_program.start && (uintptr_t)p < edm_program.end;
}
static inline uint32_t edm_page_of(const void *p) { return (uint32_t)(((uintptr_t)p - edm_program.start) >> 12); }
static inline void *edm_page_at(uint32_t page) { return (void *)(edm_program.start + ((uintptr_t)page << 12)); }
static inline size_t edm_pages_for(size_t bytes) { return (bytes >> 12) + ((bytes & 4095) != 0); }

/* ranges.c: which pages of the region are given out. EDM_NO_RANGE: there is no such room. */
#define EDM_NO_RANGE UINT32_MAX
int edm_ranges_open(uint32_t pages);
uint32_t edm_ranges_take(size_t pages, size_t align); /* align: in pages, a power of two */
int edm_ranges_extend(uint32_t first, uint32_t pages, size_t more); /* 1: the pages behind it are its own now */
void edm_ranges_give(uint32_t first, uint32_t pages); /* their content must be discarded */
uint64_t edm_ranges_most(void);
extern uint32_t *edm_block_pages; /* of malloc's blocks, by their first page; 0: none begins there */

/* Paged memory for a piece of `bytes`, all zeros; NULL: no room. */
void *edm_piece(size_t bytes, size_t align);
void *edm_left_out(void *p, size_t bytes); /* p; counts what was got elsewhere instead */
void edm_piece_back(uint32_t first, uint32_t pages); /* discards and gives back */
void edm_say(const char *text); /* a line on stderr, by write(2) */
void edm_report(void);          /* once; only the process that opened the region */

#endif
