/* make.c: making and freeing a pager, its parameters, and looking at it. */
#include "core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int edm_refuse(edm_pager *p, const char *why) {
    if (p->why_size && !p->why[0]) snprintf(p->why, p->why_size, "%s", why);
    return -1;
}

/* "name:key=value:key=value" -> the name alone, and the pairs. */
static int parse_params(edm_param_set *set, const char *spec) {
    snprintf(set->name, sizeof set->name, "%s", spec);
    char *at = strchr(set->name, ':');
    while (at) {
        *at++ = '\0';
        char *key = at, *eq = strchr(at, '='), *end;
        at = strchr(at, ':');
        if (!eq || (at && eq > at) || set->n == EDM_PARAMS_MAX) return -1;
        *eq = '\0';
        set->at[set->n].key = key;
        set->at[set->n].value = strtod(eq + 1, &end);
        if (end == eq + 1 || (*end && end != at) || !isfinite(set->at[set->n].value)) return -1;
        set->n++;
    }
    return 0;
}

static double param(edm_param_set *set, const char *key, double otherwise) {
    for (uint32_t i = 0; i < set->n; i++)
        if (!strcmp(set->at[i].key, key)) {
            set->at[i].used = 1;
            return set->at[i].value;
        }
    return otherwise;
}

static const char *unused_param(const edm_param_set *set) {
    for (uint32_t i = 0; i < set->n; i++)
        if (!set->at[i].used) return set->at[i].key;
    return NULL;
}

static int refuse_unused(edm_pager *p, const edm_param_set *set, const char *has) {
    const char *key = unused_param(set);
    char line[160];
    if (!key) return 0;
    if (!has || !*has) has = "none";
    snprintf(line, sizeof line, "'%s' is no parameter of %s; it has %s", key, set->name, has);
    return edm_refuse(p, line);
}

double edm_param(edm_pager *p, const char *key, double otherwise) { return param(&p->ev_params, key, otherwise); }
double edm_prefetch_param(edm_pager *p, const char *key, double otherwise) {
    return param(&p->pf_params, key, otherwise);
}

static const char *const observe_names[] = {"faults", "idle", "exact"};

static int check_config(edm_pager *p) {
    const edm_config *c = &p->config;
    char line[160];
    if (c->pages == 0 || c->pages > 0xfffffff0u) return edm_refuse(p, "pages must be 1 .. 2^32 - 17");
    if (c->low >= c->high || c->high > c->limit) {
        snprintf(line, sizeof line, "low %u, high %u, limit %u: must be low < high <= limit", c->low, c->high, c->limit);
        return edm_refuse(p, line);
    }
    if (c->batch == 0 || c->batch > EDM_CMDS_MAX / 2) return edm_refuse(p, "batch must be 1 .. 256");
    if (c->auto_min && (c->auto_min > c->limit || !c->auto_target || !c->auto_interval))
        return edm_refuse(p, "auto needs auto_min <= limit, and a target and an interval above 0");
    if (c->observe > EDM_OBSERVE_EXACT) return edm_refuse(p, "observe must be faults, idle or exact");
    if (c->observe < p->ev->needs) {
        snprintf(line, sizeof line, "%s needs observation %s; %s is all there is here", p->ev->name,
                 observe_names[p->ev->needs], observe_names[c->observe]);
        return edm_refuse(p, line);
    }
    return 0;
}

static void *grab(edm_pager *p, size_t bytes) {
    void *mem = calloc(1, bytes ? bytes : 1);
    if (mem) p->bytes += bytes;
    return mem;
}

static int build(edm_pager *p, const edm_evictor *ev, void *ev_ctx, const edm_prefetcher *pf, void *pf_ctx) {
    const edm_config *c = &p->config;
    char line[160];
    if (parse_params(&p->ev_params, c->evict) || parse_params(&p->pf_params, c->prefetch))
        return edm_refuse(p, "a policy is written name or name:key=number:key=number (at most 8)");
    p->ev = ev ? ev : edm_evictor_named(c->evict);
    p->pf = pf ? pf : edm_prefetcher_named(c->prefetch);
    if (!p->ev || !p->pf) {
        snprintf(line, sizeof line, "unknown %s '%s'", p->ev ? "prefetcher" : "evictor",
                 p->ev ? p->pf_params.name : p->ev_params.name);
        return edm_refuse(p, line);
    }
    if (check_config(p)) return -1;
    p->pages = c->pages;
    p->low = c->low;
    p->high = c->high;
    p->limit = c->limit;
    p->observe = c->observe;
    p->dirty_always = c->dirty == EDM_DIRTY_ALWAYS;
    p->rng = c->seed;
    p->ev_ctx = ev_ctx;
    p->pf_ctx = pf_ctx;
    if (c->working_set || c->auto_min) p->left_at = grab(p, (size_t)c->pages * sizeof *p->left_at);
    p->word = grab(p, (size_t)c->pages * sizeof *p->word);
    p->ev_mem = grab(p, p->ev->size(c));
    p->pf_mem = grab(p, p->pf->size(c));
    if (!p->word || (!p->left_at && (c->working_set || c->auto_min)) || !p->ev_mem || !p->pf_mem) return edm_refuse(p, "out of memory for the page table");
    if (p->ev->init(p, p->ev_mem, ev_ctx) || p->pf->init(p, p->pf_mem, pf_ctx))
        return edm_refuse(p, "the policy could not be set up");
    if (refuse_unused(p, &p->ev_params, p->ev->params)) return -1;
    return refuse_unused(p, &p->pf_params, p->pf->params);
}

edm_pager *edm_pager_new_with(const edm_config *config, const edm_evictor *evictor, void *evictor_ctx,
                              const edm_prefetcher *prefetcher, void *prefetcher_ctx, char *why, size_t why_size) {
    edm_pager *p = calloc(1, sizeof *p);
    if (why_size) why[0] = '\0';
    if (!p) {
        if (why_size) snprintf(why, why_size, "out of memory");
        return NULL;
    }
    p->bytes = sizeof *p;
    p->config = *config;
    p->why = why;
    p->why_size = why_size;
    if (build(p, evictor, evictor_ctx, prefetcher, prefetcher_ctx)) {
        edm_pager_free(p);
        return NULL;
    }
    p->why = NULL;
    p->why_size = 0;
    return p;
}

edm_pager *edm_pager_new(const edm_config *config, char *why, size_t why_size) {
    return edm_pager_new_with(config, NULL, NULL, NULL, NULL, why, why_size);
}

void edm_pager_free(edm_pager *p) {
    if (!p) return;
    free(p->word);
    free(p->left_at);
    free(p->ev_mem);
    free(p->pf_mem);
    free(p);
}

void edm_set_future(edm_pager *p, const uint32_t *next, uint64_t n) {
    p->future = next;
    p->future_n = n;
}

void edm_set_position(edm_pager *p, uint64_t i) { p->position = i; }

int edm_set_plan(edm_pager *p, const uint32_t *pages, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (pages[i] >= p->pages) return -1;
    p->plan = pages;
    p->plan_n = n;
    return 0;
}

int edm_needs_plan(const edm_pager *p) { return p->pf->needs_plan && !p->plan; }

int edm_page_state(const edm_pager *p, uint32_t page) { return (int)edm_state_of(p, page); }
uint32_t edm_page_word(const edm_pager *p, uint32_t page) { return p->word[page]; }
const uint16_t *edm_page_words(const edm_pager *p) { return p->word; }
uint32_t edm_resident(const edm_pager *p) { return p->lspt; }
uint32_t edm_leaving(const edm_pager *p) { return p->leaving; }
const edm_stats *edm_stats_of(const edm_pager *p) { return &p->stats; }
const edm_config *edm_config_of(const edm_pager *p) { return &p->config; }
uint32_t edm_limit_now(const edm_pager *p) { return p->limit; }
size_t edm_pager_bytes(const edm_pager *p) { return p->bytes; }
void *edm_own(edm_pager *p) { return p->ev_mem; }
void *edm_own_ctx(edm_pager *p) { return p->ev_ctx; }
void *edm_prefetch_own(edm_pager *p) { return p->pf_mem; }
void *edm_prefetch_ctx(edm_pager *p) { return p->pf_ctx; }

int64_t edm_known_pages(const edm_pager *p) {
    int64_t n = 0;
    for (uint32_t i = 0; i < p->pages; i++) n += edm_known(p, i);
    return n;
}

/* May a page at rest in this state carry these flags? */
static int word_ok(const edm_pager *p, uint16_t w) {
    switch (w & EDM_STATE_MASK) {
    case EDM_NEW: return !(w & (EDM_DIRTY | EDM_COPY | EDM_PREFETCHED));
    case EDM_REMOTE: return (w & EDM_COPY) && !(w & (EDM_DIRTY | EDM_PREFETCHED));
    case EDM_RESIDENT: return !p->dirty_always || (w & (EDM_DIRTY | EDM_PENDING)) == EDM_DIRTY;
    case EDM_IDLE: return !(w & EDM_PENDING);
    case EDM_POISONED: return !(w & (EDM_DIRTY | EDM_PENDING | EDM_PREFETCHED));
    default: return 1;
    }
}

int edm_check(const edm_pager *p) {
    uint32_t lspt = 0, leaving = 0;
    for (uint32_t i = 0; i < p->pages; i++) {
        unsigned s = edm_state_of(p, i);
        if (s >= EDM_STATES || !word_ok(p, p->word[i])) return -1;
        lspt += (uint32_t)edm_in_lspt(s);
        leaving += s == EDM_LEAVING;
    }
    if (lspt != p->lspt || leaving != p->leaving || p->listed != edm_known_pages(p)) return -1;
    return p->ev->check ? p->ev->check(p) : 0;
}
