/* wrapped.h: a store around another one that changes pages on their way: packs them
 * (store_packed.c) or seals them (store_sealed.c).
 *
 * What is to be known of a page (its bytes inside, a note of the wrapper's) is kept here, not
 * inside, in 32 bytes a page. `version` tells a reader that a page was being put while it was read: then
 * it reads again. It is odd while a put or del is under way and goes up by two with each that began, done or
 * failed, so that no two puts of a page ever have the same one.
 */
#ifndef EDM_WRAPPED_H
#define EDM_WRAPPED_H

#include "slots.h"
#include "stores.h"

enum { EDM_WRAPPED_BATCH = 64 }; /* pages a slot has room for */

typedef struct edm_wrapped_page {
    uint64_t version; /* the put's own, odd */
    uint32_t bytes;   /* inside; 0: nothing, `note` has it all. As many as the page's size: read in place */
    uint32_t kind;    /* the wrapper's; 0: there is no such page */
    uint64_t note[2];
} edm_wrapped_page;

typedef struct edm_wrapped edm_wrapped;

typedef struct edm_wrapper {
    const char *name;
    /* Sets kind, bytes and note of a page with `size` bytes; what goes inside: `data` itself, or made
     * in `room` (page_size bytes). 0 or -errno. */
    int (*wrap)(edm_wrapped *w, void *work, uint64_t page, edm_wrapped_page *p, const void *data, uint32_t size, void *room,
                const void **inside);
    /* `from` is `data` where p->bytes is `size`. 0 or -errno. */
    int (*unwrap)(edm_wrapped *w, void *work, uint64_t page, const edm_wrapped_page *p, const void *from, void *data,
                  uint32_t size);
    /* Ends what it had prepared in `work`; may be NULL. */
    void (*end)(edm_wrapped *w, void *work);
} edm_wrapper;

struct edm_wrapped {
    edm_store base;
    edm_store_ops ops;
    const edm_wrapper *wrapper;
    edm_store *inner;
    struct edm_wrapped_entry *entry; /* per page */
    edm_slots slots;
    uint8_t *slot;
    size_t slot_bytes, work_bytes;
    _Atomic uint64_t gets, puts, dels, errors, kept, same, bytes_in, bytes_out; /* same: pages with nothing inside */
};

/* Makes `w` (calloc'd, inner store open) ready; each slot's work_bytes, aligned to 64, are for the caller
 * to prepare. 0 or -ENOMEM. */
int edm_wrapped_open(edm_wrapped *w, const edm_wrapper *wrapper, size_t work_bytes);
void *edm_wrapped_work(edm_wrapped *w, int slot);
/* Also of one that was not opened to the end. Frees it. */
void edm_wrapped_close(edm_store *s);

#endif
