/* lists.h: several counted lists of pages, and a tag that says where a page stands.
 *
 * The tag is the seven bits of the page word that belong to the evictor. Its lowest
 * three name the list (1 .. 7; 0 = none), the others are the policy's own. Whoever asks
 * where a page is, or how often it was used, reads the word it has read already: there
 * is nothing to hash, and a hit that moves no page touches one cache line.
 */
#ifndef EDM_LISTS_H
#define EDM_LISTS_H

#include "core.h"
#include "list.h"

enum { EDM_LISTS_MAX = 8, EDM_TAG_LIST = 7, EDM_TAG_FREE = 3 /* first bit of the policy's own */ };

typedef struct edm_lists { /* the last member of an evictor's memory; list j's sentinel is link[pages + j] */
    uint32_t count[EDM_LISTS_MAX];
    edm_link link[];
} edm_lists;

EDM_INLINE unsigned edm_tag(const edm_pager *p, uint32_t page) { return p->word[page] >> EDM_OWN_SHIFT; }

EDM_INLINE void edm_set_tag(edm_pager *p, uint32_t page, unsigned tag) {
    const uint16_t others = (1u << EDM_OWN_SHIFT) - 1;
    p->word[page] = (uint16_t)((p->word[page] & others) | tag << EDM_OWN_SHIFT);
}

EDM_INLINE unsigned edm_where(const edm_pager *p, uint32_t page) { return edm_tag(p, page) & EDM_TAG_LIST; }

EDM_INLINE size_t edm_lists_size(const edm_config *c) {
    return ((size_t)c->pages + EDM_LISTS_MAX) * sizeof(edm_link);
}

EDM_INLINE void edm_lists_init(edm_pager *p, edm_lists *l) {
    for (uint32_t j = 0; j < EDM_LISTS_MAX; j++) edm_list_init(l->link, p->pages + j);
}

/* Becomes the newest of list `tag & EDM_TAG_LIST`, with this tag. */
EDM_INLINE void edm_enter(edm_pager *p, edm_lists *l, uint32_t page, unsigned tag) {
    unsigned list = tag & EDM_TAG_LIST;
    edm_list_push_head(l->link, p->pages + list, page);
    edm_set_tag(p, page, tag);
    l->count[list]++;
}

/* Out of the list it is in, if any; its tag becomes 0. */
EDM_INLINE void edm_exit(edm_pager *p, edm_lists *l, uint32_t page) {
    unsigned list = edm_where(p, page);
    if (list) {
        edm_list_remove(l->link, page);
        l->count[list]--;
    }
    edm_set_tag(p, page, 0);
}

/* The newest of its own list again. */
EDM_INLINE void edm_renew(edm_pager *p, edm_lists *l, uint32_t page) {
    uint32_t sentinel = p->pages + edm_where(p, page);
    if (l->link[sentinel].next == page) return;
    edm_list_remove(l->link, page);
    edm_list_push_head(l->link, sentinel, page);
}

/* The list must not be empty. */
EDM_INLINE uint32_t edm_oldest(const edm_pager *p, const edm_lists *l, unsigned list) {
    return l->link[p->pages + list].prev;
}

/* For the check() hooks (lists.c); 0 = consistent. */

/* The links close after `count` pages. */
int edm_check_links(const edm_pager *p, const edm_link *link, uint32_t sentinel, uint32_t count);
/* One list without tags: it holds exactly the pages that were inserted and did not leave. */
int edm_check_ring(const edm_pager *p, const edm_link *link, uint32_t sentinel, uint32_t count);
/* Tagged lists: counts and links agree, each page is where its tag says, and the lists in the
 * bit set `resident` hold exactly the pages that were inserted and did not leave. */
int edm_check_lists(const edm_pager *p, const edm_lists *l, unsigned resident);

#endif
