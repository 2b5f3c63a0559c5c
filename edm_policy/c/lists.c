/* lists.c: walks the lists of an evictor and compares them with the page words. */
#include "lists.h"

int edm_check_inserted(const edm_pager *p, uint32_t page) {
    uint16_t w = p->word[page];
    switch (w & EDM_STATE_MASK) {
    case EDM_RESIDENT:
    case EDM_IDLE:
        return 1;
    case EDM_FETCHING: /* a rescue under way */
    case EDM_LEAVING:  /* a flush */
        return (w & EDM_PENDING) != 0;
    default:
        return 0;
    }
}

uint32_t edm_inserted_count(const edm_pager *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->pages; i++) n += (uint32_t)edm_check_inserted(p, i);
    return n;
}

int edm_check_links(const edm_pager *p, const edm_link *link, uint32_t sentinel, uint32_t count) {
    uint32_t at = sentinel;
    for (uint32_t n = 0; n <= count; n++) {
        uint32_t next = link[at].next;
        if (link[next].prev != at) return -1;
        if (next == sentinel) return n == count ? 0 : -1;
        if (next >= p->pages) return -1;
        at = next;
    }
    return -1;
}

int edm_check_ring(const edm_pager *p, const edm_link *link, uint32_t sentinel, uint32_t count) {
    if (edm_inserted_count(p) != count || edm_check_links(p, link, sentinel, count)) return -1;
    for (uint32_t at = link[sentinel].next; at != sentinel; at = link[at].next)
        if (!edm_check_inserted(p, at)) return -1;
    return 0;
}

int edm_check_lists(const edm_pager *p, const edm_lists *l, unsigned resident) {
    uint32_t tagged[EDM_LISTS_MAX] = {0};
    for (uint32_t i = 0; i < p->pages; i++) {
        unsigned j = edm_where(p, i);
        tagged[j]++;
        if ((int)(resident >> j & 1) != edm_check_inserted(p, i)) return -1;
    }
    for (uint32_t j = 1; j < EDM_LISTS_MAX; j++) {
        uint32_t sentinel = p->pages + j;
        if (tagged[j] != l->count[j] || edm_check_links(p, l->link, sentinel, l->count[j])) return -1;
        for (uint32_t at = l->link[sentinel].next; at != sentinel; at = l->link[at].next)
            if (edm_where(p, at) != j) return -1;
    }
    return 0;
}
