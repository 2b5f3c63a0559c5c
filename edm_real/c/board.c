/* board.c: see board.h. */
#define _GNU_SOURCE
#include "board.h"
#include "region.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { VERSION = 1, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
static const char MAGIC[8] = "EDMTOP";

_Static_assert(sizeof((edm_figures){0}.latency) == EDM_HIST_BUCKETS * sizeof(uint32_t), "buckets");

struct shared { /* what the memfd holds */
    char magic[8];
    uint32_t version, size;
    _Atomic uint32_t asked, told; /* futexes: numbers of questions */
    _Atomic uint32_t writing;     /* odd while the figures change */
    edm_figures figures;
};

struct edm_board {
    edm_region *region;
    struct shared *shared;
    int fd;
    _Atomic int stop;
    pthread_t thread;
    edm_figures now;
};

/* Not the private futexes of sync.h: another process waits, or wakes. */
static void wait_for(_Atomic uint32_t *word, uint32_t while_it_is, const struct timespec *timeout) {
    syscall(SYS_futex, word, FUTEX_WAIT, while_it_is, timeout, NULL, 0);
}
static void wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0); }

void edm_figures_of(edm_region *r, edm_figures *f) {
    f->page_size = r->page_size;
    f->faults_mode = (uint32_t)r->monitor;
    f->has_lpet = (uint32_t)r->has_lpet;
    edm_region_stats(r, &f->policy, &f->runtime, &f->store);
    edm_lock_take(&r->lock);
    f->config = *edm_config_of(r->pager);
    f->config.limit = edm_limit_now(r->pager);
    edm_lock_give(&r->lock);
    f->now_ns = edm_now_ns();
    f->latency_sum = r->latency.sum;
    f->latency_max = r->latency.max;
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++)
        f->latency[i] = atomic_load_explicit(&r->latency.at[i], memory_order_relaxed);
}

static void *answer(void *board) {
    edm_board *b = board;
    struct shared *s = b->shared;
    while (!b->stop) {
        uint32_t asked = s->asked;
        if (asked == s->told) {
            wait_for(&s->asked, asked, NULL);
            continue;
        }
        edm_figures_of(b->region, &b->now);
        atomic_fetch_add(&s->writing, 1); /* readers that copy meanwhile copy again */
        s->figures = b->now;
        atomic_fetch_add(&s->writing, 1);
        s->told = asked;
        wake(&s->told);
    }
    return NULL;
}

static void copy_text(char *to, size_t size, const char *from) {
    size_t n = strlen(from);
    memcpy(to, from, n < size ? n : size - 1);
}

static int make(edm_board *b) {
    b->fd = memfd_create("edm-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (b->fd < 0 || fchmod(b->fd, 0600) || ftruncate(b->fd, sizeof *b->shared) || fcntl(b->fd, F_ADD_SEALS, SEALS))
        return -errno;
    void *at = mmap(NULL, sizeof *b->shared, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
    if (at == MAP_FAILED) return -errno;
    b->shared = at;
    memcpy(b->shared->magic, MAGIC, sizeof MAGIC);
    b->shared->version = VERSION;
    b->shared->size = sizeof *b->shared;
    return edm_thread_start(&b->thread, answer, b);
}

static void give_back(edm_board *b) {
    if (b->shared) munmap(b->shared, sizeof *b->shared);
    if (b->fd >= 0) close(b->fd);
    free(b);
}

int edm_board_open(edm_region *r, const char *name, const char *url) {
    edm_board *b = calloc(1, sizeof *b);
    if (!b) return -ENOMEM;
    b->region = r;
    b->now.pid = (uint32_t)getpid();
    copy_text(b->now.name, sizeof b->now.name, name);
    copy_text(b->now.url, sizeof b->now.url, url);
    int error = make(b);
    if (error) give_back(b);
    else r->board = b;
    return error;
}

int edm_board_fd(const edm_region *r) { return r->board ? r->board->fd : -1; }

/* A reader may have left `asked` at any value: the thread is woken by one that it has not seen. */
void edm_board_close(edm_board *b) {
    if (!b) return;
    b->stop = 1;
    atomic_fetch_add(&b->shared->asked, 1);
    wake(&b->shared->asked);
    pthread_join(b->thread, NULL);
    memset(b->shared->magic, 0, sizeof MAGIC); /* no later reader waits for an answer */
    b->shared->told = b->shared->asked;        /* nor one that waits now: its figures are the last ones */
    wake(&b->shared->told);
    give_back(b);
}

/* ---- the reader's side, in another process ---- */

static int wait_for_answer(struct shared *s, uint32_t ticket, uint64_t give_up) {
    for (;;) {
        uint32_t told = s->told;
        if ((int32_t)(told - ticket) >= 0) return 0;
        uint64_t now = edm_now_ns();
        if (now >= give_up) return -ETIMEDOUT;
        uint64_t left = give_up - now;
        wait_for(&s->told, told, &(struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)});
    }
}

static int copy_out(struct shared *s, uint64_t give_up, edm_figures *out) {
    for (;;) {
        uint32_t before = s->writing;
        *out = s->figures;
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) && s->writing == before) break;
        if (edm_now_ns() >= give_up) return -ETIMEDOUT;
    }
    out->name[sizeof out->name - 1] = out->url[sizeof out->url - 1] = 0; /* it is another process's text */
    out->config.evict[EDM_NAME_MAX - 1] = out->config.prefetch[EDM_NAME_MAX - 1] = 0;
    return 0;
}

int edm_board_ask(int fd, uint32_t timeout_ms, edm_figures *out) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS); /* or its owner could cut it under our hands */
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) || st.st_size != (off_t)sizeof(struct shared))
        return -EPROTO;
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED) return -errno;
    int error = -EPROTO;
    if (!memcmp(s->magic, MAGIC, sizeof MAGIC) && s->version == VERSION && s->size == sizeof *s) {
        uint64_t give_up = edm_now_ns() + (uint64_t)timeout_ms * 1000000u;
        uint32_t ticket = atomic_fetch_add(&s->asked, 1) + 1;
        wake(&s->asked);
        error = wait_for_answer(s, ticket, give_up);
        if (!error) error = copy_out(s, give_up, out);
    }
    munmap(s, sizeof *s);
    return error;
}

void edm_board_latency(const edm_figures *now, const edm_figures *before, edm_latency *out) {
    edm_hist h = {0};
    h.max = now->latency_max;
    h.sum = now->latency_sum - (before ? before->latency_sum : 0);
    for (uint32_t i = 0; i < EDM_HIST_BUCKETS; i++) h.at[i] = now->latency[i] - (before ? before->latency[i] : 0);
    edm_hist_summary(&h, out);
}
