/* custom_glue.h: a policy written in Python as a table of hooks.
 *
 * Only edm_policy's own extension includes it. Each trampoline passes the policy's
 * handle, so that a callback costs one crossing; a hook the class does not override
 * stays in C and costs nothing.
 */
#include "core.h"

#include <string.h>

extern void edm_py_miss(void *ctx, uint32_t page);
extern void edm_py_insert(void *ctx, uint32_t page);
extern void edm_py_touch(void *ctx, uint32_t page);
extern int64_t edm_py_choose(void *ctx);
extern void edm_py_keep(void *ctx, uint32_t page);
extern void edm_py_remove(void *ctx, uint32_t page);
extern void edm_py_pf_fault(void *ctx, uint32_t page, int write);
extern void edm_py_pf_used(void *ctx, uint32_t page);
extern void edm_py_pf_unused(void *ctx, uint32_t page);

enum edm_custom_hook {
    EDM_HOOK_MISS = 1, EDM_HOOK_TOUCH = 2, EDM_HOOK_KEEP = 4, EDM_HOOK_USED = 8, EDM_HOOK_UNUSED = 16
};

static size_t edm_py_size(const edm_config *c) { return (void)c, 0; }
static int edm_py_init(edm_pager *p, void *mem, void *ctx) { return (void)p, (void)mem, (void)ctx, 0; }
static void edm_py_nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }
static void edm_py_note_use(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }
static void edm_go_miss(edm_pager *p, uint32_t page) { edm_py_miss(p->ev_ctx, page); }
static void edm_go_insert(edm_pager *p, uint32_t page) { edm_py_insert(p->ev_ctx, page); }
static void edm_go_touch(edm_pager *p, uint32_t page) { edm_py_touch(p->ev_ctx, page); }
static int64_t edm_go_choose(edm_pager *p) { return edm_py_choose(p->ev_ctx); }
static void edm_go_keep(edm_pager *p, uint32_t page) { edm_py_keep(p->ev_ctx, page); }
static void edm_go_remove(edm_pager *p, uint32_t page) { edm_py_remove(p->ev_ctx, page); }
static void edm_go_pf_fault(edm_pager *p, uint32_t page, int write) { edm_py_pf_fault(p->pf_ctx, page, write); }
static void edm_go_pf_used(edm_pager *p, uint32_t page) { edm_py_pf_used(p->pf_ctx, page); }
static void edm_go_pf_unused(edm_pager *p, uint32_t page) { edm_py_pf_unused(p->pf_ctx, page); }

static void edm_custom_evictor(edm_evictor *e, const char *name, int needs, int best, unsigned hooks) {
    memset(e, 0, sizeof *e);
    e->name = name;
    e->summary = e->paper = e->params = e->idle_note = "";
    e->needs = (uint8_t)needs;
    e->best = (uint8_t)best;
    e->size = edm_py_size;
    e->init = edm_py_init;
    e->miss = hooks & EDM_HOOK_MISS ? edm_go_miss : edm_py_nothing;
    e->insert = edm_go_insert;
    e->touch = hooks & EDM_HOOK_TOUCH ? edm_go_touch : edm_py_note_use;
    e->choose = edm_go_choose;
    e->keep = hooks & EDM_HOOK_KEEP ? edm_go_keep : edm_go_insert;
    e->remove = edm_go_remove;
}

static void edm_custom_prefetcher(edm_prefetcher *f, const char *name, unsigned hooks) {
    memset(f, 0, sizeof *f);
    f->name = name;
    f->summary = f->paper = f->params = "";
    f->size = edm_py_size;
    f->init = edm_py_init;
    f->fault = edm_go_pf_fault;
    f->used = hooks & EDM_HOOK_USED ? edm_go_pf_used : edm_py_nothing;
    f->unused = hooks & EDM_HOOK_UNUSED ? edm_go_pf_unused : edm_py_nothing;
}

/* edm_used() for a policy in Python. */
static int edm_ask_used(edm_pager *p, uint32_t page) { return edm_used(p, page); }
/* A page that may leave, found without the policy; EDM_NONE. */
static int64_t edm_any_victim(edm_pager *p) {
    uint32_t start = edm_random_below(p, p->pages);
    for (uint32_t i = 0; i < p->pages; i++) {
        uint32_t page = (uint32_t)(((uint64_t)start + i) % p->pages);
        if (edm_takeable(p, page)) return page;
    }
    return EDM_NONE;
}
/* May choose() return it? In the LSPT; one in somebody's hands is put back by the pager. */
static int edm_may_leave(const edm_pager *p, int64_t page) {
    return page >= 0 && page < p->pages && edm_in_lspt(edm_state_of(p, (uint32_t)page));
}
