/* region.c: opening and closing a region. */
#define _GNU_SOURCE
#include "region.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

void edm_ability_of(edm_ability *out) {
    *out = (edm_ability){0};
    int fd = edm_uffd_open(0, 0, &out->access);
    if (fd < 0) {
        out->error = -fd;
        return;
    }
    close(fd);
    out->features = edm_uffd_features();
    out->upcall = (out->features & UFFD_FEATURE_SIGBUS) != 0;
    out->monitor = 1;
    out->kernel_faults = out->access != EDM_UFFD_USER_ONLY;
    out->poison = (out->features & UFFD_FEATURE_POISON) != 0;
    out->write_protect = (out->features & UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0;
}

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Paged memory: not for children (they would read zeros where pages are out), not in huge pages. */
static void *map_paged(size_t bytes) {
    void *p = map(bytes);
    if (!p) return NULL;
    madvise(p, bytes, MADV_NOHUGEPAGE); /* EINVAL on kernels without: nothing to avoid there */
    if (madvise(p, bytes, MADV_DONTFORK)) {
        munmap(p, bytes);
        return NULL;
    }
    return p;
}

static int refuse(char *why, size_t why_size, int error, const char *what) {
    if (why_size) snprintf(why, why_size, "%s: %s", what, strerror(-error));
    return error;
}

static int open_uffd(edm_region *r, const edm_region_config *c, char *why, size_t why_size) {
    uint64_t features = edm_uffd_features();
    uint64_t wanted = UFFD_FEATURE_PAGEFAULT_FLAG_WP | (r->monitor ? 0 : UFFD_FEATURE_SIGBUS);
    if (features && (features & wanted) != wanted) {
        if (why_size)
            snprintf(why, why_size, "userfaultfd: this kernel lacks %s",
                     features & UFFD_FEATURE_PAGEFAULT_FLAG_WP ? "SIGBUS mode; Linux 4.14 has it"
                                                               : "write-protection; Linux 5.7 has it");
        return -ENOSYS;
    }
    r->can_poison = (features & UFFD_FEATURE_POISON) != 0;
    uint64_t more = features & (UFFD_FEATURE_POISON | (r->monitor ? UFFD_FEATURE_THREAD_ID : 0));
    r->tells_thread = (more & UFFD_FEATURE_THREAD_ID) != 0;
    r->uffd = edm_uffd_open(wanted | more, c->kernel_faults, &r->access);
    return r->uffd < 0 ? refuse(why, why_size, r->uffd, "userfaultfd") : 0;
}

static int get_memory(edm_region *r) {
    struct edm_stash *s = &r->stash;
    s->count = r->pages + EDM_DRAIN;
    r->memory = map_paged(r->bytes);
    s->bytes = map_paged((size_t)s->count << r->shift);
    s->warm = map(s->count * sizeof *s->warm);
    s->cold = map(s->count * sizeof *s->cold);
    r->zeros = map(r->page_size);
    r->scratch = map((size_t)EDM_SCRATCHES * EDM_SCRATCH_PAGES << r->shift);
    r->sum = map(r->pages * sizeof *r->sum);
    r->stashed_sum = map(r->pages * sizeof *r->stashed_sum);
    r->buffer_of = map(r->pages * sizeof *r->buffer_of);
    r->log_buffer = map(EDM_LOG_RECS * sizeof *r->log_buffer);
    return r->memory && s->bytes && s->warm && s->cold && r->zeros && r->scratch && r->sum && r->stashed_sum && r->buffer_of &&
                   r->log_buffer
               ? 0 : -ENOMEM;
}

static void unmap(void *at, size_t bytes) {
    if (at) munmap(at, bytes);
}

/* Whatever was set up so far. Memory goes before the descriptor: closing that first would let
 * a thread that waits in a fault go on with zeros. */
static int tear_down(edm_region *r) {
    edm_board_close(r->board);
    r->stop = 1;
    edm_event_raise(&r->lpet_event);
    edm_event_raise(&r->room);
    if (r->lpet_running) pthread_join(r->lpet, NULL);
    edm_monitor_stop(r);
    if (r->attached) edm_upcall_detach(r);
    int error = edm_region_log(r, -1);
    unmap(r->memory, r->bytes);
    if (r->uffd >= 0) close(r->uffd);
    if (r->self >= 0) close(r->self);
    unmap(r->zeros, r->page_size);
    unmap(r->scratch, (size_t)EDM_SCRATCHES * EDM_SCRATCH_PAGES << r->shift);
    unmap(r->sum, r->pages * sizeof *r->sum);
    unmap(r->stashed_sum, r->pages * sizeof *r->stashed_sum);
    unmap(r->buffer_of, r->pages * sizeof *r->buffer_of);
    unmap(r->stash.bytes, (size_t)r->stash.count << r->shift);
    unmap(r->stash.warm, r->stash.count * sizeof *r->stash.warm);
    unmap(r->stash.cold, r->stash.count * sizeof *r->stash.cold);
    edm_pipes_close(r);
    edm_spans_free(r);
    unmap(r->log_buffer, EDM_LOG_RECS * sizeof *r->log_buffer);
    edm_pager_free(r->pager);
    if (r->store) r->store->ops->close(r->store);
    free(r);
    return error;
}

static int set_up(edm_region *r, const edm_region_config *c, char *why, size_t why_size) {
    int error;
    r->pager = edm_pager_new_with(&c->policy, c->evictor, c->evictor_ctx, c->prefetcher, c->prefetcher_ctx, why, why_size);
    if (!r->pager) return -EINVAL;
    if (r->page_size < 4096 || r->page_size > 2u << 20 || (r->page_size & (r->page_size - 1)))
        return refuse(why, why_size, -EINVAL, "page_size must be 4 KiB .. 2 MiB, a power of two");
    if (!r->store) return refuse(why, why_size, -EINVAL, "a region needs a store");
    if ((error = open_uffd(r, c, why, why_size))) return error;
    if ((error = get_memory(r))) return refuse(why, why_size, error, "memory for the region");
    if ((error = edm_uffd_register(r->uffd, r->memory, r->bytes)))
        return refuse(why, why_size, error, "UFFDIO_REGISTER");
    if ((error = edm_upcall_attach(r))) return refuse(why, why_size, error, "too many regions at once");
    r->attached = 1;
    if (r->monitor && (error = edm_monitor_start(r))) return refuse(why, why_size, error, "handler thread");
    if (r->has_lpet) {
        if ((error = edm_thread_start(&r->lpet, edm_lpet_main, r))) return refuse(why, why_size, error, "LPET thread");
        r->lpet_running = 1;
    }
    return 0;
}

edm_region *edm_region_open(const edm_region_config *c, edm_store *store, char *why, size_t why_size, int *error) {
    edm_region *r = calloc(1, sizeof *r);
    if (!r) {
        if (store) store->ops->close(store);
        *error = refuse(why, why_size, -ENOMEM, "memory for the region");
        return NULL;
    }
    r->store = store;
    r->pages = c->policy.pages;
    r->page_size = c->page_size;
    r->shift = (uint32_t)__builtin_ctz(c->page_size | 1u << 31);
    r->bytes = (size_t)r->pages << r->shift;
    r->monitor = c->faults == EDM_MONITOR;
    r->lockstep = c->lockstep;
    r->has_lpet = !c->lockstep && !c->no_lpet;
    r->handlers = c->handlers ? c->handlers : 1;
    if (r->handlers > EDM_HANDLERS_MAX) r->handlers = EDM_HANDLERS_MAX;
    r->deadline_ns = c->deadline_ns;
    r->full_ns = c->full_ns;
    r->stash.warm_most = c->policy.limit / 32 < EDM_WARM_MOST ? c->policy.limit / 32 : EDM_WARM_MOST;
    r->stash.slack = r->stash.warm_most / 2 > EDM_DRAIN ? r->stash.warm_most / 2 : EDM_DRAIN;
    r->splices = c->page_size == 4096; /* a larger page may not fit a pipe */
    edm_pipes_open(r);
    r->uffd = r->stop_pipe[0] = r->stop_pipe[1] = r->log_fd = -1;
    r->self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    *error = set_up(r, c, why, why_size);
    if (!*error) return r;
    tear_down(r);
    return NULL;
}

int edm_region_close(edm_region *r) { return tear_down(r); }
void *edm_region_memory(edm_region *r) { return r->memory; }
edm_pager *edm_region_pager(edm_region *r) { return r->pager; }
edm_store *edm_region_store(edm_region *r) { return r->store; }
void edm_region_hook(edm_region *r, edm_hook_fn hook, void *ctx) {
    if (hook) r->hook_ctx = ctx;
    __atomic_store_n(&r->hook, hook, __ATOMIC_RELEASE);
}
