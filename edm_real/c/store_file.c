/* store_file.c: `file:PATH`, a sparse file with page P at offset P * page_size.
 *
 * The file is made by the store and has no name once it is open, so that nothing is left
 * behind however the process ends; `?keep=1` leaves it.
 * Without a path, or with a folder's, it is a new file there ($TMPDIR or /var/tmp).
 * A path that holds something already is refused: it is somebody's. A byte per page tells
 * whether it is there; reads of a page that was never put are an error, not zeros.
 */
#define _GNU_SOURCE
#include "stores.h"
#include "sync.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LOCKS = 64 };

struct file {
    edm_store base;
    int fd, keep;
    char *path;
    _Atomic uint8_t *present;
    edm_lock lock[LOCKS]; /* one for every LOCKS-th page: file systems do not keep a read and a write
                             of the same bytes apart, and a reader must see the old page or the new */
    _Atomic uint64_t gets, puts, dels, errors, kept, bytes_in, bytes_out;
};

static edm_lock *lock_of(struct file *f, uint64_t page) { return &f->lock[page % LOCKS]; }

/* The whole page or an error; interrupted and short transfers go on. */
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

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    int failed = 0;
    (void)deadline_ns; /* a local file answers or fails */
    for (uint32_t i = 0; i < n; i++) {
        edm_lock_take(lock_of(f, io[i].page));
        io[i].result = transfer(f->fd, 1, io[i].data, edm_io_size(s, &io[i]), io[i].page * s->page_size);
        uint8_t there = !io[i].result, was = atomic_exchange(&f->present[io[i].page], there);
        edm_lock_give(lock_of(f, io[i].page));
        failed += !there; /* half of a page may be written: it is not there any more */
        if (there && !was) f->kept++;
        else if (was && !there) f->kept--;
    }
    f->puts += n;
    f->bytes_in += edm_io_bytes(s, io, n);
    if (failed) f->errors += (uint64_t)failed;
    return -failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    int failed = 0;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        edm_lock_take(lock_of(f, io[i].page));
        io[i].result = f->present[io[i].page]
                           ? transfer(f->fd, 0, io[i].data, edm_io_size(s, &io[i]), io[i].page * s->page_size) : -ENOENT;
        edm_lock_give(lock_of(f, io[i].page));
        failed += io[i].result != 0;
    }
    f->gets += n;
    f->bytes_out += edm_io_bytes(s, io, n);
    if (failed) f->errors += (uint64_t)failed;
    return -failed;
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct file *f = (struct file *)s;
    (void)deadline_ns;
    for (uint32_t i = 0; i < n; i++) {
        edm_lock_take(lock_of(f, io[i].page));
        if (atomic_exchange(&f->present[io[i].page], 0)) f->kept--;
        /* Space back where the file system can; the page is gone either way. */
        fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(io[i].page * s->page_size), s->page_size);
        edm_lock_give(lock_of(f, io[i].page));
        io[i].result = 0;
    }
    f->dels += n;
    return 0;
}

static int sync_file(edm_store *s, uint64_t deadline_ns) {
    (void)deadline_ns;
    return fdatasync(((struct file *)s)->fd) ? -errno : 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    struct file *f = (struct file *)s;
    *out = (edm_store_stats){.gets = f->gets, .puts = f->puts, .dels = f->dels, .errors = f->errors,
                             .bytes_in = f->bytes_in, .bytes_out = f->bytes_out,
                             .pages = f->kept, .bytes_held = f->kept * s->page_size};
}

static void close_file(edm_store *s) {
    struct file *f = (struct file *)s;
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free((void *)f->present);
    free(f);
}

static const edm_store_ops ops = {"file", put, get, del, sync_file, stats, close_file};

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

static edm_store *open_file(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    struct file *f = calloc(1, sizeof *f);
    if (f) {
        f->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING, page_size, pages};
        f->fd = -1;
        f->path = strdup(rest);
        f->present = calloc(pages, 1);
    }
    if (!f || !f->path || !f->present) {
        refuse(why, why_size, rest, "out of memory", "ask for fewer pages");
        if (f) close_file(&f->base);
        return NULL;
    }
    char *options = strchr(f->path, '?');
    if (options) {
        *options++ = '\0';
        f->keep = !strcmp(options, "keep=1");
        f->base.caps |= f->keep ? EDM_STORE_PERSISTENT : 0;
        if (!f->keep && strcmp(options, "keep=0")) {
            refuse(why, why_size, rest, "unknown option", "there is ?keep=1 (leave the file when done)");
            close_file(&f->base);
            return NULL;
        }
    }
    if (open_path(f, why, why_size)) {
        close_file(&f->base);
        return NULL;
    }
    return &f->base;
}

const edm_store_kind edm_store_file = {"file:", "file:[PATH][?keep=1]", open_file};
