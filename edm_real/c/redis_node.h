/* redis_node.h: one server of a redis store: where it is, and a pool of connections to it.
 *
 * A call takes a connection of its own, so threads do not wait for each other's answers. Connections
 * are made when first needed, and stay. Nothing here allocates: it runs in fault handlers.
 */
#ifndef EDM_REDIS_NODE_H
#define EDM_REDIS_NODE_H

#include "redis_url.h"
#include "resp.h"
#include "sync.h"
#include "tls.h"

enum { EDM_REDIS_CONNECTIONS = 16 };

typedef struct edm_redis_login { /* how a connection begins */
    edm_tls *tls;                 /* NULL: plain */
    char text[4 * EDM_REDIS_NAME]; /* AUTH and SELECT, as they are sent */
    uint32_t bytes, replies;
} edm_redis_login;

typedef struct edm_redis_node {
    edm_redis_host at;
    _Atomic uint32_t taken; /* bit per connection */
    edm_event_t given;
    _Atomic uint32_t replicas; /* of a cluster's master: those that are well, by the last map */
    edm_resp connection[EDM_REDIS_CONNECTIONS];
} edm_redis_node;

void edm_redis_login_of(const edm_redis_url *u, edm_redis_login *out);
void edm_redis_node_open(edm_redis_node *n, const edm_redis_host *at);
void edm_redis_node_close(edm_redis_node *n);
/* NULL: all were in use until the deadline. */
edm_resp *edm_redis_take(edm_redis_node *n, uint64_t deadline_ns);
void edm_redis_give(edm_redis_node *n, edm_resp *c);
/* A connection that is closed is opened and logged in. 0 or -errno; `said`: the server's words where
 * it refused, else empty. */
int edm_redis_connect(const edm_redis_node *n, const edm_redis_login *login, edm_resp *c, uint64_t deadline_ns,
                      edm_reply *said);

#endif
