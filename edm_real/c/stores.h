/* stores.h: the kinds of stores, and how their URLs are read; for store.c and the stores. */
#ifndef EDM_STORES_H
#define EDM_STORES_H

#include "store.h"

typedef struct edm_store_kind {
    const char *prefix; /* "mem:", "zstd+" */
    const char *usage;  /* "mem:[?cap=64MiB]" */
    /* `rest`: the URL after the prefix. NULL with one line in `why`, which never holds a password. */
    edm_store *(*open)(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size);
} edm_store_kind;

extern const edm_store_kind edm_store_mem, edm_store_file, edm_store_shaped, edm_store_zstd, edm_store_lz4,
    edm_store_redis, edm_store_redis_unix, edm_store_redis_cluster, edm_store_redis_tls, edm_store_replicated,
    edm_store_striped, edm_store_sealed;

/* What an option's text is read as. */
enum edm_url_type {
    EDM_URL_NUMBER,  /* double: 0.5 */
    EDM_URL_COUNT,   /* uint64_t: 3 */
    EDM_URL_SIZE,    /* uint64_t, bytes: 64MiB */
    EDM_URL_TIME,    /* uint64_t, nanoseconds: 120us, 5ms, 1s; a bare number is microseconds */
    EDM_URL_SHARE,   /* double, 0 .. 1 */
    EDM_URL_TEXT,    /* char[EDM_URL_TEXT_MAX] */
    EDM_URL_SWITCH   /* uint64_t: 0 or 1 */
};
enum { EDM_URL_TEXT_MAX = 256 };

typedef struct edm_url_option {
    const char *name; /* NULL ends the list */
    enum edm_url_type type;
    void *value;      /* left as it is unless given */
} edm_url_option;

/* Reads "name=value&name=value". 0, or -EINVAL with one line in `why`. */
int edm_url_options(const char *text, const edm_url_option *options, const char *store, char *why, size_t why_size);
/* Reads one "name=value" of `length` bytes. */
int edm_url_option_read(const char *text, size_t length, const edm_url_option *options, const char *store, char *why,
                        size_t why_size);

#endif
