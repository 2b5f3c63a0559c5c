/* redis_batch.h: batches of commands for pages, to one server or to a cluster's, until their deadline.
 *
 * A batch is a pipeline to each server concerned: all commands, then all replies. Pages are put by MSETs; by SETs in a
 * cluster, where a command's keys must be of one slot, and where MSET is not allowed. A connection that broke
 * is made again, with growing pauses, until the call's deadline; what had no answer is asked again. An
 * attempt takes a part of the time that is left, so that a connection, or a server, that is dead without
 * saying so does not cost all of it.
 *
 * Keys are "prefix:epoch:page.version". The epoch is drawn when the store is opened: regions
 * do not see each other's pages. The version makes late commands harmless: a SET or DEL that was
 * sent but not answered may still be carried out by the server, even after a later SET on another
 * connection. So whenever that is possible, the page goes on under its next version.
 *
 * In a cluster a put is answered when so many of its master's replicas have it, too (WAIT; `wait`, as far as
 * there are replicas): the one that is promoted when the master dies then has every page that was answered.
 * A master that was cut off from its replicas may have been replaced: what it took is put again.
 */
#ifndef EDM_REDIS_BATCH_H
#define EDM_REDIS_BATCH_H

#include "redis_cluster.h"
#include "store.h"

enum {
    EDM_REDIS_WINDOW = 128,  /* items in a pipeline; more go in turns */
    EDM_REDIS_TOGETHER = 32, /* pages in one MSET: an answer for each page takes the server as long as the page */
    EDM_REDIS_STEM = EDM_REDIS_PREFIX + 20,
    EDM_REDIS_KEY = EDM_REDIS_STEM + 28
};
enum edm_redis_verb { EDM_REDIS_GET, EDM_REDIS_SET, EDM_REDIS_DEL };

typedef struct edm_redis {
    edm_store base;
    edm_redis_url url;
    char stem[EDM_REDIS_STEM]; /* what all keys begin with: "prefix:epoch:" */
    size_t stem_n;
    edm_redis_cluster cluster; /* a single server: of one node, and no map */
    uint32_t window;           /* EDM_REDIS_WINDOW, fewer if pages are large */
    _Atomic int one_by_one;    /* the server, or what this user may do there, knows no MSET */
    _Atomic uint16_t *version; /* per page */
    _Atomic uint32_t *held_of; /* per page: its bytes on the server, 0: it is not there */
    _Atomic uint64_t gets, puts, dels, errors, kept, held, reconnects, bytes_in, bytes_out;
} edm_redis;

/* Sets each item's result. Minus the number that failed. */
int edm_redis_ask(edm_redis *r, enum edm_redis_verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns);
void edm_redis_holds(edm_redis *r, uint64_t page, uint32_t bytes); /* what the server has of it now */

#endif
