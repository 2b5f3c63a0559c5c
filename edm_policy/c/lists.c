/* lists.c: walks the lists of an evictor and compares them with the page words. */
#include "lists.h"

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
    if ((uint32_t)edm_known_pages(p) != count || edm_check_links(p, link, sentinel, count)) return -1;
    for (uint32_t at = link[sentinel].next; at != sentinel; at = link[at].next)
        if (!edm_known(p, at)) return -1;
    return 0;
}

int edm_check_lists(const edm_pager *p, const edm_lists *l, unsigned resident) {
    uint32_t tagged[EDM_LISTS_MAX] = {0};
    for (uint32_t i = 0; i < p->pages; i++) {
        unsigned j = edm_where(p, i);
        tagged[j]++;
        if ((int)(resident >> j & 1) != edm_known(p, i)) return -1;
    }
    for (uint32_t j = 1; j < EDM_LISTS_MAX; j++) {
        uint32_t sentinel = p->pages + j;
        if (tagged[j] != l->count[j] || edm_check_links(p, l->link, sentinel, l->count[j])) return -1;
        for (uint32_t at = l->link[sentinel].next; at != sentinel; at = l->link[at].next)
            if (edm_where(p, at) != j) return -1;
    }
    return 0;
}
