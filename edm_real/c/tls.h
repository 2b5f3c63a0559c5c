/* tls.h: TLS to servers for clients in fault handlers, by a thread of its own.
 *
 * OpenSSL allocates, and keeps state for each thread that a fault may interrupt half-way: nothing of it runs in
 * a handler. A connection here is a socket pair. The handler has one end, and speaks through it as through any
 * connection (socketpair, send and recv, a futex: no allocation); the store's thread joins the other end to a
 * TLS connection that it makes, and passes bytes on. It waits for no handler, and takes no lock of one.
 *
 * It does call malloc. A handler that waits for it is safe as long as the interrupted code does not hold
 * malloc's lock, that is, as long as malloc's own memory is not paged: an access to paged memory is what
 * was interrupted.
 *
 * The server's certificate and its name (or address) are always verified.
 */
#ifndef EDM_TLS_H
#define EDM_TLS_H

#include "redis_url.h"
#include "resp.h"

typedef struct edm_tls edm_tls;

/* Files in PEM, "" for none: ca (else the system's), and the client's certificate and key. NULL with one line in `why`. */
edm_tls *edm_tls_open(const char *ca, const char *cert, const char *key, char *why, size_t why_size);
void edm_tls_close(edm_tls *t); /* NULL: nothing */
/* Opens c. 0 or -errno; -EKEYREJECTED: TLS failed. */
int edm_tls_connect(edm_tls *t, edm_resp *c, const edm_redis_host *host, uint64_t deadline_ns);
void edm_tls_words(edm_tls *t, char *out, size_t size); /* OpenSSL's, of the last failure; "" if there was none */

#endif
