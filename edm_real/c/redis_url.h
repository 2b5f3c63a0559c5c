/* redis_url.h: where a URL of a redis store leads. */
#ifndef EDM_REDIS_URL_H
#define EDM_REDIS_URL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { EDM_REDIS_NAME = 256, EDM_REDIS_PREFIX = 64, EDM_REDIS_HOSTS = 16 };

typedef struct edm_redis_host {
    char name[EDM_REDIS_NAME], port[8]; /* a unix socket: its path, "" */
    struct sockaddr_storage address;
    socklen_t length;
} edm_redis_host;

typedef struct edm_redis_scheme {
    const char *name; /* "redis" */
    int is_unix, is_cluster, is_tls;
} edm_redis_scheme;

typedef struct edm_redis_url {
    edm_redis_scheme scheme;
    char user[EDM_REDIS_NAME], password[EDM_REDIS_NAME];
    char where[EDM_REDIS_NAME]; /* "redis://host:port/db", for messages: no password in it */
    char prefix[EDM_REDIS_NAME];
    char ca[EDM_REDIS_NAME], cert[EDM_REDIS_NAME], key[EDM_REDIS_NAME]; /* TLS: files, or "" */
    uint64_t db, wait;          /* wait: replicas that must have a page before a put is answered (a cluster) */
    edm_redis_host host[EDM_REDIS_HOSTS];
    uint32_t hosts;             /* one, but for a cluster */
} edm_redis_url;

/* `rest`: after "redis://" and the like. Resolves hosts' names: not for fault handlers. 0, or -EINVAL with
 * one line in `why`. */
int edm_redis_url_read(const char *rest, edm_redis_scheme scheme, edm_redis_url *out, char *why, size_t why_size);
/* The address of name and port. 0, or -EHOSTUNREACH. Not for fault handlers. */
int edm_redis_resolve(edm_redis_host *h);

#endif
