/* resp.h: one connection to a server that speaks RESP (redis, valkey), for fault handlers.
 *
 * hiredis allocates with malloc on every command; a fault may come while the interrupted code
 * holds malloc's lock, so it cannot be used there. What is needed of the protocol is little:
 * send arrays of bulk strings, read one-line and bulk replies (https://redis.io/docs/latest/
 * develop/reference/protocol-spec/). Nothing here allocates, and no call ends later than its
 * deadline (CLOCK_MONOTONIC, ns). After any error but an error reply the connection is closed:
 * what was sent may or may not have been carried out, now or later.
 */
#ifndef EDM_RESP_H
#define EDM_RESP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { EDM_RESP_BUFFER = 65536, EDM_RESP_LINE = 256 };

typedef struct edm_resp {
    int fd; /* -1: closed */
    uint32_t have, used; /* of `in` */
    uint64_t usual_ns;   /* how long answers take that were waited for */
    uint8_t in[EDM_RESP_BUFFER];
} edm_resp;

typedef struct edm_reply {
    char type;                 /* '+' '-' ':' '$' '*', '_' for nil */
    int64_t number;            /* ':' its value, '$' its length, '*' how many replies follow as its parts */
    char line[EDM_RESP_LINE];  /* '+' '-': the text, cut */
} edm_reply;

/* 0 or -errno. */
int edm_resp_connect(edm_resp *c, const struct sockaddr *address, socklen_t length, uint64_t deadline_ns);
int edm_resp_adopt(edm_resp *c, int fd); /* a connection that somebody else made; 0 */
void edm_resp_no_delay(int fd);
void edm_resp_close(edm_resp *c);
/* Sends all of it; changes the vectors. */
int edm_resp_send(edm_resp *c, struct iovec *v, int n, uint64_t deadline_ns);
/* The next reply; a bulk's bytes go to `bulk` when it is `want` bytes long, else they are left out
 * but for the first `want`. */
int edm_resp_read(edm_resp *c, edm_reply *reply, void *bulk, size_t want, uint64_t deadline_ns);
/* What an error reply means: -ENOSPC, -EACCES, -EAGAIN (try again later), -EIO. */
int edm_resp_errno(const char *line);

#endif
