/* prefetch.c: a prefetcher's parameters, checked. */
#include "prefetch.h"

#include <stdio.h>

int edm_prefetch_count(edm_pager *p, const char *key, uint32_t otherwise, uint32_t least, uint32_t most, uint32_t *out) {
    double value = edm_prefetch_param(p, key, otherwise);
    char line[120];
    if (!(value >= least && value <= most) || value != (double)(uint32_t)value) {
        snprintf(line, sizeof line, "%s of prefetcher %s must be a whole number from %u to %u", key, p->pf->name, least, most);
        return edm_refuse(p, line);
    }
    *out = (uint32_t)value;
    return 0;
}
