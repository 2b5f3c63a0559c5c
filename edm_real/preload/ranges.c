/* ranges.c: which of the region's pages are given out.
 *
 * Free extents are in lists by the power of two below their length; both ends of one know its length, so
 * that what comes back is joined with its neighbours. Nothing is kept of what is given out: any part
 * of it may come back. All records are beside the region: looking at them faults nowhere.
 */
#include "preload.h"

#include <sys/mman.h>

enum { CLASSES = 32, LOOKS = 16 };

static struct {
    edm_lock lock;
    uint32_t pages, head[CLASSES];
    uint32_t *next, *prev; /* of an extent's first page */
    uint32_t *length;      /* of its first and last page; 0 everywhere else */
    uint64_t used, most;   /* pages */
} free_;

uint32_t *edm_block_pages;

static int class_of(uint32_t n) { return 31 - __builtin_clz(n); }

int edm_ranges_open(uint32_t pages) {
    size_t bytes = (size_t)pages * 4 * sizeof(uint32_t);
    uint32_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return -ENOMEM;
    free_.next = at;
    free_.prev = at + pages;
    free_.length = at + 2 * (size_t)pages;
    edm_block_pages = at + 3 * (size_t)pages;
    free_.pages = pages;
    for (int c = 0; c < CLASSES; c++) free_.head[c] = EDM_NO_RANGE;
    free_.used = pages;
    edm_ranges_give(0, pages);
    return 0;
}

static void link_in(uint32_t first, uint32_t n) {
    uint32_t *head = &free_.head[class_of(n)];
    free_.length[first] = free_.length[first + n - 1] = n;
    free_.next[first] = *head;
    free_.prev[first] = EDM_NO_RANGE;
    if (*head != EDM_NO_RANGE) free_.prev[*head] = first;
    *head = first;
}

static uint32_t link_out(uint32_t first) {
    uint32_t n = free_.length[first], next = free_.next[first], prev = free_.prev[first];
    if (prev != EDM_NO_RANGE) free_.next[prev] = next;
    else free_.head[class_of(n)] = next;
    if (next != EDM_NO_RANGE) free_.prev[next] = prev;
    free_.length[first] = free_.length[first + n - 1] = 0;
    return n;
}

/* An extent of at least n pages: the first that is seen among a few of its class, or any larger. */
static uint32_t find(uint32_t n) {
    uint32_t at = free_.head[class_of(n)];
    for (int i = 0; i < LOOKS && at != EDM_NO_RANGE; i++, at = free_.next[at])
        if (free_.length[at] >= n) return at;
    for (int c = class_of(n) + 1; c < CLASSES; c++)
        if (free_.head[c] != EDM_NO_RANGE) return free_.head[c];
    return EDM_NO_RANGE;
}

static void count(uint64_t pages) {
    free_.used += pages;
    if (free_.used > free_.most) free_.most = free_.used;
}

uint32_t edm_ranges_take(size_t pages, size_t align) {
    if (!pages || pages + align > free_.pages) return EDM_NO_RANGE;
    uint32_t n = (uint32_t)pages, a = align > 1 ? (uint32_t)align : 1;
    edm_lock_take(&free_.lock);
    uint32_t at = find(n + a - 1);
    if (at != EDM_NO_RANGE) {
        uint32_t length = link_out(at), skip = (uint32_t)(-((edm_program.start >> 12) + at) & (a - 1));
        if (skip) link_in(at, skip);
        if (length > skip + n) link_in(at + skip + n, length - skip - n);
        at += skip;
        count(n);
    }
    edm_lock_give(&free_.lock);
    return at;
}

int edm_ranges_extend(uint32_t first, uint32_t pages, size_t more) {
    uint32_t at = first + pages;
    int done = 0;
    edm_lock_take(&free_.lock);
    if (at < free_.pages && free_.length[at] >= more && free_.length[at]) {
        uint32_t length = link_out(at);
        if (length > more) link_in(at + (uint32_t)more, length - (uint32_t)more);
        count(more);
        done = 1;
    }
    edm_lock_give(&free_.lock);
    return done;
}

void edm_ranges_give(uint32_t first, uint32_t n) {
    edm_lock_take(&free_.lock);
    free_.used -= n;
    if (first && free_.length[first - 1]) {
        uint32_t before = free_.length[first - 1];
        first -= before;
        n += link_out(first);
    }
    if (first + n < free_.pages && free_.length[first + n]) n += link_out(first + n);
    link_in(first, n);
    edm_lock_give(&free_.lock);
}

uint64_t edm_ranges_most(void) { return free_.most; }
