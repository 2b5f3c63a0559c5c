/* list.h: doubly linked lists over page numbers.
 *
 * One array of links serves every list of an evictor, because a page (or the ghost of
 * it) stands in one list at a time. Page k is entry k; list j's sentinel is entry
 * pages + j. Head is the newest end (sentinel.next), tail the oldest (sentinel.prev).
 */
#ifndef EDM_LIST_H
#define EDM_LIST_H

#include <stdint.h>

typedef struct edm_link { uint32_t prev, next; } edm_link;

static inline void edm_list_init(edm_link *l, uint32_t sentinel) {
    l[sentinel] = (edm_link){sentinel, sentinel};
}

static inline int edm_list_empty(const edm_link *l, uint32_t sentinel) {
    return l[sentinel].next == sentinel;
}

static inline void edm_list_between(edm_link *l, uint32_t e, uint32_t prev, uint32_t next) {
    l[e] = (edm_link){prev, next};
    l[prev].next = e;
    l[next].prev = e;
}

static inline void edm_list_push_head(edm_link *l, uint32_t sentinel, uint32_t e) {
    edm_list_between(l, e, sentinel, l[sentinel].next);
}

static inline void edm_list_push_tail(edm_link *l, uint32_t sentinel, uint32_t e) {
    edm_list_between(l, e, l[sentinel].prev, sentinel);
}

static inline void edm_list_remove(edm_link *l, uint32_t e) {
    uint32_t prev = l[e].prev, next = l[e].next;
    l[prev].next = next;
    l[next].prev = prev;
}

#endif
