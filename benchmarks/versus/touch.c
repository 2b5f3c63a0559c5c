/*
 * The program that the kernel's own paging is measured with: touches pages of anonymous or
 * file-mapped memory in a given order, one 8-byte word a page, and times each access. Whoever starts
 * it decides how much of that memory may stay (a memory cgroup) and where the rest goes.
 *
 * Contents are verified. Word 0 of a page holds the page's number + 1 in its upper half and in its
 * lower half how often the page was written; the other words are the fill. Each access checks
 * the number, and in the end every byte is checked and the counts must add up to the writes
 * done: a page that comes back wrong, stale or empty is noticed. Pages with content of a file
 * (--fill-file) have no number: there the count is what a write adds to the file's own word 0, and all
 * is checked in the end.
 *
 * Exit codes: 0 ok, 1 failed, 2 usage, 77 pages here are not of 4096 bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))
#define CANNOT 77
#define WRITES (UINT32_C(1) << 31) /* in a record of a reference file: this access writes */

enum pattern { UNIFORM, SEQ, STRIDE };
enum fill { NONE, WORD, HALF, RANDOM, CONTENT };
static const char *const fill_names[] = {"none", "word", "half", "random", "content", NULL};

struct options {
    uint32_t pages;
    uint64_t refs;
    uint64_t seed;
    enum pattern pattern;
    uint32_t stride;
    enum fill fill;
    const char *content_file; /* of the fill CONTENT: page p begins as its page p % content_pages */
    const uint64_t *content;
    uint32_t content_pages;
    const char *file;      /* NULL: anonymous memory */
    const char *refs_file; /* NULL: a pattern */
    bool write;            /* of patterns; a reference file says it for each access */
    bool small_pages;
    bool random_advice;
};

static void fail(const char *what) {
    fprintf(stderr, "touch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- which page comes next ---- */

struct source {
    const uint32_t *records; /* of a reference file, else NULL */
    uint64_t random;
    uint64_t at;
    uint32_t cursor, first;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Every stride-th page, then the same one page further on, and so on; stride 1 is in order. */
static uint32_t next_stride(struct source *s, uint32_t stride, uint32_t pages) {
    uint32_t page = s->cursor;
    if (pages - page > stride) {
        s->cursor = page + stride;
    } else {
        s->first = s->first + 1 == stride ? 0 : s->first + 1;
        s->cursor = s->first;
    }
    return page;
}

static uint32_t next_page(struct source *s, const struct options *o, bool *write) {
    *write = o->write;
    if (s->records) {
        uint32_t record = s->records[s->at++];
        *write = record & WRITES;
        return record & ~WRITES;
    }
    if (o->pattern == UNIFORM)
        return (uint32_t)((next_random(&s->random) >> 32) * o->pages >> 32);
    return next_stride(s, o->stride, o->pages);
}

/* Maps a file of little-endian u32 records; the number of them becomes o->refs unless that was given. */
static const uint32_t *open_records(struct options *o) {
    struct stat st;
    int fd = open(o->refs_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        fail(o->refs_file);
    uint64_t held = (uint64_t)st.st_size / sizeof(uint32_t);
    if (!held || o->refs > held) {
        fprintf(stderr, "touch: %s holds %" PRIu64 " references, %" PRIu64 " asked for\n", o->refs_file, held, o->refs);
        exit(2);
    }
    if (!o->refs)
        o->refs = held;
    /* Mapped, not read: its pages stay charged to who wrote them, not to our memory cgroup. */
    const uint32_t *records = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (records == MAP_FAILED)
        fail(o->refs_file);
    close(fd);
    for (uint64_t i = 0; i < o->refs; i++)
        if ((records[i] & ~WRITES) >= o->pages) {
            fprintf(stderr, "touch: reference %" PRIu64 " is to page %" PRIu32 " of %" PRIu32 "\n", i,
                    records[i] & ~WRITES, o->pages);
            exit(2);
        }
    return records;
}

/* Maps the file whose pages the region begins with. */
static void open_content(struct options *o) {
    struct stat st;
    int fd = open(o->content_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        fail(o->content_file);
    o->content_pages = (uint32_t)(st.st_size / PAGE);
    if (!o->content_pages) {
        fprintf(stderr, "touch: %s has no whole page\n", o->content_file);
        exit(2);
    }
    o->content = mmap(NULL, (size_t)o->content_pages * PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (o->content == MAP_FAILED)
        fail("mmap");
    close(fd);
}

/* ---- the memory and what is in it ---- */

static uint64_t stamp(uint32_t page) { return (uint64_t)(page + 1) << 32; }

static uint64_t content(const struct options *o, uint32_t page, size_t i) {
    enum fill fill = o->fill;
    if (fill == CONTENT)
        return o->content[(size_t)(page % o->content_pages) * WORDS + i];
    uint64_t x = ((uint64_t)page << 16 | i) * 0x9E3779B97F4A7C15u;
    return fill == RANDOM || (fill == HALF && i < WORDS / 2) ? x ^ x >> 29 : 0;
}

static uint64_t *page_at(uint8_t *region, uint32_t page) {
    return (uint64_t *)(void *)(region + (size_t)page * PAGE);
}

static uint8_t *map_region(const struct options *o) {
    size_t bytes = (size_t)o->pages * PAGE;
    int fd = -1;
    if (o->file) {
        fd = open(o->file, O_RDWR | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st))
            fail(o->file);
        if ((uint64_t)st.st_size < bytes) {
            fprintf(stderr, "touch: %s has %jd bytes, the region %zu\n", o->file, (intmax_t)st.st_size, bytes);
            exit(2);
        }
    }
    int flags = o->file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint8_t *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (region == MAP_FAILED)
        fail("mmap");
    if (fd >= 0)
        close(fd);
    if (o->small_pages)
        (void)madvise(region, bytes, MADV_NOHUGEPAGE); /* EINVAL: a kernel without huge pages */
    return region;
}

static void advise(uint8_t *region, const struct options *o, int advice) {
    if (o->random_advice && madvise(region, (size_t)o->pages * PAGE, advice))
        fail("madvise");
}

static void fill_region(uint8_t *region, const struct options *o) {
    for (uint32_t page = 0; o->fill != NONE && page < o->pages; page++) {
        uint64_t *words = page_at(region, page);
        words[0] = o->fill == CONTENT ? content(o, page, 0) : stamp(page);
        for (size_t i = 1; i < WORDS; i++)
            words[i] = content(o, page, i);
    }
    /* Or the write-back of the fill would be in the first accesses' time. */
    if (o->file && msync(region, (size_t)o->pages * PAGE, MS_SYNC))
        fail("msync");
}

/* Number of wrong words in the region; `writes` must be what the pages' counts add up to. */
static uint64_t check_region(uint8_t *region, const struct options *o, uint64_t writes) {
    uint64_t wrong = 0, counted = 0;
    for (uint32_t page = 0; page < o->pages; page++) {
        const uint64_t *words = page_at(region, page);
        bool untouched = o->fill == NONE && !words[0];
        uint64_t numbered = o->fill == CONTENT ? words[0] - content(o, page, 0) + stamp(page) : words[0];
        wrong += !untouched && numbered >> 32 != page + 1;
        counted += (uint32_t)numbered;
        for (size_t i = 1; i < WORDS; i++)
            wrong += words[i] != content(o, page, i);
    }
    return wrong + (counted != writes);
}

static uint64_t resident_pages(uint8_t *region, const struct options *o) {
    uint8_t *in = malloc(o->pages);
    uint64_t n = 0;
    if (!in || mincore(region, (size_t)o->pages * PAGE, in))
        fail("mincore");
    for (uint32_t page = 0; page < o->pages; page++)
        n += in[page] & 1;
    free(in);
    return n;
}

/* Peak of the resident set, in bytes. getrusage's is not it: that one survives exec. */
static uint64_t peak_rss(void) {
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* ---- a log-linear histogram: 32 buckets to each doubling, so within 3.2 % ---- */

#define SUB 32u

struct histogram {
    uint64_t count[64 * SUB];
    uint64_t n, sum, max;
};

static size_t bucket_of(uint64_t value) {
    if (value < SUB)
        return (size_t)value;
    unsigned shift = 58u - (unsigned)__builtin_clzll(value); /* leaves the leading one and 5 bits */
    return (size_t)(shift + 1) * SUB + (size_t)((value >> shift) - SUB);
}

/* The middle of a bucket. */
static uint64_t value_of(size_t bucket) {
    if (bucket < SUB)
        return bucket;
    unsigned shift = (unsigned)(bucket / SUB) - 1;
    return ((uint64_t)(bucket % SUB + SUB) << shift) + (shift ? UINT64_C(1) << (shift - 1) : 0);
}

static void record(struct histogram *h, uint64_t ns) {
    h->count[bucket_of(ns)]++;
    h->n++;
    h->sum += ns;
    h->max = ns > h->max ? ns : h->max;
}

/* Nearest rank. */
static uint64_t percentile(const struct histogram *h, double q) {
    uint64_t rank = (uint64_t)(q * (double)h->n), before = 0;
    for (size_t i = 0; i < 64 * SUB; i++) {
        before += h->count[i];
        if (before > rank)
            return value_of(i);
    }
    return h->max;
}

/* ---- measuring ---- */

struct outcome {
    struct histogram *access;
    uint64_t elapsed_ns, writes, wrong, resident;
    struct rusage before, after;
};

static void measure(uint8_t *region, const struct options *o, const uint32_t *records, struct outcome *out) {
    struct source source = {.records = records, .random = o->seed};
    getrusage(RUSAGE_SELF, &out->before);
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < o->refs; i++) {
        bool write;
        uint32_t page = next_page(&source, o, &write);
        volatile uint64_t *word = page_at(region, page);
        uint64_t empty = stamp(page), start = now_ns();
        uint64_t seen = *word;
        if (write)
            *word = (seen || o->fill == CONTENT ? seen : empty) + 1;
        record(out->access, now_ns() - start);
        out->writes += write;
        if (o->fill != CONTENT)
            out->wrong += seen >> 32 != page + 1 && (seen || o->fill != NONE);
    }
    out->elapsed_ns = now_ns() - began;
    getrusage(RUSAGE_SELF, &out->after);
}

static void report(const struct options *o, const struct outcome *out) {
    const struct histogram *h = out->access;
    printf("{\"schema\": 1, \"memory\": \"%s\", \"pages\": %" PRIu32 ", \"seed\": %" PRIu64 ", \"fill\": \"%s\", ",
           o->file ? "file" : "anon", o->pages, o->seed, fill_names[o->fill]);
    printf("\"accesses\": %" PRIu64 ", \"writes\": %" PRIu64 ", \"elapsed_s\": %.9f, \"mean_ns\": %.1f, ", h->n, out->writes,
           (double)out->elapsed_ns / 1e9, (double)h->sum / (double)h->n);
    printf("\"p50_ns\": %" PRIu64 ", \"p90_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64
           ", \"max_ns\": %" PRIu64 ", ",
           percentile(h, 0.5), percentile(h, 0.9), percentile(h, 0.99), percentile(h, 0.999), h->max);
    printf("\"major_faults\": %ld, \"minor_faults\": %ld, \"resident_pages\": %" PRIu64 ", \"peak_rss\": %" PRIu64
           ", \"verified\": %s}\n",
           out->after.ru_majflt - out->before.ru_majflt, out->after.ru_minflt - out->before.ru_minflt, out->resident,
           peak_rss(), out->wrong ? "false" : "true");
}

/* ---- the command line ---- */

static const char usage_text[] =
    "usage: touch --pages N [--anon | --file PATH] [--fill none|word|half|random | --fill-file PATH]\n"
    "             [--huge never|default] [--random]\n"
    "             (--refs-file PATH [--refs N] | --pattern uniform|seq|stride:K --refs N [--write] [--seed N])\n";

static void usage(const char *what, const char *given) {
    fprintf(stderr, "touch: %s: %s\n%s", what, given, usage_text);
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

static int one_of(const char *name, const char *text, const char *const *known) {
    for (int i = 0; known[i]; i++)
        if (!strcmp(text, known[i]))
            return i;
    usage(name, text);
    return 0;
}

static void parse_pattern(struct options *o, const char *text) {
    static const char *const known[] = {"uniform", "seq", NULL};
    o->stride = 1;
    if (!strncmp(text, "stride:", 7)) {
        o->pattern = STRIDE;
        o->stride = (uint32_t)number("--pattern", text + 7, 1, WRITES - 1);
    } else {
        o->pattern = one_of("--pattern", text, known) ? SEQ : UNIFORM;
    }
}

static struct options parse(int argc, char **argv) {
    static const char *const huge[] = {"default", "never", NULL};
    static const struct option known[] = {
        {"pages", required_argument, NULL, 'p'},     {"refs", required_argument, NULL, 'n'},
        {"pattern", required_argument, NULL, 'a'},   {"write", no_argument, NULL, 'w'},
        {"refs-file", required_argument, NULL, 'r'}, {"seed", required_argument, NULL, 's'},
        {"anon", no_argument, NULL, 'm'},            {"file", required_argument, NULL, 'f'},
        {"fill", required_argument, NULL, 'c'},      {"huge", required_argument, NULL, 'u'},
        {"random", no_argument, NULL, 'd'},          {"help", no_argument, NULL, 'h'},
        {"fill-file", required_argument, NULL, 'F'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.seed = 1, .stride = 1, .small_pages = true};
    bool anon = false, pattern = false;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'p': o.pages = (uint32_t)number("--pages", optarg, 1, WRITES - 1); break;
        case 'n': o.refs = number("--refs", optarg, 1, UINT64_C(1) << 40); break;
        case 'a': parse_pattern(&o, optarg); pattern = true; break;
        case 'w': o.write = true; break;
        case 'r': o.refs_file = optarg; break;
        case 's': o.seed = number("--seed", optarg, 0, UINT64_MAX); break;
        case 'm': anon = true; break;
        case 'f': o.file = optarg; break;
        case 'c': o.fill = (enum fill)one_of("--fill", optarg, fill_names); break;
        case 'F': o.content_file = optarg; o.fill = CONTENT; break;
        case 'u': o.small_pages = one_of("--huge", optarg, huge); break;
        case 'd': o.random_advice = true; break;
        case 'h': fputs(usage_text, stdout); exit(0);
        default: fputs(usage_text, stderr); exit(2);
        }
    }
    if (o.fill == CONTENT && !o.content_file)
        usage("--fill", "content comes with --fill-file PATH");
    if (optind < argc)
        usage("unknown argument", argv[optind]);
    if (!o.pages)
        usage("--pages", "missing");
    if (anon && o.file)
        usage("--anon", "not together with --file");
    if (o.refs_file ? pattern || o.write : !o.refs)
        usage("--refs", "give a pattern and how many, or a file of references alone");
    if (o.stride > o.pages)
        usage("--pattern", "the stride is wider than the region");
    return o;
}

int main(int argc, char **argv) {
    struct options o = parse(argc, argv);
    struct outcome out = {.access = calloc(1, sizeof *out.access)};
    if (sysconf(_SC_PAGESIZE) != PAGE) {
        fprintf(stderr, "touch: written for pages of %u bytes; this machine's have %ld\n", PAGE, sysconf(_SC_PAGESIZE));
        return CANNOT;
    }
    if (!out.access)
        fail("calloc");
    const uint32_t *records = o.refs_file ? open_records(&o) : NULL;
    if (o.content_file)
        open_content(&o);
    uint8_t *region = map_region(&o);
    fill_region(region, &o);
    advise(region, &o, MADV_RANDOM);
    measure(region, &o, records, &out);
    out.resident = resident_pages(region, &o);
    advise(region, &o, MADV_NORMAL); /* the check goes through in order */
    out.wrong += check_region(region, &o, out.writes);
    report(&o, &out);
    return out.wrong ? 1 : 0;
}
