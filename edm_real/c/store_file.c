/* store_file.c: `file:PATH`, a sparse file with page P at offset P * page_size.
 *
 * The file is made by the store and has no name once it is open, so that nothing is left
 * behind however the process ends; `?keep=1` leaves it.
 * Without a path, or with a folder's, it is a new file there ($TMPDIR or /var/tmp).
 * A path that holds something already is refused: it is somebody's. A word per page tells how many
 * bytes are there, and locks it: file systems do not keep a read and a write of the same bytes apart, and
 * a reader must see the old page or the new. Reads of a page that was never put are an error, not zeros.
 *
 * Space of pages that are deleted, or became smaller, goes back to the file system (holes), unless
 * all of it was taken at the start (`prealloc=1`). `direct=1` goes around the page cache (O_DIRECT):
 * blocks of BLOCK bytes, from memory aligned to it or by a bounce buffer. Batches of whole pages then go
 * through io_uring where it is to be had, so that the disc has many requests at a time; one batch
 * a ring, and the batch that finds no ring free is read or written page by page.
 */
#define _GNU_SOURCE
#include "slots.h"
#include "stores.h"
#include "uring.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { BLOCK = 4096, RINGS = 4, BATCH = EDM_URING_DEPTH };

struct file {
    edm_store base;
    int fd;
    uint64_t keep, direct, prealloc, uring; /* options */
    char *path;
    _Atomic uint32_t *page; /* bytes that are there << 1 | locked */
    edm_slots slots;        /* direct: one bounce buffer each */
    uint8_t *bounce;
    struct {
        edm_lock lock;
        edm_uring *ring;
    } ring[RINGS];
    uint64_t rings;
    _Atomic uint64_t gets, puts, dels, errors, kept, held, bytes_in, bytes_out;
};

static uint64_t blocks(uint64_t bytes) { return (bytes + BLOCK - 1) / BLOCK * BLOCK; }

static uint64_t place(const struct file *f, uint64_t page) { return page * f->base.page_size; }

/* ---- the lock of a page ---- */

static int lock_one(struct file *f, uint64_t page) {
    uint32_t seen = atomic_load_explicit(&f->page[page], memory_order_relaxed);
    return !(seen & 1) && atomic_compare_exchange_strong_explicit(&f->page[page], &seen, seen | 1, memory_order_acquire,
                                                                  memory_order_relaxed);
}

static uint32_t bytes_there(struct file *f, uint64_t page) {
    return atomic_load_explicit(&f->page[page], memory_order_relaxed) >> 1;
}

/* With `bytes` there from now on. */
static void unlock(struct file *f, uint64_t page, uint32_t bytes) {
    atomic_store_explicit(&f->page[page], bytes << 1, memory_order_release);
}

static int is_before(const edm_store_io *io, uint32_t k) {
    for (uint32_t i = 0; i < k; i++)
        if (io[i].page == io[k].page) return 1;
    return 0;
}

/* The pages of `mine`, a bit for each item, are let go as they are. */
static void unlock_all(struct file *f, const edm_store_io *io, uint32_t n, uint64_t mine) {
    for (uint32_t i = 0; i < n; i++)
        if (mine >> i & 1) unlock(f, io[i].page, bytes_there(f, io[i].page));
}

/* All or none, so that two batches never wait for each other; once each, if a get names a page twice. */
static int lock_all(struct file *f, const edm_store_io *io, uint32_t n, uint64_t *mine, uint64_t deadline_ns) {
    for (;;) {
        uint32_t k = 0;
        for (*mine = 0; k < n; k++) {
            if (lock_one(f, io[k].page)) *mine |= 1ull << k;
            else if (!is_before(io, k)) break;
        }
        if (k == n) return 0;
        unlock_all(f, io, k, *mine);
        if (edm_now_ns() >= deadline_ns) return -ETIMEDOUT;
        sched_yield();
    }
}

/* ---- bytes to and from the file ---- */

/* All of it or an error; interrupted and short transfers go on. */
static int transfer(int fd, int writing, uint8_t *data, size_t left, uint64_t offset) {
    while (left) {
        ssize_t n = writing ? pwrite(fd, data, left, (off_t)offset) : pread(fd, data, left, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -EIO; /* the file was cut by somebody else */
        data += n;
        left -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int is_aligned(const edm_store_io *io, uint32_t size) { return !((uintptr_t)io->data % BLOCK) && !(size % BLOCK); }

static int by_bounce(struct file *f, int writing, void *data, uint32_t size, uint64_t offset, uint64_t deadline_ns) {
    int slot = edm_slot_take(&f->slots, deadline_ns);
    if (slot < 0) return slot;
    uint8_t *buffer = f->bounce + (size_t)slot * f->base.page_size;
    if (writing) memcpy(buffer, data, size);
    if (writing) memset(buffer + size, 0, blocks(size) - size);
    int error = transfer(f->fd, writing, buffer, blocks(size), offset);
    if (!writing && !error) memcpy(data, buffer, size);
    edm_slot_give(&f->slots, slot);
    return error;
}

static void one(struct file *f, int writing, edm_store_io *io, uint64_t deadline_ns) {
    uint32_t size = edm_io_size(&f->base, io);
    io->result = f->direct && !is_aligned(io, size) ? by_bounce(f, writing, io->data, size, place(f, io->page), deadline_ns)
                                                    : transfer(f->fd, writing, io->data, size, place(f, io->page));
}

/* Those that may go that way do, and get their result; the others stay -EINPROGRESS. */
static void by_ring(struct file *f, edm_uring *ring, int writing, edm_store_io *io, uint32_t n) {
    edm_uring_io in[BATCH];
    uint32_t of[BATCH], k = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = edm_io_size(&f->base, &io[i]);
        if (io[i].result != -EINPROGRESS || (f->direct && !is_aligned(&io[i], size))) continue;
        of[k] = i;
        in[k++] = (edm_uring_io){.data = io[i].data, .offset = place(f, io[i].page), .size = size};
    }
    edm_uring_transfer(ring, f->fd, writing, in, k);
    for (uint32_t j = 0; j < k; j++) /* what was cut short, or never taken, is done the other way */
        if (in[j].result == (int32_t)in[j].size) io[of[j]].result = 0;
}

/* Of locked pages, each with -EINPROGRESS as its result or an error already. */
static void move(struct file *f, int writing, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    for (uint32_t k = 0; n > 1 && k < f->rings; k++) {
        if (!edm_lock_try(&f->ring[k].lock)) continue;
        by_ring(f, f->ring[k].ring, writing, io, n);
        edm_lock_give(&f->ring[k].lock);
        break;
    }
    for (uint32_t i = 0; i < n; i++)
        if (io[i].result == -EINPROGRESS) one(f, writing, &io[i], deadline_ns);
}

/* Space back where the file system can; what was there is gone either way. */
static void give_back(struct file *f, uint64_t page, uint64_t from, uint64_t to) {
    if (from < to && !f->prealloc)
        fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(place(f, page) + from), (off_t)(to - from));
}

/* The locked page has `bytes` from now on, and is let go. */
static void settle(struct file *f, uint64_t page, uint32_t bytes) {
    uint32_t was = bytes_there(f, page);
    if (bytes && !was) f->kept++;
    if (was && !bytes) f->kept--;
    f->held += blocks(bytes) - blocks(was);
    give_back(f, page, blocks(bytes), blocks(was));
    unlock(f, page, bytes);
}

/* ---- the operations ---- */

static int all_failed(edm_store_io *io, uint32_t n, int error) {
    for (uint32_t i = 0; i < n; i++) io[i].result = error;
    return -(int)n;
}

static int put_some(struct file *f, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint64_t mine;
    int failed = 0;
    if (lock_all(f, io, n, &mine, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) io[i].result = -EINPROGRESS;
    move(f, 1, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++) { /* half of a page may be written: then it is not there any more */
        settle(f, io[i].page, io[i].result ? 0 : edm_io_size(&f->base, &io[i]));
        failed += io[i].result != 0;
    }
    return -failed;
}

static int get_some(struct file *f, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint64_t mine;
    int failed = 0;
    if (lock_all(f, io, n, &mine, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t there = bytes_there(f, io[i].page);
        io[i].result = !there ? -ENOENT : there != edm_io_size(&f->base, &io[i]) ? -EBADMSG : -EINPROGRESS;
    }
    move(f, 0, io, n, deadline_ns);
    unlock_all(f, io, n, mine);
    for (uint32_t i = 0; i < n; i++) failed += io[i].result != 0;
    return -failed;
}

static int del_some(struct file *f, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    uint64_t mine;
    if (lock_all(f, io, n, &mine, deadline_ns)) return all_failed(io, n, -ETIMEDOUT);
    for (uint32_t i = 0; i < n; i++) {
        settle(f, io[i].page, 0);
        io[i].result = 0;
    }
    return 0;
}

typedef int (*some)(struct file *f, edm_store_io *io, uint32_t n, uint64_t deadline_ns);

static int in_batches(struct file *f, some fn, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    int failed = 0;
    for (uint32_t i = 0; i < n; i += BATCH) failed += fn(f, io + i, n - i < BATCH ? n - i : BATCH, deadline_ns);
    if (failed) f->errors += (uint64_t)-failed;
    return failed;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    f->puts += n;
    f->bytes_in += edm_io_bytes(s, io, n);
    return in_batches(f, put_some, io, n, deadline_ns);
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    f->gets += n;
    f->bytes_out += edm_io_bytes(s, io, n);
    return in_batches(f, get_some, io, n, deadline_ns);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    f->dels += n;
    return in_batches(f, del_some, io, n, deadline_ns);
}

static int sync_file(edm_store *s, uint64_t deadline_ns) {
    (void)deadline_ns;
    return fdatasync(((struct file *)s)->fd) ? -errno : 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    struct file *f = (struct file *)s;
    *out = (edm_store_stats){.gets = f->gets, .puts = f->puts, .dels = f->dels, .errors = f->errors,
                             .bytes_in = f->bytes_in, .bytes_out = f->bytes_out,
                             .pages = f->kept, .bytes_held = f->held, .rings = f->rings};
}

static void close_file(edm_store *s) {
    struct file *f = (struct file *)s;
    for (int i = 0; i < RINGS; i++) edm_uring_close(f->ring[i].ring);
    if (f->fd >= 0) close(f->fd);
    if (f->bounce) munmap(f->bounce, (size_t)EDM_SLOTS * s->page_size);
    free(f->path);
    free((void *)f->page);
    free(f);
}

static const edm_store_ops ops = {"file", put, get, del, sync_file, stats, .close = close_file};

/* ---- opening ---- */

static int refuse(char *why, size_t why_size, const char *path, const char *what, const char *fix) {
    snprintf(why, why_size, "store file:%s: %s; %s", path, what, fix);
    return -1;
}

/* A new file in a folder: the path is replaced by the file's own. */
static int open_in_folder(struct file *f, const char *folder, char *why, size_t why_size) {
    char *path;
    if (asprintf(&path, "%s/edm-pages-XXXXXX", folder) < 0) return refuse(why, why_size, folder, "out of memory", "try again");
    free(f->path);
    f->path = path;
    f->fd = mkostemp(path, O_CLOEXEC);
    if (f->fd < 0) return refuse(why, why_size, folder, strerror(errno), "give a folder or path you may write to");
    if (!f->keep) unlink(path);
    return 0;
}

/* An empty file may be taken: mkstemp() leaves one. */
static int open_path(struct file *f, char *why, size_t why_size) {
    struct stat st;
    if (!*f->path) {
        const char *folder = getenv("TMPDIR");
        return open_in_folder(f, folder && *folder ? folder : "/var/tmp", why, why_size);
    }
    if (!stat(f->path, &st) && S_ISDIR(st.st_mode)) {
        char *folder = strdup(f->path);
        int error = folder ? open_in_folder(f, folder, why, why_size) : -1;
        free(folder);
        return error;
    }
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->fd < 0) return refuse(why, why_size, f->path, strerror(errno), "give a path you may write to");
    if (!fstat(f->fd, &st) && S_ISREG(st.st_mode) && st.st_size == 0) {
        if (!f->keep) unlink(f->path);
        return 0;
    }
    close(f->fd);
    f->fd = -1;
    return refuse(why, why_size, f->path, "there is something already", "give a path that does not exist, or remove it");
}

/* What the options ask of the open file. */
static int prepare(struct file *f, char *why, size_t why_size) {
    off_t all = (off_t)(f->base.pages * f->base.page_size);
    char what[128];
    if (f->direct) {
        f->bounce = mmap(NULL, (size_t)EDM_SLOTS * f->base.page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->bounce == MAP_FAILED) f->bounce = NULL;
        if (!f->bounce) return refuse(why, why_size, f->path, "out of memory", "ask for fewer pages");
        if (fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_DIRECT) || pread(f->fd, f->bounce, BLOCK, 0) < 0)
            return refuse(why, why_size, f->path, "its file system does not take O_DIRECT", "leave direct=1 out");
    }
    if (f->prealloc && fallocate(f->fd, 0, 0, all)) {
        snprintf(what, sizeof what, "no %llu MiB for prealloc=1: %s", (unsigned long long)all >> 20, strerror(errno));
        return refuse(why, why_size, f->path, what, errno == ENOSPC ? "make room, or give another path" : "leave prealloc=1 out");
    }
    while (f->uring && f->rings < RINGS && !edm_uring_open(&f->ring[f->rings].ring)) f->rings++;
    return 0;
}

static int read_options(struct file *f, char *why, size_t why_size) {
    const edm_url_option known[] = {{"keep", EDM_URL_SWITCH, &f->keep},         {"direct", EDM_URL_SWITCH, &f->direct},
                                    {"prealloc", EDM_URL_SWITCH, &f->prealloc}, {"uring", EDM_URL_SWITCH, &f->uring},
                                    {0}};
    char *options = strchr(f->path, '?');
    f->uring = UINT64_MAX;
    if (options) *options++ = '\0';
    if (options && edm_url_options(options, known, "file", why, why_size)) return -1;
    if (f->uring == UINT64_MAX) f->uring = f->direct; /* what is in the page cache comes faster without */
    return 0;
}

static edm_store *open_file(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    struct file *f = calloc(1, sizeof *f);
    if (f) {
        f->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING, page_size, pages};
        f->fd = -1;
        f->path = strdup(rest);
        f->page = calloc(pages, sizeof *f->page);
    }
    if (!f || !f->path || !f->page) refuse(why, why_size, rest, "out of memory", "ask for fewer pages");
    else if (!read_options(f, why, why_size) && !open_path(f, why, why_size) && !prepare(f, why, why_size)) {
        f->base.caps |= f->keep ? EDM_STORE_PERSISTENT : 0;
        return &f->base;
    }
    if (f && f->fd >= 0 && ftruncate(f->fd, 0)) {} /* of a file that stays, nothing but its name */
    if (f) close_file(&f->base);
    return NULL;
}

const edm_store_kind edm_store_file = {"file:", "file:[PATH][?keep=1&direct=1&prealloc=1&uring=0]", open_file};
