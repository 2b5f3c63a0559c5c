/* redis_node.c: see redis_node.h. */
#define _GNU_SOURCE
#include "redis_node.h"

#include <stdio.h>
#include <string.h>

#define ALL ((1u << EDM_REDIS_CONNECTIONS) - 1)

void edm_redis_login_of(const edm_redis_url *u, edm_redis_login *out) {
    char db[24];
    int at = 0, size = sizeof out->text;
    if (*u->password && *u->user)
        at = snprintf(out->text, (size_t)size, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(u->user), u->user,
                      strlen(u->password), u->password);
    else if (*u->password)
        at = snprintf(out->text, (size_t)size, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(u->password), u->password);
    out->replies = at > 0;
    if (u->db) {
        int n = snprintf(db, sizeof db, "%llu", (unsigned long long)u->db);
        at += snprintf(out->text + at, (size_t)(size - at), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n, db);
        out->replies++;
    }
    out->bytes = (uint32_t)at;
}

void edm_redis_node_open(edm_redis_node *n, const edm_redis_host *at) {
    n->at = *at;
    for (int i = 0; i < EDM_REDIS_CONNECTIONS; i++) n->connection[i].fd = -1;
}

void edm_redis_node_close(edm_redis_node *n) {
    for (int i = 0; i < EDM_REDIS_CONNECTIONS; i++) edm_resp_close(&n->connection[i]);
}

edm_resp *edm_redis_take(edm_redis_node *n, uint64_t deadline_ns) {
    for (;;) {
        uint32_t ticket = edm_event_ticket(&n->given);
        uint32_t taken = atomic_load_explicit(&n->taken, memory_order_relaxed), free = ~taken & ALL;
        if (free) {
            uint32_t bit = (uint32_t)__builtin_ctz(free);
            if (atomic_compare_exchange_weak_explicit(&n->taken, &taken, taken | 1u << bit, memory_order_acquire,
                                                      memory_order_relaxed))
                return &n->connection[bit];
            continue;
        }
        uint64_t now = edm_now_ns();
        if (now >= deadline_ns) return NULL;
        edm_event_wait(&n->given, ticket, 100, deadline_ns - now);
    }
}

void edm_redis_give(edm_redis_node *n, edm_resp *c) {
    atomic_fetch_and_explicit(&n->taken, ~(1u << (c - n->connection)), memory_order_release);
    edm_event_raise(&n->given);
}

int edm_redis_connect(const edm_redis_node *n, const edm_redis_login *login, edm_resp *c, uint64_t deadline_ns,
                      edm_reply *said) {
    said->line[0] = '\0';
    if (c->fd >= 0) return 0;
    int error = login->tls ? edm_tls_connect(login->tls, c, &n->at, deadline_ns)
                           : edm_resp_connect(c, (const struct sockaddr *)&n->at.address, n->at.length, deadline_ns);
    struct iovec v = {(void *)login->text, login->bytes};
    if (!error && login->bytes) error = edm_resp_send(c, &v, 1, deadline_ns);
    for (uint32_t i = 0; i < login->replies && !error; i++) {
        error = edm_resp_read(c, said, NULL, 0, deadline_ns);
        if (!error && said->type == '-') error = edm_resp_errno(said->line);
    }
    if (error) edm_resp_close(c);
    return error;
}
