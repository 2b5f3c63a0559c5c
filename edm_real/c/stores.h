/* stores.h: the kinds of stores, for store.c and the stores themselves. */
#ifndef EDM_STORES_H
#define EDM_STORES_H

#include "store.h"

typedef struct edm_store_kind {
    const char *scheme; /* "mem" */
    const char *usage;  /* "mem:" */
    /* `rest`: the URL after its first colon. NULL with one line in `why`. */
    edm_store *(*open)(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size);
} edm_store_kind;

extern const edm_store_kind edm_store_mem, edm_store_file;

#endif
