/* program.c: a program's beginning, its forks, and its end. */
#define _GNU_SOURCE
#include "preload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct edm_program edm_program;
__thread int edm_inside __attribute__((tls_model("initial-exec")));
static uint64_t begun_ns;
static char url[192], report_path[512];
static edm_run_report report; /* too large for some stacks */

void edm_say(const char *text) {
    char line[512];
    int n = snprintf(line, sizeof line, "edm run: %s\n", text);
    ssize_t wrote = write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    (void)wrote;
}

void *edm_piece(size_t bytes, size_t align) {
    uint32_t first = edm_ranges_take(edm_pages_for(bytes), align >> 12);
    return first == EDM_NO_RANGE ? NULL : edm_page_at(first);
}

void *edm_left_out(void *p, size_t bytes) {
    if (p && edm_may_page(bytes)) atomic_fetch_add_explicit(&edm_program.left_out, bytes, memory_order_relaxed);
    return p;
}

/* A page that cannot be discarded now (the store holds it beyond the deadline) is never given out again:
 * whoever got it next would not find zeros. */
void edm_piece_back(uint32_t first, uint32_t pages) {
    int saved = errno;
    edm_inside++;
    if (!edm_region_discard(edm_program.region, first, pages)) edm_ranges_give(first, pages);
    edm_inside--;
    errno = saved;
}

/* ---- signals ---- */

static void end_by(int number) {
    signal(number, SIG_DFL); /* the access is tried again, or the signal is raised again by it */
    if (number == SIGBUS) raise(number);
}

static void on_lost(int number, siginfo_t *info, void *context) {
    (void)context;
    char line[400];
    edm_region *r = edm_program.region;
    if (r && edm_is_paged(info->si_addr)) {
        if (r->count.lost_pages)
            snprintf(line, sizeof line, "page %u is lost: store %s: %s; the program ends here, use no result made from it",
                     edm_page_of(info->si_addr), url, strerror(-r->count.lost_error));
        else
            snprintf(line, sizeof line, "no room in local memory for page %u: store %s refused pages until the deadline: %s",
                     edm_page_of(info->si_addr), url, strerror(-r->count.writeback_error));
        edm_say(line);
    }
    end_by(number);
}

static void on_missing(int number, siginfo_t *info, void *context) {
    (void)context;
    if (edm_is_paged(info->si_addr))
        edm_say("a forked child used paged memory of its parent, which it does not have; "
                "run it with a larger --least, or without edm_real run");
    end_by(number);
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction now, ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&ours.sa_mask);
    if (!sigaction(number, NULL, &now) && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
        sigaction(number, &ours, NULL);
}

/* The child of a fork has none of the region's memory (MADV_DONTFORK) and none of its threads. */
static void in_child(void) {
    edm_program.active = 0;
    handle(SIGSEGV, on_missing);
}

/* ---- beginning and end ---- */

static int from_hex(const char *text, void *to, size_t bytes) {
    uint8_t *at = to;
    if (!text || strlen(text) != 2 * bytes) return -1;
    for (size_t i = 0; i < bytes; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) return -1;
        at[i] = (uint8_t)byte;
    }
    return 0;
}

_Noreturn static void refuse(int code, const char *why) {
    edm_say(why);
    _exit(code);
}

static void no_secret(char *to, size_t size, const char *from) { /* a password between "://...:" and "@" */
    snprintf(to, size, "%s", from);
    char *host = strstr(to, "://"), *at = host ? strrchr(host, '@') : NULL;
    if (at) memmove(host + 3, at + 1, strlen(at + 1) + 1);
}

__attribute__((constructor)) static void open_program(void) {
    edm_run_config config;
    const char *store_url = getenv("EDM_RUN_STORE");
    char why[512] = "";
    int error = 0;
    if (!getenv("EDM_RUN_CONFIG") || !store_url) return; /* preloaded by hand: nothing is asked for */
    edm_inside = 1;
    if (from_hex(getenv("EDM_RUN_CONFIG"), &config, sizeof config))
        refuse(2, "EDM_RUN_CONFIG is another version's; start it by python -m edm_real run");
    begun_ns = edm_now_ns();
    snprintf(report_path, sizeof report_path, "%s", getenv("EDM_RUN_REPORT") ? getenv("EDM_RUN_REPORT") : "");
    no_secret(url, sizeof url, store_url);
    handle(SIGBUS, on_lost); /* before the region's own, which passes on to it */
    edm_store *store = edm_store_open(store_url, 4096, config.region.policy.pages, why, sizeof why);
    if (!store) refuse(1, why);
    edm_region *r = edm_region_open(&config.region, store, why, sizeof why, &error);
    if (!r) refuse(error == -EPERM || error == -ENOSYS || error == -EACCES ? 77 : 1, why);
    edm_board_open(r, program_invocation_short_name, url);
    if (edm_ranges_open(config.region.policy.pages) || pthread_atfork(NULL, NULL, in_child))
        refuse(1, "out of memory for the region's records");
    edm_program.region = r;
    edm_program.start = (uintptr_t)r->memory;
    edm_program.end = edm_program.start + r->bytes;
    edm_program.least = config.least;
    edm_program.pid = getpid();
    edm_program.active = 1;
    edm_inside = 0;
}

/* The region stays open: other threads, and what runs after this, may still use its memory. */
__attribute__((destructor)) void edm_report(void) {
    static _Atomic int done;
    edm_region *r = edm_program.region;
    if (!r || edm_program.pid != getpid() || atomic_exchange(&done, 1)) return;
    edm_inside++;
    edm_figures_of(r, &report.figures);
    snprintf(report.figures.name, sizeof report.figures.name, "%s", program_invocation_short_name);
    snprintf(report.figures.url, sizeof report.figures.url, "%s", url);
    report.figures.pid = (uint32_t)edm_program.pid;
    report.elapsed_ns = edm_now_ns() - begun_ns;
    report.most = edm_ranges_most() << 12;
    report.left_out = edm_program.left_out;
    int fd = open(report_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t wrote = write(fd, &report, sizeof report);
        (void)wrote; /* a short one is left out by its reader */
        close(fd);
    }
    edm_inside--;
}
