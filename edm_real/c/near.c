/* near.c: the near handler serves the faults of one thread on that thread's own core.
 *
 * Being woken on another core costs several times what a fault does, and the scheduler wakes a thread on an idle core
 * rather than on the one where its handler runs. A core that runs nothing but SCHED_IDLE threads counts as idle, though
 * (select_idle_sibling in kernel/sched/fair.c, Linux 5.4): so this handler is one, pinned to the core of the thread whose
 * faults it serves. It wakes it there, is preempted by it at once, and goes on when the next fault has put it to sleep.
 *
 * A SCHED_IDLE thread waits for whoever else wants the core, and whoever waits for what it holds waits with it. So it
 * serves only while one thread faults, in a row; LPET is kept off that core; and the plain handler (monitor.c) looks every
 * LOOK_NS whether it gets on. If not it becomes an ordinary thread until it is done (which wants CAP_SYS_NICE, or an
 * RLIMIT_NICE of 20: without, there is no near handler), and the plain one serves: for REST_NS after that; as long as several
 * threads fault; and where there were no faults for a while.
 */
#define _GNU_SOURCE
#include "region.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { LOOK_NS = 500000, REST_NS = 10000000, QUIET_LOOKS = 20, SLEEP_NS = 1000000000, POLL_MS = 1000 };

/* The near handler goes to the core of its thread. Whether that is another one. */
static int settle(struct edm_near *n) {
    int core = edm_core_of((uint32_t)n->tid);
    cpu_set_t only;
    if (core < 0 || core >= CPU_SETSIZE || core == n->core) return 0;
    CPU_ZERO(&only);
    CPU_SET(core, &only);
    if (sched_setaffinity(0, sizeof only, &only)) return 0;
    n->core = core;
    return 1;
}

static int be(pid_t tid, int policy) {
    struct sched_param none = {0};
    return sched_setscheduler(tid, policy, &none);
}

void *edm_near_main(void *region) {
    edm_region *r = region;
    struct edm_near *n = &r->near;
    struct pollfd fds[2] = {{.fd = r->uffd, .events = POLLIN}, {.fd = r->stop_pipe[0], .events = POLLIN}};
    struct uffd_msg messages[EDM_MESSAGES];
    uint32_t until = 0;
    edm_span_role(EDM_ROLE_HANDLER);
    prctl(PR_SET_NAME, "edm-near");
    if (be(0, SCHED_IDLE) || be(0, SCHED_OTHER)) return NULL;
    n->itself = (int)syscall(SYS_gettid);
    while (!r->stop) {
        uint32_t ticket = edm_event_ticket(&n->begins);
        if (!n->serves) {
            edm_event_wait(&n->begins, ticket, 0, SLEEP_NS);
            continue;
        }
        if (n->core < 0) be(0, SCHED_IDLE);
        if (n->core < 0 || !until--) {
            if (settle(n)) edm_event_raise(&n->ends);
            until = EDM_FOLLOW;
        }
        ssize_t got = read(r->uffd, messages, sizeof messages);
        if (got <= 0) {
            poll(fds, 2, POLL_MS);
            until = 0; /* it was awake before its thread slept: that one has probably been moved */
            continue;
        }
        for (uint32_t i = 0; i < (size_t)got / sizeof *messages; i++) {
            int here = (int)messages[i].arg.pagefault.feat.ptid == n->tid;
            if (!here) n->serves = 0;
            edm_span_handles(here);
            edm_serve(r, &messages[i], &n->steps);
        }
        if (!n->serves) edm_event_raise(&n->ends);
    }
    return NULL;
}

/* LPET and the plain handler, elsewhere for as long as the near one serves. */
struct elsewhere {
    int lpet, core;
    cpu_set_t lpets, mine; /* what they had before */
};

static void go(pid_t tid, const cpu_set_t *before, int core) {
    cpu_set_t others = *before;
    if (core >= 0) CPU_CLR(core, &others);
    if (CPU_COUNT(&others)) sched_setaffinity(tid, sizeof others, &others);
}

/* They keep off this core; -1: off none any more. */
static void keep_off(struct elsewhere *e, int core) {
    e->core = core;
    go(0, &e->mine, core);
    if (e->lpet) go(e->lpet, &e->lpets, core);
}

/* Whether the near handler gets on; looked at again and again. */
struct progress {
    uint32_t steps;
    int quiet; /* looks in a row at which nothing was to be done */
};

static int gets_on(edm_region *r, struct progress *p) {
    struct pollfd unread = {.fd = r->uffd, .events = POLLIN};
    uint32_t before = p->steps;
    p->steps = r->near.steps;
    if (p->steps != before) p->quiet = 0;
    else if (p->steps & 1 || poll(&unread, 1, 0) > 0) return 0;
    else p->quiet++;
    return 1;
}

int edm_near_serves(edm_region *r, int tid, const cpu_set_t *home) {
    struct edm_near *n = &r->near;
    if (!n->itself || edm_now_ns() < n->not_before_ns) return 0;
    struct elsewhere elsewhere = {.mine = *home};
    struct progress progress = {n->steps, 0};
    int core = edm_core_of((uint32_t)tid), lpet = r->lpet_tid;
    if (core < 0 || core >= CPU_SETSIZE) return 0;
    elsewhere.lpet = lpet && !sched_getaffinity(lpet, sizeof elsewhere.lpets, &elsewhere.lpets) ? lpet : 0;
    keep_off(&elsewhere, core);
    n->core = -1;
    n->tid = tid;
    n->serves = 1;
    edm_event_raise(&n->begins);
    while (n->serves && !r->stop) {
        uint32_t ticket = edm_event_ticket(&n->ends);
        if (n->serves) edm_event_wait(&n->ends, ticket, 0, LOOK_NS);
        if (!gets_on(r, &progress)) {
            n->serves = 0;
            n->not_before_ns = edm_now_ns() + REST_NS;
        }
        if (progress.quiet == QUIET_LOOKS) n->serves = 0;
        core = n->core;
        if (core >= 0 && core != elsewhere.core) keep_off(&elsewhere, core);
    }
    be(n->itself, SCHED_OTHER);
    keep_off(&elsewhere, -1);
    return 1;
}
