/*
 * The bare floor: what a page fault costs when it is resolved in user space and nothing
 * else is done. No policy, no store, no threads, no locks. A pager is measured against it.
 *
 * The faulting thread resolves its own fault: with UFFD_FEATURE_SIGBUS the kernel turns the
 * access into SIGBUS, and the signal handler installs the page. Two modes:
 *
 *   fault   the handler copies in one constant page with UFFDIO_COPY. Pages go missing again
 *           by MADV_DONTNEED of the whole region, outside of what is timed.
 *   loop    the least a pager can do. At most `local` pages stay, in a FIFO ring. The handler
 *           moves the oldest page out to a slot with UFFDIO_MOVE, copies its bytes to an array
 *           (the write-back) and the wanted page's bytes from the array (the fetch). Then either
 *             recycle   it fills the slot's frame and moves it in, or
 *             drop      it installs with UFFDIO_COPY and gives the slot's frame back.
 *
 * Latency is seen from the program: the clock is read before and after each access, and
 * the accesses that faulted are counted. `handler` is the part inside of the signal handler.
 *
 * Exit codes: 0 ok, 1 failed, 2 usage, 77 this machine has no userfaultfd that can do it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Debian 12's headers are Linux 6.1's; UFFDIO_MOVE came with 6.8. */
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFDIO_MOVE
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
struct uffdio_move {
    uint64_t dst;
    uint64_t src;
    uint64_t len;
    uint64_t mode;
    int64_t move;
};
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
_Static_assert(sizeof(struct uffdio_move) == 40, "struct uffdio_move is 40 bytes");
_Static_assert(sizeof(struct uffdio_copy) == 40, "struct uffdio_copy is 40 bytes");

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))
#define CANNOT 77
#define MOVE_PATIENCE_NS 1000000000ull

enum mode { FAULT, LOOP };
enum frames { RECYCLE, DROP };

struct options {
    enum mode mode;
    enum frames frames;
    uint32_t pages;
    uint32_t local;
    uint64_t faults;
    uint64_t seed;
    bool write;
    bool sequential;
    bool json;
};

/* All the handler needs. Signal handlers take no argument, so there is one of it. */
static struct {
    int uffd;
    enum mode mode;
    enum frames frames;
    uint8_t *region;
    size_t region_bytes;
    uint8_t *slot;    /* one page; empty between faults */
    uint8_t *backing; /* the page to copy in (fault), or one page for each of the region's (loop) */
    uint32_t *ring;   /* resident pages, oldest first from `oldest` */
    uint32_t ring_size, oldest;
    /* Read by the interrupted code, which the compiler can't know to be interrupted: volatile. */
    volatile uint32_t ring_used;
    volatile uint64_t faults;     /* handled since the start */
    volatile uint64_t handler_ns; /* of the last fault */
} g;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the handler ---- */

static void die_in_handler(const char *what) {
    static const char head[] = "floor: failed in the fault handler: ";
    ssize_t n = write(STDERR_FILENO, head, sizeof head - 1);
    n = write(STDERR_FILENO, what, strlen(what));
    n = write(STDERR_FILENO, "\n", 1);
    (void)n;
    _exit(1);
}

static void copy_in(uint8_t *to, const uint8_t *from) {
    struct uffdio_copy copy = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE};
    if (ioctl(g.uffd, UFFDIO_COPY, &copy))
        die_in_handler("UFFDIO_COPY");
}

static void move(uint8_t *to, uint8_t *from) {
    uint64_t began = 0;
    for (;;) { /* EAGAIN: the kernel had the page locked just then */
        struct uffdio_move m = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE};
        if (!ioctl(g.uffd, UFFDIO_MOVE, &m))
            return;
        if (errno != EAGAIN)
            die_in_handler("UFFDIO_MOVE");
        if (!began)
            began = now_ns();
        else if (now_ns() - began > MOVE_PATIENCE_NS)
            die_in_handler("UFFDIO_MOVE: still EAGAIN after a second");
        sched_yield(); /* to who has it locked, where that one waits for this core */
    }
}

/* Evict the oldest page, fetch `page`. The frame is in the slot between. */
static void replace_oldest(uint32_t page) {
    uint32_t victim = g.ring[g.oldest];
    g.ring[g.oldest] = page;
    g.oldest = g.oldest + 1 == g.ring_size ? 0 : g.oldest + 1;

    uint8_t *wanted = g.region + (size_t)page * PAGE;
    move(g.slot, g.region + (size_t)victim * PAGE);
    memcpy(g.backing + (size_t)victim * PAGE, g.slot, PAGE);
    if (g.frames == RECYCLE) {
        memcpy(g.slot, g.backing + (size_t)page * PAGE, PAGE);
        move(wanted, g.slot);
    } else {
        copy_in(wanted, g.backing + (size_t)page * PAGE);
        if (madvise(g.slot, PAGE, MADV_DONTNEED))
            die_in_handler("madvise");
    }
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    uint64_t start = now_ns();
    int saved_errno = errno;
    size_t offset = (uintptr_t)info->si_addr - (uintptr_t)g.region;
    (void)number, (void)context;
    if (offset >= g.region_bytes)
        die_in_handler("SIGBUS outside of the region");
    uint32_t page = (uint32_t)(offset / PAGE);
    if (g.mode == FAULT) {
        copy_in(g.region + (size_t)page * PAGE, g.backing);
    } else if (g.ring_used < g.ring_size) {
        g.ring[g.ring_used++] = page;
        copy_in(g.region + (size_t)page * PAGE, g.backing + (size_t)page * PAGE);
    } else {
        replace_oldest(page);
    }
    g.faults++;
    errno = saved_errno;
    g.handler_ns = now_ns() - start;
}

/* ---- setting up ---- */

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Opens in the order of preference; says which it was. */
static int open_uffd(const char **how) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd = -1;
    *how = "device";
    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
        close(device);
    }
    if (fd < 0) {
        *how = "syscall";
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    }
    if (fd < 0) {
        *how = "user-mode-only";
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    }
    if (fd < 0) {
        fprintf(stderr, "floor: userfaultfd: %s; fix: allow the system call, or pass in /dev/userfaultfd\n",
                strerror(errno));
        exit(CANNOT);
    }
    return fd;
}

static void agree_on_features(int fd, enum mode mode) {
    uint64_t wanted = UFFD_FEATURE_SIGBUS | (mode == LOOP ? UFFD_FEATURE_MOVE : 0);
    struct uffdio_api api = {.api = UFFD_API, .features = wanted};
    if (ioctl(fd, UFFDIO_API, &api)) {
        fprintf(stderr, "floor: this kernel's userfaultfd lacks %s\n",
                mode == LOOP ? "SIGBUS or MOVE (Linux 6.8); `--mode fault` may work" : "SIGBUS (Linux 4.14)");
        exit(CANNOT);
    }
}

static uint8_t *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap");
    madvise(p, bytes, MADV_NOHUGEPAGE); /* EINVAL on kernels without huge pages: nothing to avoid there */
    return p;
}

static void watch(uint8_t *start, size_t bytes) {
    struct uffdio_register r = {.range = {(uintptr_t)start, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(g.uffd, UFFDIO_REGISTER, &r))
        fail("UFFDIO_REGISTER");
}

/* What word `i` of a page holds before the program writes to it: all different. */
static uint64_t first_content(uint32_t page, size_t i) {
    uint64_t x = ((uint64_t)page << 16 | i) * 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static void set_up(const struct options *o) {
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    uint32_t stored = o->mode == LOOP ? o->pages : 1;

    g.mode = o->mode;
    g.frames = o->frames;
    g.region_bytes = (size_t)o->pages * PAGE;
    g.region = map(g.region_bytes);
    g.slot = map(PAGE);
    g.backing = map((size_t)stored * PAGE);
    g.ring_size = o->local;
    g.ring = calloc(o->local, sizeof *g.ring);
    if (!g.ring)
        fail("calloc");
    for (uint32_t page = 0; page < stored; page++)
        for (size_t i = 0; i < WORDS; i++)
            ((uint64_t *)(void *)(g.backing + (size_t)page * PAGE))[i] = first_content(page, i);
    watch(g.region, g.region_bytes);
    watch(g.slot, PAGE);
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, NULL))
        fail("sigaction");
}

/* ---- measuring ---- */

struct series {
    uint64_t *ns;
    uint64_t n;
};

struct outcome {
    struct series access, handler;
    uint64_t accesses, elapsed_ns, wrong;
    uint64_t timer_ns; /* the median of two clock readings in a row: it is in every latency */
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort(struct series *s) { qsort(s->ns, s->n, sizeof *s->ns, by_value); }

static uint64_t clock_cost(void) {
    uint64_t ns[1001];
    for (size_t i = 0; i < 1001; i++) {
        uint64_t start = now_ns();
        ns[i] = now_ns() - start;
    }
    qsort(ns, 1001, sizeof *ns, by_value);
    return ns[500];
}

/* Runs until `faults` faults were counted. In loop mode the ring is filled first, uncounted. */
static void measure(const struct options *o, struct outcome *out) {
    uint64_t *expected = malloc((size_t)o->pages * sizeof *expected);
    uint64_t random = o->seed, batch = o->pages / 4 ? o->pages / 4 : 1, in_batch = 0;
    uint32_t cursor = 0;

    out->access.ns = malloc(o->faults * sizeof(uint64_t));
    out->handler.ns = malloc(o->faults * sizeof(uint64_t));
    if (!expected || !out->access.ns || !out->handler.ns)
        fail("malloc");
    memset(out->access.ns, 1, o->faults * sizeof(uint64_t)); /* no kernel faults of our own while timing */
    memset(out->handler.ns, 1, o->faults * sizeof(uint64_t));
    for (uint32_t page = 0; page < o->pages; page++)
        expected[page] = first_content(o->mode == LOOP ? page : 0, 0);
    out->timer_ns = clock_cost();

    while (out->access.n < o->faults) {
        if (o->mode == FAULT && in_batch++ == batch) {
            if (madvise(g.region, g.region_bytes, MADV_DONTNEED))
                fail("madvise");
            for (uint32_t page = 0; page < o->pages; page++)
                expected[page] = first_content(0, 0);
            in_batch = 1;
        }
        uint32_t page = o->sequential ? cursor : (uint32_t)((next_random(&random) >> 32) * o->pages >> 32);
        cursor = cursor + 1 == o->pages ? 0 : cursor + 1;
        volatile uint64_t *word = (volatile uint64_t *)(void *)(g.region + (size_t)page * PAGE);
        bool warm = o->mode == FAULT || g.ring_used == g.ring_size;
        uint64_t faults = g.faults, seen;

        uint64_t start = now_ns();
        seen = *word;
        if (o->write)
            *word = seen + 1;
        uint64_t took = now_ns() - start;

        out->wrong += seen != expected[page];
        expected[page] = seen + o->write;
        if (!warm)
            continue;
        out->accesses++;
        out->elapsed_ns += took;
        if (g.faults != faults) {
            out->access.ns[out->access.n++] = took;
            out->handler.ns[out->handler.n++] = g.handler_ns;
        }
    }
    /* Every byte, wherever the page is now: this faults through the whole region once more. */
    for (uint32_t page = 0; page < o->pages; page++) {
        const volatile uint64_t *words = (const volatile uint64_t *)(void *)(g.region + (size_t)page * PAGE);
        out->wrong += words[0] != expected[page];
        for (size_t i = 1; i < WORDS; i++)
            out->wrong += words[i] != first_content(o->mode == LOOP ? page : 0, i);
    }
    free(expected);
}

/* ---- reporting ---- */

static double mean(const struct series *s) {
    double sum = 0;
    for (uint64_t i = 0; i < s->n; i++)
        sum += (double)s->ns[i];
    return sum / (double)s->n;
}

/* Nearest rank, of a sorted series. */
static uint64_t percentile(const struct series *s, double q) {
    uint64_t rank = (uint64_t)(q * (double)s->n);
    return s->ns[rank < s->n ? rank : s->n - 1];
}

static void print_series(const char *name, const struct series *s, bool json) {
    const char *form = json ? "\"%s\": {\"mean\": %.0f, \"p50\": %" PRIu64 ", \"p90\": %" PRIu64 ", \"p99\": %" PRIu64
                              ", \"max\": %" PRIu64 "}"
                            : "%-12s mean %.0f  p50 %" PRIu64 "  p90 %" PRIu64 "  p99 %" PRIu64 "  max %" PRIu64 " ns\n";
    printf(form, name, mean(s), percentile(s, 0.5), percentile(s, 0.9), percentile(s, 0.99), s->ns[s->n - 1]);
}

static void report(const struct options *o, struct outcome *out, const char *how, double load) {
    const char *mode = o->mode == LOOP ? "loop" : "fault", *pattern = o->sequential ? "seq" : "uniform";
    const char *frames = o->mode == FAULT ? "none" : o->frames == RECYCLE ? "recycle" : "drop";
    const char *access = o->write ? "read-modify-write" : "read";
    double per_access = (double)out->elapsed_ns / (double)out->accesses;

    sort(&out->access);
    sort(&out->handler);
    if (!o->json) {
        printf("floor %s, %s, %s, frames %s, %" PRIu32 " pages, %" PRIu32 " local, uffd by %s, load %.2f\n", mode,
               pattern, access, frames, o->pages, o->local, how, load);
        print_series("fault", &out->access, false);
        print_series("in handler", &out->handler, false);
        printf("%-12s mean %.0f ns over %" PRIu64 " accesses, %" PRIu64 " faults, clock %" PRIu64 " ns, %s\n", "access",
               per_access, out->accesses, out->access.n, out->timer_ns, out->wrong ? "WRONG BYTES" : "verified");
        return;
    }
    printf("{\"schema\": 1, \"mode\": \"%s\", \"pattern\": \"%s\", \"access\": \"%s\", \"frames\": \"%s\", ", mode, pattern,
           access, frames);
    printf("\"pages\": %" PRIu32 ", \"local\": %" PRIu32 ", \"seed\": %" PRIu64 ", \"uffd\": \"%s\", \"load_1min\": %.2f, ",
           o->pages, o->local, o->seed, how, load);
    printf("\"accesses\": %" PRIu64 ", \"faults\": %" PRIu64 ", \"access_mean_ns\": %.1f, \"clock_ns\": %" PRIu64 ", ",
           out->accesses, out->access.n, per_access, out->timer_ns);
    print_series("fault_ns", &out->access, true);
    printf(", ");
    print_series("handler_ns", &out->handler, true);
    printf(", \"verified\": %s}\n", out->wrong ? "false" : "true");
}

static const char usage_text[] =
    "usage: floor [--mode fault|loop] [--frames recycle|drop] [--pages N] [--local N] [--faults N]\n"
    "             [--pattern uniform|seq] [--write] [--seed N] [--json]\n";

static void usage(const char *what, const char *given) {
    fprintf(stderr, "floor: %s: %s\n%s", what, given, usage_text);
    exit(2);
}

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || n < least || n > most)
        usage(name, text);
    return n;
}

/* Index of `text` in two words. */
static int one_of(const char *name, const char *text, const char *first, const char *second) {
    if (strcmp(text, first) && strcmp(text, second))
        usage(name, text);
    return !strcmp(text, second);
}

static struct options parse(int argc, char **argv) {
    static const struct option known[] = {
        {"mode", required_argument, NULL, 'm'},    {"frames", required_argument, NULL, 'f'},
        {"pages", required_argument, NULL, 'p'},   {"local", required_argument, NULL, 'l'},
        {"faults", required_argument, NULL, 'n'},  {"seed", required_argument, NULL, 's'},
        {"pattern", required_argument, NULL, 'a'}, {"write", no_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'},          {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.mode = LOOP, .pages = 65536, .faults = 200000, .seed = 1};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'm': o.mode = one_of("--mode", optarg, "fault", "loop") ? LOOP : FAULT; break;
        case 'f': o.frames = one_of("--frames", optarg, "recycle", "drop") ? DROP : RECYCLE; break;
        case 'p': o.pages = (uint32_t)number("--pages", optarg, 2, 1u << 28); break;
        case 'l': o.local = (uint32_t)number("--local", optarg, 1, 1u << 28); break;
        case 'n': o.faults = number("--faults", optarg, 1, 100000000); break;
        case 's': o.seed = number("--seed", optarg, 0, UINT64_MAX); break;
        case 'a': o.sequential = one_of("--pattern", optarg, "uniform", "seq"); break;
        case 'w': o.write = true; break;
        case 'j': o.json = true; break;
        case 'h': fputs(usage_text, stdout); exit(0);
        default: fputs(usage_text, stderr); exit(2);
        }
    }
    if (optind < argc)
        usage("unknown argument", argv[optind]);
    if (!o.local)
        o.local = o.pages / 4 ? o.pages / 4 : 1;
    if (o.local >= o.pages) {
        fprintf(stderr, "floor: --local %" PRIu32 ": must be less than --pages %" PRIu32 "\n", o.local, o.pages);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv) {
    struct options o = parse(argc, argv);
    struct outcome out = {0};
    const char *how;
    double load = -1; /* before the run: a latency means little without it */

    if (sysconf(_SC_PAGESIZE) != PAGE) {
        fprintf(stderr, "floor: written for pages of %u bytes; this machine's have %ld\n", PAGE, sysconf(_SC_PAGESIZE));
        return CANNOT;
    }
    (void)getloadavg(&load, 1);
    g.uffd = open_uffd(&how);
    agree_on_features(g.uffd, o.mode);
    set_up(&o);
    measure(&o, &out);
    report(&o, &out, how, load);
    return out.wrong ? 1 : 0;
}
