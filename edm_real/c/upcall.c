/* upcall.c: the SIGBUS handler, and the registry of regions it looks addresses up in.
 *
 * With UFFD_FEATURE_SIGBUS the kernel turns a fault into SIGBUS for the faulting thread, and
 * the handler resolves it there. Addresses that are no region's go on to whoever handled
 * SIGBUS before. The registry is this project's one global: a signal handler has no argument.
 * A handler looks it up without a lock; a region that is being closed waits for those inside.
 *
 * The handler runs on the thread's own stack (not SA_ONSTACK: alternate stacks, where there are
 * any, are sized for a message and an exit).
 */
#define _GNU_SOURCE
#include "region.h"

#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { REGIONS_MAX = 4096 };

static struct {
    edm_lock lock; /* for attaching and detaching */
    _Atomic uint32_t used; /* entries ever used */
    uint32_t attached; /* (lock) */
    struct sigaction before;
    struct edm_entry {
        _Atomic uintptr_t start, end;
        _Atomic(edm_region *) region;
        _Atomic uint32_t inside; /* handlers at work on it */
    } at[REGIONS_MAX];
} registry;

static __thread sigjmp_buf *guard __attribute__((tls_model("initial-exec")));

void edm_guard_set(sigjmp_buf *where) { guard = where; }

static struct edm_entry *enter(uintptr_t address) {
    uint32_t n = atomic_load_explicit(&registry.used, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++) {
        struct edm_entry *e = &registry.at[i];
        if (address < atomic_load_explicit(&e->start, memory_order_relaxed) ||
            address >= atomic_load_explicit(&e->end, memory_order_relaxed)) continue;
        atomic_fetch_add(&e->inside, 1);
        edm_region *r = atomic_load(&e->region);
        if (r && address - (uintptr_t)r->memory < r->bytes) return e;
        atomic_fetch_sub(&e->inside, 1);
    }
    return NULL;
}

static int is_write(const void *context) {
#if defined(__x86_64__)
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context; /* a first write then takes two faults: missing, write-protected */
    return 0;
#endif
}

/* A handler that was put over ours, and that ours was put over in turn, passes on to us: then nobody
 * is left to ask. */
static __thread const void *passing __attribute__((tls_model("initial-exec")));

static void pass_on(int number, siginfo_t *info, void *context) {
    const struct sigaction *before = &registry.before;
    const void *outer = passing;
    int in_a_circle = outer && outer == info->si_addr;
    passing = info->si_addr;
    if (before->sa_flags & SA_SIGINFO && !in_a_circle) {
        before->sa_sigaction(number, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN && !in_a_circle) {
        before->sa_handler(number);
    } else { /* the access is tried again, and ends the process as it would have */
        struct sigaction plain = {.sa_handler = SIG_DFL};
        sigaction(number, &plain, NULL);
    }
    passing = outer;
}

void edm_region_speaks(edm_region *r, const char *store) { snprintf(r->named, sizeof r->named, "%s", store); }

/* One line for each failure: whoever handles the signal may touch the page again. */
static void tell(edm_region *r, uint32_t page) {
    uint64_t failures = r->count.lost_pages + r->count.no_room;
    char line[400];
    if (!*r->named || atomic_exchange(&r->told, failures) == failures) return;
    edm_lock_take(&r->lock);
    int state = edm_page_state(r->pager, page);
    edm_lock_give(&r->lock);
    /* Under monitor the poison wakes us before the handler has told the pager. */
    int last = r->count.lost_pages && r->count.lost_page == page;
    int lost = last || state == EDM_POISONED || state == EDM_FETCHING;
    int error = -(lost ? r->count.lost_error : r->count.writeback_error);
    const char *why = lost && !last ? "it could not be had"
                      : error == EBADMSG ? "its bytes are not those that were stored" : strerror(error);
    int n = lost ? snprintf(line, sizeof line, "edm_real: page %u is lost: store %s: %s; an access to it is SIGBUS\n", page,
                            r->named, why)
                 : snprintf(line, sizeof line, "edm_real: no room in local memory for page %u: store %s refused pages until the "
                            "deadline: %s\n", page, r->named, why);
    ssize_t wrote = write(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    (void)wrote;
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    int saved = errno, error = -EFAULT;
    struct edm_entry *e = enter((uintptr_t)info->si_addr);
    if (e) {
        edm_region *r = e->region;
        uint32_t page = (uint32_t)(((uintptr_t)info->si_addr - (uintptr_t)r->memory) >> r->shift);
        if (!r->monitor) error = edm_region_fault(r, page, is_write(context));
        if (info->si_code == BUS_MCEERR_AR) error = -EFAULT; /* a broken frame does not get better by trying again */
        if (EDM_UNLIKELY(error) && !guard) tell(r, page);
        atomic_fetch_sub(&e->inside, 1);
    }
    errno = saved;
    if (!error) return;
    if (e && guard) siglongjmp(*guard, 1);
    pass_on(number, info, context);
}

static int install_handler(void) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};
    /* Other handlers might touch paged memory while a lock is held. Those that end the
     * process, or tell of a bug, get through. */
    static const int through[] = {SIGINT, SIGTERM, SIGQUIT, SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGTRAP};
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof through / sizeof *through; i++) sigdelset(&action.sa_mask, through[i]);
    return sigaction(SIGBUS, &action, &registry.before) ? -errno : 0;
}

int edm_upcall_attach(edm_region *r) {
    int error = 0;
    edm_lock_take(&registry.lock);
    uint32_t i = 0;
    while (i < REGIONS_MAX && registry.at[i].region) i++;
    if (i == REGIONS_MAX) error = -EMFILE;
    else if (!registry.attached) error = install_handler();
    if (!error) {
        struct edm_entry *e = &registry.at[i];
        registry.attached++;
        e->start = (uintptr_t)r->memory;
        e->end = (uintptr_t)r->memory + r->bytes;
        e->region = r;
        if (i >= registry.used) registry.used = i + 1;
    }
    edm_lock_give(&registry.lock);
    return error;
}

void edm_upcall_detach(edm_region *r) {
    edm_lock_take(&registry.lock);
    for (uint32_t i = 0; i < registry.used; i++) {
        struct edm_entry *e = &registry.at[i];
        if (e->region != r) continue;
        e->region = NULL;
        e->start = e->end = 0;
        while (e->inside) edm_relax();
        struct sigaction now;
        /* Restored only where it is still ours: somebody may have put theirs on top. */
        if (--registry.attached == 0 && !sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == on_sigbus)
            sigaction(SIGBUS, &registry.before, NULL);
        break;
    }
    edm_lock_give(&registry.lock);
}

int edm_thread_start(pthread_t *thread, void *(*main)(void *), void *arg) {
    sigset_t most, before;
    sigfillset(&most);
    sigdelset(&most, SIGBUS); /* synchronous ones must not be blocked: the kernel would end the process */
    sigdelset(&most, SIGSEGV);
    sigdelset(&most, SIGILL);
    sigdelset(&most, SIGFPE);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    int error = pthread_create(thread, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}
