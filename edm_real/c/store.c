/* store.c: which store a URL names. A store is a file store_NAME.c and a line here. */
#include "stores.h"

#include <stdio.h>
#include <string.h>

static const edm_store_kind *const kinds[] = {&edm_store_mem, &edm_store_file, &edm_store_zstd, &edm_store_lz4,
                                             &edm_store_redis, &edm_store_redis_unix, &edm_store_redis_cluster,
                                             &edm_store_redis_tls,
                                             &edm_store_shaped, &edm_store_replicated, &edm_store_striped, &edm_store_sealed};

edm_store *edm_store_open(const char *url, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]->prefix);
        if (!strncmp(url, kinds[i]->prefix, n)) return kinds[i]->open(url + n, page_size, pages, why, why_size);
    }
    if (*url == '[') {
        snprintf(why, why_size, "store: a URL begins with '['; brackets go in pairs around the members of replicated: and "
                 "striped:, as in striped:[shaped:p50=1ms,mem:],mem:");
        return NULL;
    }
    /* What follows the scheme may be a password. */
    int at = snprintf(why, why_size, "unknown store '%.*s'; there are:", (int)strcspn(url, ":+@"), url);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && at >= 0 && (size_t)at < why_size; i++)
        if (*kinds[i]->usage) at += snprintf(why + at, why_size - (size_t)at, " %s", kinds[i]->usage);
    return NULL;
}
