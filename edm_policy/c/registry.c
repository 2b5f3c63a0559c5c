/* registry.c: the policies there are. A new one is a file, a line in policies.def, and its tests. */
#include "core.h"

#include <string.h>

#define EVICTOR(id) const edm_evictor *edm_evictor_##id(void);
#define PREFETCHER(id) const edm_prefetcher *edm_prefetcher_##id(void);
#include "policies.def"
#undef EVICTOR
#undef PREFETCHER

typedef const edm_evictor *(*evictor_fn)(void);
typedef const edm_prefetcher *(*prefetcher_fn)(void);

static const evictor_fn evictor_list[] = {
#define EVICTOR(id) edm_evictor_##id,
#define PREFETCHER(id)
#include "policies.def"
#undef EVICTOR
#undef PREFETCHER
};

static const prefetcher_fn prefetcher_list[] = {
#define EVICTOR(id)
#define PREFETCHER(id) edm_prefetcher_##id,
#include "policies.def"
#undef EVICTOR
#undef PREFETCHER
};

/* `spec` may go on with ":key=value". */
static int named(const char *spec, const char *name) {
    size_t n = strcspn(spec, ":");
    return strlen(name) == n && !strncmp(spec, name, n);
}

uint32_t edm_evictor_count(void) { return sizeof evictor_list / sizeof *evictor_list; }
const edm_evictor *edm_evictor_at(uint32_t i) { return i < edm_evictor_count() ? evictor_list[i]() : NULL; }

const edm_evictor *edm_evictor_named(const char *name) {
    for (uint32_t i = 0; i < edm_evictor_count(); i++)
        if (named(name, edm_evictor_at(i)->name)) return edm_evictor_at(i);
    return NULL;
}

uint32_t edm_prefetcher_count(void) { return sizeof prefetcher_list / sizeof *prefetcher_list; }
const edm_prefetcher *edm_prefetcher_at(uint32_t i) { return i < edm_prefetcher_count() ? prefetcher_list[i]() : NULL; }

const edm_prefetcher *edm_prefetcher_named(const char *name) {
    for (uint32_t i = 0; i < edm_prefetcher_count(); i++)
        if (named(name, edm_prefetcher_at(i)->name)) return edm_prefetcher_at(i);
    return NULL;
}
