/* store.c: which store a URL names. A store is a file store_NAME.c and a line here. */
#include "stores.h"

#include <stdio.h>
#include <string.h>

static const edm_store_kind *const kinds[] = {&edm_store_mem, &edm_store_file, &edm_store_zstd, &edm_store_lz4,
                                             &edm_store_redis, &edm_store_redis_unix, &edm_store_redis_cluster,
                                             &edm_store_redis_tls,
                                             &edm_store_shaped, &edm_store_replicated, &edm_store_striped, &edm_store_sealed};

/* The kind whose name the URL begins with, though not as it should: "redis:host", "zstd:mem:". NULL: none. */
static const edm_store_kind *meant(const char *url) {
    const edm_store_kind *found = NULL;
    for (size_t i = 0, most = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strcspn(kinds[i]->prefix, ":/");
        if (kinds[i]->prefix[n - 1] == '+') n--;
        if (n <= most || strncmp(url, kinds[i]->prefix, n) || !strchr(":+/", url[n])) continue;
        most = n;
        found = kinds[i];
    }
    return found;
}

edm_store *edm_store_open(const char *url, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]->prefix);
        if (!strncmp(url, kinds[i]->prefix, n)) return kinds[i]->open(url + n, page_size, pages, why, why_size);
    }
    if (!*url) {
        snprintf(why, why_size, "unknown store: the URL is empty; write mem:, file:PATH, redis://HOST:PORT/0 or another of docs/stores.md");
        return NULL;
    }
    if (*url == '[') {
        snprintf(why, why_size, "store: a URL begins with '['; brackets go in pairs around the members of replicated: and "
                 "striped:, as in striped:[shaped:p50=1ms,mem:],mem:");
        return NULL;
    }
    /* What follows the scheme may be a password. */
    const edm_store_kind *near = meant(url);
    if (near) {
        snprintf(why, why_size, "store %.*s: this URL cannot be; write %s", (int)strcspn(near->prefix, ":/"), near->prefix, near->usage);
        return NULL;
    }
    int at = snprintf(why, why_size, "unknown store '%.*s'; there are:", (int)strcspn(url, ":+@"), url);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && at >= 0 && (size_t)at < why_size; i++)
        at += snprintf(why + at, why_size - (size_t)at, " %s", kinds[i]->prefix);
    return NULL;
}
