/* FIFO-reinsertion: CLOCK whose pages count their uses (GCLOCK).
 *
 * Smith, "Sequentiality and prefetching in database systems", TODS 3(3), 1978. A page
 * enters with counter 0; a use adds one, up to 2^bits - 1. The hand takes the first page
 * whose counter is 0, and lowers the others by one as it passes.
 *
 *        hand
 *         v
 *    [0][2][1][0] ...      the last is taken; the two before it become 1 and 0
 *     ^ new pages enter here, and are met last
 *
 * bits=1 is CLOCK. Under `idle` a rescue is the use that is counted; a page that stands
 * at 0 and is mapped is marked, and has one more round to be rescued in.
 */
#include "frames.h"
#include "lists.h"

static const edm_evictor edm_fifo_reinsertion;

struct reinsertion { /* a page's counter is its tag */
    edm_frames f;
    uint32_t most; /* where counters stop */
};

static size_t size(const edm_config *c) { return sizeof(struct reinsertion) + edm_frames_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    struct reinsertion *s = mem;
    double bits = edm_param(p, "bits", 2);
    (void)ctx;
    if (!(bits >= 1 && bits <= 6) || bits != (int)bits)
        return edm_refuse(p, "fifo-reinsertion counts with bits=1, 2 .. 6");
    s->most = (1u << (int)bits) - 1;
    return edm_frames_init(p, &s->f, s + 1);
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) {
    struct reinsertion *s = p->ev_mem;
    edm_frames_enter(&s->f, page);
}

static void touch(edm_pager *p, uint32_t page) {
    struct reinsertion *s = p->ev_mem;
    unsigned uses = edm_tag(p, page);
    if (uses < s->most) edm_set_tag(p, page, uses + 1);
}

static void keep(edm_pager *p, uint32_t page) {
    insert(p, page);
    touch(p, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    struct reinsertion *s = p->ev_mem;
    edm_frames_exit(&s->f, page);
    edm_set_tag(p, page, 0);
}

static int64_t choose(edm_pager *p) {
    struct reinsertion *s = p->ev_mem;
    while (s->f.count) {
        uint32_t page = edm_frames_look(&s->f);
        unsigned uses = edm_tag(p, page);
        int used = p->observe == EDM_OBSERVE_IDLE ? edm_used(p, page) : EDM_UNUSED;
        if (used == EDM_BUSY) return EDM_AGAIN;
        edm_frames_step(&s->f);
        if (uses) {
            edm_set_tag(p, page, uses - 1);
        } else if (used == EDM_UNUSED) {
            remove_page(p, page);
            return page;
        }
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) {
    const struct reinsertion *s = p->ev_mem;
    for (uint32_t i = 0; i < p->pages; i++)
        if (edm_tag(p, i) > s->most) return -1;
    return edm_frames_check(p, &s->f);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) {
    return edm_consume_with(p, &edm_fifo_reinsertion, r, i);
}
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_fifo_reinsertion, r); }

static const edm_evictor edm_fifo_reinsertion = {
    .name = "fifo-reinsertion",
    .summary = "CLOCK with a counter of uses instead of a bit",
    .paper = "Smith, TODS 1978",
    .params = "bits=2 (1..6): bits of the counter",
    .needs = EDM_OBSERVE_FAULTS,
    .best = EDM_OBSERVE_EXACT,
    .bytes_per_page = 2 * sizeof(uint32_t),
    .size = size,
    .init = init,
    .miss = nothing,
    .insert = insert,
    .touch = touch,
    .choose = choose,
    .keep = keep,
    .remove = remove_page,
    .consume = consume,
    .classic = classic,
    .check = check,
    .idle_note = "counts rescues; a mapped page at 0 is marked and has one more round; under faults it is FIFO",
};

const edm_evictor *edm_evictor_fifo_reinsertion(void) { return &edm_fifo_reinsertion; }
