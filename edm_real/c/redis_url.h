/* redis_url.h: where a redis:// or redis+unix:// URL leads. */
#ifndef EDM_REDIS_URL_H
#define EDM_REDIS_URL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { EDM_REDIS_NAME = 256, EDM_REDIS_PREFIX = 64 };

typedef struct edm_redis_url {
    char user[EDM_REDIS_NAME], password[EDM_REDIS_NAME];
    char where[EDM_REDIS_NAME]; /* "redis://host:port/db", for messages: no password in it */
    char prefix[EDM_REDIS_NAME];
    uint64_t db;
    struct sockaddr_storage address;
    socklen_t address_length;
} edm_redis_url;

/* `rest`: after redis:// or redis+unix://. Resolves the host's name: not for fault handlers. 0, or
 * -EINVAL with one line in `why`. */
int edm_redis_url_read(const char *rest, int is_unix, edm_redis_url *out, char *why, size_t why_size);

#endif
