/* monitor.c: handler threads that read fault messages. The transparent mode: faults taken
 * inside of system calls are served too, and the program's signals are not touched.
 *
 * Waking a thread on another core costs several times what the fault itself does. A single handler leaves a thread that
 * faults alone to the near one (near.c). Else it follows one of the faulting threads to its core, and keeps that one there
 * while it wakes it, or the scheduler would move it to an idle core (docs/measurements.md): by the thread's mask, which the
 * program would see, and its new threads inherit, did it run meanwhile. So only where the handler may be real-time, which
 * keeps the thread from running until the mask is its own again.
 */
#define _GNU_SOURCE
#include "region.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STAT_BEFORE_CORE = 37 };

int edm_core_of(uint32_t tid) {
    char path[48], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    char *at = strrchr(text, ')'); /* the name may hold anything; 37 fields are between it and the core */
    for (int i = 0; at && i < STAT_BEFORE_CORE; i++) at = strchr(at + 1, ' ');
    return at ? atoi(at + 1) : -1;
}

/* The thread that the handler shares a core with. */
struct companion {
    pid_t tid;
    int core;
    cpu_set_t only; /* that core */
};

static void follow(struct companion *c, pid_t tid) {
    int now = edm_core_of((uint32_t)tid);
    cpu_set_t only;
    c->tid = tid;
    if (now < 0 || now >= CPU_SETSIZE || now == c->core) return;
    CPU_ZERO(&only);
    CPU_SET(now, &only);
    if (sched_setaffinity(0, sizeof only, &only)) return;
    c->only = only;
    c->core = now;
}

/* While it sleeps in its fault the thread may run on our core only; 0 if that is not to be had. `where`: for let_go(). */
static int keep_here(const struct companion *c, pid_t tid, cpu_set_t *where) {
    if (c->core < 0 || tid != c->tid || sched_getaffinity(tid, sizeof *where, where)) return 0;
    return CPU_ISSET(c->core, where) && CPU_COUNT(where) > 1 && !sched_setaffinity(tid, sizeof c->only, &c->only);
}

static void let_go(pid_t tid, const cpu_set_t *where) { sched_setaffinity(tid, sizeof *where, where); }

/* The signal that touching a poisoned page would be, where the kernel cannot poison. It ends the fault.
 * (BUS_ADRERR as its code is the kernel's to say; handlers look at the address.) */
static void raise_in(uint32_t tid, void *address) {
    siginfo_t info = {.si_signo = SIGBUS, .si_code = SI_QUEUE};
    info.si_addr = address;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGBUS, &info);
}

void edm_serve(edm_region *r, const struct uffd_msg *m, _Atomic uint32_t *steps) {
    if (m->event != UFFD_EVENT_PAGEFAULT) return;
    uintptr_t offset = (uintptr_t)m->arg.pagefault.address - (uintptr_t)r->memory;
    if (offset >= r->bytes) return; /* the stash: nobody's business there */
    int write = (m->arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
    uint32_t page = (uint32_t)(offset >> r->shift);
    ++*steps;
    int error = edm_region_fault(r, page, write);
    ++*steps;
    edm_let_go(r, page, error);
    if (error && !r->can_poison) raise_in(m->arg.pagefault.feat.ptid, (void *)(uintptr_t)m->arg.pagefault.address);
}

static void *handler_main(void *region) {
    edm_region *r = region;
    struct pollfd fds[2] = {{.fd = r->uffd, .events = POLLIN}, {.fd = r->stop_pipe[0], .events = POLLIN}};
    struct uffd_msg messages[EDM_MESSAGES];
    struct sched_param least = {.sched_priority = sched_get_priority_min(SCHED_FIFO)};
    struct companion companion = {.core = -1};
    cpu_set_t where, home;
    int chooses = r->tells_thread && r->handlers == 1 && !sched_getaffinity(0, sizeof home, &home) && CPU_COUNT(&home) > 1;
    int keeps = chooses && !sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &least);
    uint32_t until = 0, alone = 0;
    _Atomic uint32_t steps = 0;
    pid_t last = 0;
    edm_span_role(EDM_ROLE_HANDLER);
    prctl(PR_SET_NAME, "edm-handler");
    while (!r->stop) {
        ssize_t n = read(r->uffd, messages, sizeof messages);
        if (n <= 0) {
            poll(fds, 2, 1000);
            continue;
        }
        if (keeps && !until--) {
            until = EDM_FOLLOW;
            follow(&companion, (pid_t)messages[0].arg.pagefault.feat.ptid);
        }
        for (uint32_t i = 0; i < (size_t)n / sizeof *messages; i++) {
            pid_t tid = (pid_t)messages[i].arg.pagefault.feat.ptid;
            int kept = keep_here(&companion, tid, &where);
            alone = tid == last ? alone + 1 : 0;
            last = tid;
            edm_span_handles(tid == companion.tid);
            edm_serve(r, &messages[i], &steps);
            if (kept) let_go(tid, &where);
        }
        if (chooses && alone >= EDM_ALONE && edm_near_serves(r, last, &home)) alone = until = 0, companion.core = -1;
    }
    return NULL;
}

int edm_monitor_start(edm_region *r) {
    if (pipe2(r->stop_pipe, O_CLOEXEC)) return -errno;
    int error = r->handlers == 1 ? edm_thread_start(&r->near.thread, edm_near_main, r) : 0;
    if (error) return error;
    r->near.runs = r->handlers == 1;
    for (; r->handlers_running < r->handlers; r->handlers_running++) {
        error = edm_thread_start(&r->handler[r->handlers_running], handler_main, r);
        if (error) return error;
    }
    return 0;
}

void edm_monitor_stop(edm_region *r) {
    if (r->stop_pipe[1] < 0) return;
    ssize_t told = write(r->stop_pipe[1], "", 1);
    (void)told; /* the pipe is empty: it cannot fail for want of room */
    edm_event_raise(&r->near.begins);
    while (r->handlers_running) pthread_join(r->handler[--r->handlers_running], NULL);
    if (r->near.runs) pthread_join(r->near.thread, NULL);
    close(r->stop_pipe[0]);
    close(r->stop_pipe[1]);
}
