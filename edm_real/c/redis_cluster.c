/* redis_cluster.c: see redis_cluster.h. */
#define _GNU_SOURCE
#include "redis_cluster.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_NS 500000000u /* for one node to tell its map */

uint16_t edm_redis_crc16(uint16_t crc, const char *bytes, size_t n) {
    static const uint16_t nibble[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    for (size_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)bytes[i];
        crc = (uint16_t)(crc << 4) ^ nibble[(crc >> 12 ^ b >> 4) & 15];
        crc = (uint16_t)(crc << 4) ^ nibble[(crc >> 12 ^ b) & 15];
    }
    return crc;
}

/* ---- nodes ---- */

static int same_address(const edm_redis_host *a, const edm_redis_host *b) {
    if (!strcmp(a->name, b->name) && !strcmp(a->port, b->port)) return 1;
    if (a->address.ss_family != b->address.ss_family) return 0;
    if (a->address.ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)&a->address, *y = (const void *)&b->address;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const void *)&a->address, *y = (const void *)&b->address;
    return x->sin6_port == y->sin6_port && !memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr);
}

/* An address in numbers. */
static int numeric(edm_redis_host *h) {
    struct sockaddr_in *four = (struct sockaddr_in *)&h->address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&h->address;
    in_port_t port = htons((uint16_t)strtoul(h->port, NULL, 10));
    memset(&h->address, 0, sizeof h->address);
    if (inet_pton(AF_INET, h->name, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = port;
        h->length = sizeof *four;
        return 0;
    }
    if (inet_pton(AF_INET6, h->name, &six->sin6_addr) != 1) return -EHOSTUNREACH;
    six->sin6_family = AF_INET6;
    six->sin6_port = port;
    h->length = sizeof *six;
    return 0;
}

/* (lock) A place for another node; nobody uses its connections until it is given free. -ENOSPC: none. */
static int place(edm_redis_cluster *k) {
    for (uint32_t i = k->seeds; i < EDM_REDIS_NODES; i++) {
        uint32_t none = 0;
        if (i < k->nodes && k->listed[i] + 1 >= k->map) continue;
        if (atomic_compare_exchange_strong(&k->node[i].taken, &none, UINT32_MAX)) return (int)i;
    }
    return -ENOSPC;
}

/* (lock) The number of the node at `name` (empty: the host of node `from`) and port; it is added if it is new. */
static int find(edm_redis_cluster *k, uint32_t from, const char *name, uint64_t port) {
    edm_redis_host h;
    if (!port || port > UINT16_MAX || strlen(name) >= sizeof h.name) return -EPROTO;
    memset(&h, 0, sizeof h);
    strcpy(h.name, *name ? name : k->node[from].at.name);
    snprintf(h.port, sizeof h.port, "%u", (unsigned)port);
    int unknown = numeric(&h);
    for (uint32_t i = 0; i < k->nodes; i++)
        if (same_address(&k->node[i].at, &h)) {
            k->listed[i] = k->map;
            return (int)i;
        }
    if (unknown && k->opening) unknown = edm_redis_resolve(&h);
    if (unknown) return unknown;
    int i = place(k);
    if (i < 0) return i;
    edm_redis_node *n = &k->node[i];
    edm_redis_node_close(n);
    edm_redis_node_open(n, &h);
    n->replicas = 0;
    k->listed[i] = k->map;
    if ((uint32_t)i >= k->nodes) k->nodes = (uint32_t)i + 1;
    atomic_store_explicit(&n->taken, 0, memory_order_release);
    edm_event_raise(&n->given);
    return i;
}

/* ---- the map ---- */

/* The next reply must be of this type. */
static int expect(edm_resp *c, char type, edm_reply *reply, uint64_t deadline) {
    int error = edm_resp_read(c, reply, NULL, 0, deadline);
    return error ? error : reply->type == type ? 0 : -EPROTO;
}

static int skip(edm_resp *c, int64_t replies, uint64_t deadline) {
    edm_reply reply;
    for (; replies > 0; replies--) {
        int error = edm_resp_read(c, &reply, NULL, 0, deadline);
        if (error) return error;
        if (reply.type == '*') replies += reply.number;
    }
    return 0;
}

/* (lock) host, port and what else there is of one node; its number, or -errno. */
static int read_node(edm_redis_cluster *k, edm_resp *c, uint32_t from, uint64_t deadline) {
    char name[EDM_REDIS_NAME];
    edm_reply array, host, port;
    int error = expect(c, '*', &array, deadline);
    if (!error) error = edm_resp_read(c, &host, name, sizeof name - 1, deadline);
    if (!error) error = expect(c, ':', &port, deadline);
    if (!error) error = skip(c, array.number - 2, deadline);
    if (error) return error;
    size_t n = host.type == '$' && host.number < (int64_t)sizeof name ? (size_t)host.number : 0;
    name[n] = '\0';
    return find(k, from, name, (uint64_t)port.number);
}

/* (lock) A run of slots, its master and its replicas. A node that cannot be reached from here (a host name
 * that is new) serves nothing, but does not spoil the rest. */
static int read_run(edm_redis_cluster *k, edm_resp *c, uint32_t from, uint64_t deadline) {
    edm_reply array, first, last;
    int error = expect(c, '*', &array, deadline), master = -1;
    if (!error) error = expect(c, ':', &first, deadline);
    if (!error) error = expect(c, ':', &last, deadline);
    if (error) return error;
    if (first.number < 0 || last.number >= EDM_REDIS_SLOTS || array.number < 3) return -EPROTO;
    for (int64_t i = 2; i < array.number; i++) {
        int node = read_node(k, c, from, deadline);
        if (node < 0 && node != -EHOSTUNREACH && node != -ENOSPC) return node;
        if (i == 2) master = node;
    }
    if (master < 0) return 0;
    k->node[master].replicas = (uint32_t)(array.number - 3);
    for (int64_t s = first.number; s <= last.number; s++) k->fresh[s] = (uint8_t)master;
    return 0;
}

/* (lock) */
static int read_map(edm_redis_cluster *k, edm_resp *c, uint32_t from, uint64_t deadline, edm_reply *said) {
    char ask[] = "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n";
    struct iovec v = {ask, sizeof ask - 1};
    int error = edm_resp_send(c, &v, 1, deadline);
    if (!error) error = edm_resp_read(c, said, NULL, 0, deadline);
    if (error) return error;
    if (said->type == '-') return strstr(said->line, "cluster support") ? -EPROTONOSUPPORT : edm_resp_errno(said->line);
    if (said->type != '*') return -EPROTO;
    k->map++;
    memset(k->fresh, EDM_REDIS_NO_NODE, sizeof k->fresh);
    for (int64_t i = 0, runs = said->number; i < runs && !error; i++) error = read_run(k, c, from, deadline);
    said->line[0] = '\0';
    return error;
}

/* (lock) */
static int ask_node(edm_redis_cluster *k, uint32_t i, uint64_t deadline, edm_reply *said) {
    edm_redis_node *n = &k->node[i];
    edm_resp *c = edm_redis_take(n, deadline);
    if (!c) return -ETIMEDOUT;
    int error = edm_redis_connect(n, &k->login, c, deadline, said);
    if (!error) error = read_map(k, c, i, deadline, said);
    if (error) edm_resp_close(c); /* perhaps in mid-reply */
    edm_redis_give(n, c);
    return error;
}

/* (lock) A node that was forgotten by the others knows no slots: its map is not taken. */
static int take_over(edm_redis_cluster *k) {
    uint32_t served = 0;
    for (int s = 0; s < EDM_REDIS_SLOTS; s++) served += k->fresh[s] != EDM_REDIS_NO_NODE;
    if (!served) return -ENODATA;
    for (int s = 0; s < EDM_REDIS_SLOTS; s++) atomic_store_explicit(&k->slot[s], k->fresh[s], memory_order_release);
    return 0;
}

int edm_redis_cluster_renew(edm_redis_cluster *k, uint64_t deadline_ns, edm_reply *said) {
    int error = -EHOSTUNREACH;
    said->line[0] = '\0';
    if (!edm_lock_try(&k->lock)) return -EALREADY;
    for (uint32_t i = 0, nodes = k->nodes; i < nodes; i++) {
        uint64_t now = edm_now_ns(), until = now + ASK_NS;
        if (now >= deadline_ns) break;
        error = ask_node(k, k->next++ % nodes, until < deadline_ns ? until : deadline_ns, said);
        if (!error) error = take_over(k);
        if (!error) break;
    }
    k->renewed_ns = edm_now_ns();
    edm_lock_give(&k->lock);
    return error;
}

int edm_redis_cluster_redirect(edm_redis_cluster *k, uint32_t from, const char *line) {
    char name[EDM_REDIS_NAME];
    const char *number = strchr(line, ' '), *where = number ? strchr(number + 1, ' ') : NULL, *colon;
    if (!where || !(colon = strrchr(++where, ':')) || (size_t)(colon - where) >= sizeof name) return -EPROTO;
    uint64_t slot = strtoull(number + 1, NULL, 10), port = strtoull(colon + 1, NULL, 10);
    if (slot >= EDM_REDIS_SLOTS) return -EPROTO;
    memcpy(name, where, (size_t)(colon - where));
    name[colon - where] = '\0';
    if (!edm_lock_try(&k->lock)) return -EALREADY;
    int node = find(k, from, name, port);
    edm_lock_give(&k->lock);
    if (node >= 0 && *line == 'M') atomic_store_explicit(&k->slot[slot], (uint8_t)node, memory_order_release);
    return node;
}

uint32_t edm_redis_cluster_unserved(const edm_redis_cluster *k) {
    uint32_t n = 0;
    for (int s = 0; s < EDM_REDIS_SLOTS; s++) n += k->slot[s] == EDM_REDIS_NO_NODE;
    return n;
}

int edm_redis_cluster_open(edm_redis_cluster *k, const edm_redis_url *url, char *why, size_t why_size) {
    uint32_t room = url->scheme.is_cluster ? EDM_REDIS_NODES : 1;
    k->node = calloc(room, sizeof *k->node); /* address space, for most of them */
    snprintf(why, why_size, "store redis: out of memory");
    if (!k->node) return -ENOMEM;
    edm_redis_login_of(url, &k->login);
    if (url->scheme.is_tls && !(k->login.tls = edm_tls_open(url->ca, url->cert, url->key, why, why_size))) return -EINVAL;
    memset((void *)k->slot, url->scheme.is_cluster ? EDM_REDIS_NO_NODE : 0, sizeof k->slot);
    for (uint32_t i = 0; i < room; i++) edm_redis_node_open(&k->node[i], i < url->hosts ? &url->host[i] : &url->host[0]);
    k->nodes = k->seeds = url->hosts;
    return 0;
}

void edm_redis_cluster_close(edm_redis_cluster *k) {
    uint32_t room = k->nodes;
    for (uint32_t i = 0; k->node && i < room; i++) edm_redis_node_close(&k->node[i]);
    edm_tls_close(k->login.tls);
    explicit_bzero(&k->login, sizeof k->login);
    free(k->node);
    k->node = NULL;
}
