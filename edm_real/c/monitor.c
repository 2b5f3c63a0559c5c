/* monitor.c: handler threads that read fault messages. The transparent mode: faults taken
 * inside of system calls are served too, and the program's signals are not touched. */
#define _GNU_SOURCE
#include "region.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum { BATCH = 16 };

static void serve(edm_region *r, const struct uffd_msg *m) {
    if (m->event != UFFD_EVENT_PAGEFAULT) return;
    uintptr_t offset = (uintptr_t)m->arg.pagefault.address - (uintptr_t)r->memory;
    if (offset >= r->bytes) return; /* the stash: nobody's business there */
    int write = (m->arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
    edm_region_fault(r, (uint32_t)(offset >> r->shift), write); /* wakes the faulting thread, poisoned or not */
}

static void *handler_main(void *region) {
    edm_region *r = region;
    struct pollfd fds[2] = {{.fd = r->uffd, .events = POLLIN}, {.fd = r->stop_pipe[0], .events = POLLIN}};
    struct uffd_msg messages[BATCH];
    while (!r->stop) {
        ssize_t n = read(r->uffd, messages, sizeof messages);
        if (n <= 0) {
            poll(fds, 2, 1000);
            continue;
        }
        for (uint32_t i = 0; i < (size_t)n / sizeof *messages; i++) serve(r, &messages[i]);
    }
    return NULL;
}

int edm_monitor_start(edm_region *r) {
    if (pipe2(r->stop_pipe, O_CLOEXEC)) return -errno;
    for (; r->handlers_running < r->handlers; r->handlers_running++) {
        int error = edm_thread_start(&r->handler[r->handlers_running], handler_main, r);
        if (error) return error;
    }
    return 0;
}

void edm_monitor_stop(edm_region *r) {
    if (r->stop_pipe[1] < 0) return;
    ssize_t told = write(r->stop_pipe[1], "", 1);
    (void)told; /* the pipe is empty: it cannot fail for want of room */
    while (r->handlers_running) pthread_join(r->handler[--r->handlers_running], NULL);
    close(r->stop_pipe[0]);
    close(r->stop_pipe[1]);
}
