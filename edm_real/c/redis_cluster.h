/* redis_cluster.h: which server of a redis cluster has a key, now.
 *
 * A key's slot is CRC16 of it, modulo 16384; each slot is some master's. The map is learnt from any
 * node (CLUSTER SLOTS, the replicas too) and corrected by what nodes answer (MOVED); after a master's
 * death a replica is promoted, and the map that the others tell then names it
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
 *
 * Faulting threads read the map without a lock; one at a time renews it. All of it is laid out when the
 * store is opened, and nothing is allocated afterwards: a node that joins later takes an unused place,
 * or that of one that has left. A thread that still had the old one in mind talks to another node of the
 * same cluster then, and is told MOVED.
 */
#ifndef EDM_REDIS_CLUSTER_H
#define EDM_REDIS_CLUSTER_H

#include "redis_node.h"

enum { EDM_REDIS_SLOTS = 16384, EDM_REDIS_NODES = 64, EDM_REDIS_NO_NODE = 255 };

typedef struct edm_redis_cluster {
    edm_redis_login login;
    _Atomic uint32_t nodes;
    edm_redis_node *node;                   /* EDM_REDIS_NODES of them */
    _Atomic uint8_t slot[EDM_REDIS_SLOTS];  /* its master, or EDM_REDIS_NO_NODE */
    edm_lock lock;                          /* who holds it may add nodes and renew the map */
    uint32_t next;                          /* (lock) whom to ask first */
    uint32_t seeds;                         /* nodes of the URL: they keep their places */
    uint32_t map;                           /* (lock) number of the map being read, or read last */
    uint32_t listed[EDM_REDIS_NODES];       /* (lock) the last map that had the node */
    uint8_t fresh[EDM_REDIS_SLOTS];         /* (lock) a map being read */
    _Atomic uint64_t renewed_ns;            /* when the map was last asked for */
    int opening;                            /* host names are looked up: not in fault handlers */
} edm_redis_cluster;

/* 0, or -errno with one line in `why`. */
int edm_redis_cluster_open(edm_redis_cluster *k, const edm_redis_url *url, char *why, size_t why_size);
void edm_redis_cluster_close(edm_redis_cluster *k);
/* CRC16 (XMODEM) of n bytes more. */
uint16_t edm_redis_crc16(uint16_t crc, const char *bytes, size_t n);
/* Learns the map from the first node that tells it. 0, or -errno: -EPROTONOSUPPORT no cluster; `said` the
 * words of a node that refused; -EALREADY: another thread does it now. */
int edm_redis_cluster_renew(edm_redis_cluster *k, uint64_t deadline_ns, edm_reply *said);
/* What "MOVED slot host:port" or "ASK ..." of a node means: a node's number, or -errno (-EALREADY: the map is
 * being renewed). MOVED changes the map. */
int edm_redis_cluster_redirect(edm_redis_cluster *k, uint32_t from, const char *line);
uint32_t edm_redis_cluster_unserved(const edm_redis_cluster *k); /* slots without a master */

#endif
