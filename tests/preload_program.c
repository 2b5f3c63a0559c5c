/* preload_program.c: asks for memory in every way that `edm_real run` takes over, and checks all of it.
 *
 *     preload_program SCENARIO [MIB]       0: all as it should be; else a line says what was not
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static size_t mib = 64;
#define CHECK(what) do { if (!(what)) { printf("line %d: %s (%s)\n", __LINE__, #what, strerror(errno)); exit(1); } } while (0)

static void fill(void *at, size_t pages, unsigned seed) {
    for (size_t p = 0; p < pages; p++)
        for (size_t i = 0; i < PAGE / 8; i += 8) ((uint64_t *)at)[p * (PAGE / 8) + i] = (p << 20) + i + seed;
}
static int holds(const void *at, size_t pages, unsigned seed) {
    for (size_t p = 0; p < pages; p++)
        for (size_t i = 0; i < PAGE / 8; i += 8)
            if (((const uint64_t *)at)[p * (PAGE / 8) + i] != (p << 20) + i + seed) return 0;
    return 1;
}
static int zero(const void *at, size_t pages) {
    for (size_t i = 0; i < pages * PAGE / 8; i++)
        if (((const uint64_t *)at)[i]) return 0;
    return 1;
}
static void *map(size_t pages) {
    void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static void heap(void) {
    size_t n = mib << 20, pages = n / PAGE;
    char *a = malloc(n), *b = calloc(n / 16, 4), *c, *small = malloc(100);
    CHECK(a && b && small && malloc_usable_size(a) >= n && zero(b, pages / 4));
    fill(a, pages, 1);
    memset(small, 7, 100);
    CHECK(holds(a, pages, 1));
    CHECK((a = realloc(a, 2 * n)) && holds(a, pages, 1));      /* b is behind it: moved */
    fill(a, 2 * pages, 2);
    CHECK((a = realloc(a, n)) && holds(a, pages, 2));          /* in place */
    CHECK((a = realloc(a, n + n / 2)) && holds(a, pages, 2));  /* and again */
    CHECK((a = realloc(a, 1000)) && *(uint64_t *)a == 2);      /* out of the region */
    CHECK((a = realloc(a, n)) && *(uint64_t *)a == 2);         /* and in */
    CHECK((small = realloc(small, n)) && small[99] == 7);
    for (size_t align = 16; align <= 1 << 21; align *= 2) {
        void *at[3] = {memalign(align, n / 64), aligned_alloc(align, n / 64), NULL};
        CHECK(!posix_memalign(&at[2], align, n / 64));
        for (int i = 0; i < 3; i++) {
            CHECK(at[i] && (uintptr_t)at[i] % align == 0);
            fill(at[i], pages / 64, (unsigned)align);
            CHECK(holds(at[i], pages / 64, (unsigned)align));
            free(at[i]);
        }
    }
    free(a), free(b), free(small);
    CHECK((c = calloc(n, 2)) && zero(c, 2 * pages)); /* what was freed is zeros again */
    free(c);
    for (int i = 0; i < 200; i++) free(malloc(n / 8 + (size_t)i * 5000));
    volatile size_t most = SIZE_MAX / 2;
    CHECK(!malloc(most) && errno == ENOMEM && !calloc(most, 4));
}

static void mappings(void) {
    size_t pages = (mib << 20) / PAGE;
    char *a = map(pages), *b, *c;
    CHECK(zero(a, pages));
    fill(a, pages, 3);
    CHECK(!munmap(a + pages / 4 * PAGE, pages / 4 * PAGE)); /* a hole, taken by the next one */
    b = map(pages / 4);
    CHECK(zero(b, pages / 4));
    fill(b, pages / 4, 4);
    CHECK(holds(a, pages / 4, 3) && ((uint64_t *)a)[pages / 2 * PAGE / 8] == (pages / 2 << 20) + 3 && holds(b, pages / 4, 4));
    c = mremap(b, pages / 4 * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    CHECK(c != MAP_FAILED && holds(c, pages / 4, 4) && zero(c + pages / 4 * PAGE, pages / 4 * 3));
    fill(c, pages, 5);
    CHECK(mremap(c, pages * PAGE, pages / 2 * PAGE, 0) == c && holds(c, pages / 2, 5));
    CHECK(!madvise(c, 10 * PAGE, MADV_DONTNEED) && zero(c, 10));
    CHECK(!madvise(c + 10 * PAGE, 10 * PAGE, MADV_FREE) && !madvise(c, pages / 2 * PAGE, MADV_HUGEPAGE));
    CHECK(!madvise(c + 20 * PAGE, 50 * PAGE, MADV_PAGEOUT) && !madvise(c + 20 * PAGE, 50 * PAGE, MADV_WILLNEED));
    CHECK(((uint64_t *)c)[30 * PAGE / 8] == (30u << 20) + 5);
    CHECK(mmap(c, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == c && zero(c, 20));
    CHECK(mmap(c, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, open("/proc/self/exe", O_RDONLY), 0) == MAP_FAILED);
    CHECK(mprotect(c, pages / 2 * PAGE, PROT_NONE) == -1 && errno == EACCES);
    fill(c, pages / 2, 6);
    CHECK(!mprotect(c, pages / 2 * PAGE, PROT_READ));
    fill(a, pages / 4, 7); /* sends the read-only ones away */
    CHECK(holds(c, pages / 2, 6) && !mprotect(c, pages / 2 * PAGE, PROT_READ | PROT_WRITE));
    fill(c, pages / 2, 8);
    CHECK(holds(c, pages / 2, 8) && holds(a, pages / 4, 7));
    CHECK(!munmap(a, pages / 4 * PAGE) && !munmap(c, pages / 2 * PAGE));
    char *reserve = mmap(NULL, 1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reserve != MAP_FAILED && !mprotect(reserve, 1 << 22, PROT_READ | PROT_WRITE)); /* as it always was */
    fill(reserve, 100, 9);
    CHECK(holds(reserve, 100, 9) && !munmap(reserve, 1 << 30));
}

static void system_calls(void) {
    size_t pages = (mib << 20) / PAGE;
    char *a = malloc(pages * PAGE), name[] = "/tmp/edm-program-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && !unlink(name));
    fill(a, pages, 1);
    for (size_t at = 0; at < pages * PAGE;) { /* pages that are out are written and read by the kernel */
        ssize_t n = write(fd, a + at, pages * PAGE - at);
        CHECK(n > 0);
        at += (size_t)n;
    }
    memset(a, 0, pages * PAGE);
    for (size_t at = 0; at < pages * PAGE;) {
        ssize_t n = pread(fd, a + at, pages * PAGE - at, (off_t)at);
        CHECK(n > 0);
        at += (size_t)n;
    }
    CHECK(holds(a, pages, 1));
    CHECK(open("/proc/self/exe", O_RDONLY | O_DIRECT) == -1 && errno == EINVAL);
    close(fd);
    free(a);
}

static void *one_thread(void *number) {
    unsigned k = (unsigned)(uintptr_t)number;
    size_t pages = (mib << 20) / PAGE / 8;
    for (int turn = 0; turn < 6; turn++) {
        char *a = turn & 1 ? map(pages) : malloc(pages * PAGE);
        fill(a, pages, k);
        CHECK(holds(a, pages, k));
        if (turn & 1) CHECK(!munmap(a, pages * PAGE));
        else free(a);
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[8];
    for (uintptr_t k = 0; k < 8; k++) CHECK(!pthread_create(&t[k], NULL, one_thread, (void *)k));
    for (int k = 0; k < 8; k++) CHECK(!pthread_join(t[k], NULL));
}

static int ended(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void children(void) {
    extern char **environ;
    size_t pages = (mib << 20) / PAGE;
    char *a = malloc(pages * PAGE), *arguments[] = {"true", NULL};
    pid_t child;
    fill(a, pages, 1);
    CHECK(system("exit 5") == 5 << 8);
    CHECK(!posix_spawnp(&child, "true", NULL, NULL, arguments, environ) && !ended(child));
    if (!(child = fork())) { /* may not use it, but all else, and give it back */
        char *own = malloc(1 << 20);
        memset(own, 1, 1 << 20);
        free(own);
        free(a);
        execlp("true", "true", (char *)NULL);
        _exit(9);
    }
    CHECK(!ended(child));
    if (!(child = fork())) _exit(a[0] == 1 ? 0 : 1);
    int status = ended(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK(holds(a, pages, 1));
    free(a);
}

static void forever(void) { /* for a store that fails: runs until it is ended */
    size_t pages = (mib << 20) / PAGE;
    char *a = malloc(pages * PAGE);
    puts("begun"), fflush(stdout);
    for (unsigned turn = 0;; turn++) {
        fill(a, pages, turn);
        CHECK(holds(a, pages, turn));
    }
}

int main(int n, char **arguments) {
    static const struct { const char *name; void (*run)(void); } scenarios[] = {
        {"heap", heap}, {"mappings", mappings}, {"system_calls", system_calls}, {"threads", threads},
        {"children", children}, {"forever", forever}};
    if (n > 2) mib = (size_t)atoi(arguments[2]);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (n > 1 && !strcmp(arguments[1], scenarios[i].name)) return scenarios[i].run(), 0;
    return 2;
}
