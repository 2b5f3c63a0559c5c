/* store.c: which store a URL names. */
#include "store.h"

#include <stdio.h>

edm_store *edm_store_open(const char *url, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    (void)page_size, (void)pages;
    snprintf(why, why_size, "unknown store '%s'", url);
    return NULL;
}
