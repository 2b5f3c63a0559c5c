/* CLOCK: FIFO with a second chance.
 *
 * Corbato, "A paging experiment with the Multics system", 1968. A page enters with its
 * bit clear, a use sets it. The hand clears set bits and goes on, and takes the first
 * page whose bit is clear; the new page takes its place, just behind the hand.
 *
 *        hand
 *         v
 *    [a][B][C][d] ...      capitals: bit set; d is taken, B and C lose their bits
 *     ^ new pages enter here, and are met last
 *
 * Under `idle` a mapped page counts as used: the hand marks it and goes on, which gives
 * new pages a round that the definition does not.
 */
#include "frames.h"

static const edm_evictor edm_clock;

static size_t size(const edm_config *c) { return sizeof(edm_frames) + edm_frames_size(c); }

static int init(edm_pager *p, void *mem, void *ctx) {
    (void)ctx;
    return edm_frames_init(p, mem, (edm_frames *)mem + 1);
}

static void nothing(edm_pager *p, uint32_t page) { (void)p, (void)page; }

static void insert(edm_pager *p, uint32_t page) { edm_frames_enter(p->ev_mem, page); }

static void touch(edm_pager *p, uint32_t page) { p->word[page] |= EDM_REF; }

static void keep(edm_pager *p, uint32_t page) {
    insert(p, page);
    touch(p, page);
}

static void remove_page(edm_pager *p, uint32_t page) {
    edm_frames_exit(p->ev_mem, page);
    p->word[page] &= (uint16_t)~EDM_REF;
}

static int64_t choose(edm_pager *p) {
    edm_frames *f = p->ev_mem;
    while (f->count) {
        uint32_t page = edm_frames_look(f);
        edm_frames_warm(p, f);
        int used = edm_used(p, page);
        if (used == EDM_BUSY) return EDM_AGAIN;
        edm_frames_step(f);
        if (used == EDM_UNUSED) {
            remove_page(p, page);
            return page;
        }
    }
    return EDM_NONE;
}

static int check(const edm_pager *p) { return edm_frames_check(p, p->ev_mem); }

static void warm(edm_pager *p, uint32_t page) {
    edm_frames *f = p->ev_mem;
    __builtin_prefetch(&f->where[page], 1);
}

static uint64_t consume(edm_pager *p, const edm_refs *r, uint64_t i) { return edm_consume_with(p, &edm_clock, r, i); }
static uint64_t classic(edm_pager *p, const edm_refs *r) { return edm_classic_with(p, &edm_clock, r); }

static const edm_evictor edm_clock = {
    .name = "clock",
    .summary = "FIFO with a second chance for pages used since the hand passed",
    .paper = "Corbato 1968",
    .params = "",
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
    .warm = warm,
    .idle_note = "the hand marks mapped pages and takes idle ones, so new pages have one round too; "
                 "under faults it is FIFO",
};

const edm_evictor *edm_evictor_clock(void) { return &edm_clock; }
