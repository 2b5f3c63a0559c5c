/* tls.c: see tls.h. */
#define _GNU_SOURCE
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef EDM_HAVE_SSL

#include "sync.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum { TUNNELS = 64, ROOM = 65536, WORDS = 160, LOOK_MS = 20 }; /* LOOK_MS: at the deadlines of handshakes */

/* Who a tunnel belongs to: FREE nobody, CLAIMED and FAILED to who asked for it, all others to the thread. OPEN is
 * USED once who asked knows. */
enum { FREE, CLAIMED, WANTED, ABANDONED, OPEN, USED, FAILED };

struct pipe_buffer {
    uint32_t from, to; /* bytes[from .. to) are to be passed on */
    uint8_t bytes[ROOM];
};

struct tunnel {
    _Atomic uint32_t state;
    edm_event_t settled; /* OPEN or FAILED */
    edm_redis_host host;
    uint64_t deadline_ns;
    int near, error; /* near: our end of the pair */
    /* the thread's alone: */
    int far, shaking, wants; /* far: the socket, -1: not yet; wants: events for it, as TLS says */
    SSL *ssl;
    struct pipe_buffer *up, *down;
};

struct edm_tls {
    SSL_CTX *context;
    pthread_t thread;
    int running, wake;
    _Atomic int stop;
    edm_lock lock;
    char words[WORDS]; /* (lock) */
    struct tunnel tunnel[TUNNELS];
    struct pipe_buffer buffers[2 * TUNNELS];
};

/* ---- the thread's side ---- */

static void release(struct tunnel *t) {
    if (t->ssl) SSL_free(t->ssl);
    if (t->far >= 0) close(t->far);
    close(t->near);
    t->ssl = NULL;
    t->far = -1;
}

/* Whoever asked is told, if it still waits. */
static void give_up(struct tunnel *t, int error) {
    uint32_t wanted = WANTED, open = OPEN;
    release(t);
    t->error = error;
    if (!atomic_compare_exchange_strong(&t->state, &wanted, FAILED) && !atomic_compare_exchange_strong(&t->state, &open, FAILED))
        atomic_store(&t->state, FREE);
    edm_event_raise(&t->settled);
}

static void note_words(struct edm_tls *s, struct tunnel *t) {
    long verdict = t->ssl ? SSL_get_verify_result(t->ssl) : X509_V_OK;
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (verdict != X509_V_OK) reason = X509_verify_cert_error_string(verdict);
    edm_lock_take(&s->lock);
    snprintf(s->words, sizeof s->words, "%s", reason ? reason : "");
    edm_lock_give(&s->lock);
    ERR_clear_error();
}

static int connect_far(struct tunnel *t) {
    t->far = socket(t->host.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (t->far < 0) return -errno;
    edm_resp_no_delay(t->far);
    if (connect(t->far, (const struct sockaddr *)&t->host.address, t->host.length) && errno != EINPROGRESS) return -errno;
    t->wants = POLLOUT;
    return 0;
}

static int start_tls(struct edm_tls *s, struct tunnel *t) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(t->far, SOL_SOCKET, SO_ERROR, &error, &size) || error) return error ? -error : -errno;
    t->ssl = SSL_new(s->context);
    if (!t->ssl || !SSL_set_fd(t->ssl, t->far)) return -ENOMEM;
    int named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), t->host.name) == 1; /* an address */
    if (!named) named = SSL_set1_host(t->ssl, t->host.name) && SSL_set_tlsext_host_name(t->ssl, t->host.name);
    ERR_clear_error();
    t->shaking = 1;
    return named ? 0 : -EINVAL;
}

/* What OpenSSL's answer asks to wait for: 0 and t->wants, or -1: the connection is at its end. */
static int wait_for(struct tunnel *t, int answer) {
    int error = SSL_get_error(t->ssl, answer);
    if (error == SSL_ERROR_WANT_READ) t->wants |= POLLIN;
    else if (error == SSL_ERROR_WANT_WRITE) t->wants |= POLLOUT;
    else return -1;
    return 0;
}

static int shake(struct edm_tls *s, struct tunnel *t) {
    uint32_t wanted = WANTED;
    int done = SSL_connect(t->ssl);
    if (done != 1) {
        int cause = errno;
        if (!wait_for(t, done)) return 0;
        int broken = SSL_get_error(t->ssl, done) == SSL_ERROR_SYSCALL && !ERR_peek_error();
        note_words(s, t);
        return broken ? cause ? -cause : -ECONNRESET : -EKEYREJECTED;
    }
    t->shaking = 0;
    t->up->from = t->up->to = t->down->from = t->down->to = 0;
    if (!atomic_compare_exchange_strong(&t->state, &wanted, OPEN)) return -ETIMEDOUT;
    edm_event_raise(&t->settled);
    return 0;
}

/* Each passes on what there is, in one step. 1: something was; 0: nothing can be now; -1: the end. */
static int take_near(struct tunnel *t) {
    if (t->up->to) return 0;
    ssize_t n = recv(t->near, t->up->bytes, ROOM, MSG_DONTWAIT);
    if (n > 0) t->up->to = (uint32_t)n;
    return n > 0 ? 1 : n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static int give_far(struct tunnel *t) {
    struct pipe_buffer *b = t->up;
    if (b->from == b->to) return 0;
    int n = SSL_write(t->ssl, b->bytes + b->from, (int)(b->to - b->from));
    if (n <= 0) return wait_for(t, n);
    b->from += (uint32_t)n;
    if (b->from == b->to) b->from = b->to = 0;
    return 1;
}

static int take_far(struct tunnel *t) {
    if (t->down->to) return 0;
    int n = SSL_read(t->ssl, t->down->bytes, ROOM);
    if (n > 0) t->down->to = (uint32_t)n;
    return n > 0 ? 1 : wait_for(t, n);
}

static int give_near(struct tunnel *t) {
    struct pipe_buffer *b = t->down;
    if (b->from == b->to) return 0;
    ssize_t n = send(t->near, b->bytes + b->from, b->to - b->from, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    b->from += (uint32_t)n;
    if (b->from == b->to) b->from = b->to = 0;
    return 1;
}

static int pass_on(struct edm_tls *s, struct tunnel *t) {
    static int (*const steps[])(struct tunnel *) = {take_near, give_far, take_far, give_near};
    for (int moved = 1; moved;) {
        moved = t->wants = 0;
        for (int i = 0; i < 4; i++) {
            int did = steps[i](t);
            if (did < 0 && ERR_peek_error()) note_words(s, t); /* TLS 1.3: the server refuses a client's certificate here */
            if (did < 0) return -EPIPE;
            moved |= did;
        }
    }
    return 0;
}

static int is_over(const struct tunnel *t) {
    return t->state == ABANDONED || (t->state == WANTED && edm_now_ns() >= t->deadline_ns);
}

static void work_on(struct edm_tls *s, struct tunnel *t) {
    int error = 0;
    ERR_clear_error();
    errno = 0;
    if (is_over(t)) error = -ETIMEDOUT;
    else if (t->far < 0) error = connect_far(t);
    else if (!t->ssl) error = start_tls(s, t);
    if (!error && t->ssl && t->shaking) {
        t->wants = 0;
        error = shake(s, t);
    }
    if (!error && t->ssl && !t->shaking) error = pass_on(s, t);
    if (error) give_up(t, error);
}

static int is_ours(uint32_t state) { return state >= WANTED && state <= USED; }

/* Events of one tunnel: of the socket, and of the near end. */
static void wish(const struct tunnel *t, struct pollfd *far, struct pollfd *near) {
    *far = (struct pollfd){.fd = t->far, .events = (short)t->wants};
    *near = (struct pollfd){.fd = t->near, .events = 0}; /* its end is always told */
    if (!t->ssl || t->shaking) return;
    if (!t->up->to) near->events |= POLLIN;
    if (t->down->to) near->events |= POLLOUT;
}

static void *tls_main(void *tls) {
    struct edm_tls *s = tls;
    struct pollfd p[1 + 2 * TUNNELS];
    struct tunnel *of[TUNNELS];
    while (!s->stop) {
        uint64_t told;
        uint32_t n = 0;
        int timeout = -1;
        for (uint32_t i = 0; i < TUNNELS; i++) {
            struct tunnel *t = &s->tunnel[i];
            if (!is_ours(t->state)) continue;
            if (t->state <= ABANDONED && timeout) timeout = t->far < 0 ? 0 : LOOK_MS;
            wish(t, &p[1 + 2 * n], &p[2 + 2 * n]);
            of[n++] = t;
        }
        p[0] = (struct pollfd){.fd = s->wake, .events = POLLIN};
        if (poll(p, 1 + 2 * n, timeout) < 0) continue;
        while (p[0].revents && read(s->wake, &told, sizeof told) > 0) continue;
        for (uint32_t i = 0; i < n; i++)
            if (p[1 + 2 * i].revents || p[2 + 2 * i].revents || of[i]->far < 0 || is_over(of[i])) work_on(s, of[i]);
    }
    for (uint32_t i = 0; i < TUNNELS; i++)
        if (is_ours(s->tunnel[i].state)) give_up(&s->tunnel[i], -EPIPE);
    return NULL;
}

/* ---- the handler's side ---- */

static struct tunnel *claim(edm_tls *s) {
    for (uint32_t i = 0; i < TUNNELS; i++) {
        uint32_t none = FREE;
        if (atomic_compare_exchange_strong(&s->tunnel[i].state, &none, CLAIMED)) return &s->tunnel[i];
    }
    return NULL;
}

static void wake(edm_tls *s) {
    uint64_t one = 1;
    while (write(s->wake, &one, sizeof one) < 0 && errno == EINTR) continue;
}

int edm_tls_connect(edm_tls *s, edm_resp *c, const edm_redis_host *host, uint64_t deadline_ns) {
    int pair[2];
    struct tunnel *t = claim(s);
    if (!t) return -EMFILE;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
        int error = -errno;
        atomic_store(&t->state, FREE);
        return error;
    }
    t->host = *host;
    t->deadline_ns = deadline_ns;
    t->near = pair[1];
    t->far = -1;
    t->shaking = t->wants = 0;
    atomic_store(&t->state, WANTED);
    wake(s);
    for (;;) {
        uint32_t ticket = edm_event_ticket(&t->settled), state = t->state;
        uint64_t now = edm_now_ns();
        if (state == FAILED) break;
        if (state == OPEN) {
            if (atomic_compare_exchange_strong(&t->state, &state, USED)) return edm_resp_adopt(c, pair[0]);
        } else if (now < deadline_ns) {
            edm_event_wait(&t->settled, ticket, 100, deadline_ns - now);
        } else if (atomic_compare_exchange_strong(&t->state, &state, ABANDONED)) {
            close(pair[0]);
            return -ETIMEDOUT;
        }
    }
    int error = t->error;
    close(pair[0]);
    atomic_store(&t->state, FREE);
    return error;
}

void edm_tls_words(edm_tls *s, char *out, size_t size) {
    edm_lock_take(&s->lock);
    snprintf(out, size, "%s", s->words);
    edm_lock_give(&s->lock);
}

/* ---- opening and closing ---- */

static int prepare(edm_tls *s, const char *ca, const char *cert, const char *key, char *why, size_t why_size) {
    s->context = SSL_CTX_new(TLS_client_method());
    const char *file = "the system's certificates", *option = "ca";
    int good = s->context != NULL;
    if (good) {
        SSL_CTX_set_min_proto_version(s->context, TLS1_2_VERSION);
        SSL_CTX_set_verify(s->context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_mode(s->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (*ca) file = ca;
        good = *ca ? SSL_CTX_load_verify_locations(s->context, ca, NULL) : SSL_CTX_set_default_verify_paths(s->context);
    }
    if (good && *cert) {
        file = cert, option = "cert";
        good = SSL_CTX_use_certificate_chain_file(s->context, cert) == 1;
    }
    if (good && *cert) {
        file = *key ? key : cert, option = "key";
        good = SSL_CTX_use_PrivateKey_file(s->context, file, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(s->context) == 1;
    }
    if (good) return 0;
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (access(file, R_OK)) reason = strerror(errno); /* OpenSSL: "system lib" */
    snprintf(why, why_size, "store rediss: %s=%s: %s; it must be a file in PEM", option, file, reason ? reason : "cannot be read");
    ERR_clear_error();
    return -EINVAL;
}

edm_tls *edm_tls_open(const char *ca, const char *cert, const char *key, char *why, size_t why_size) {
    sigset_t all, before;
    edm_tls *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(why, why_size, "store rediss: out of memory");
        return NULL;
    }
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (uint32_t i = 0; i < TUNNELS; i++) {
        s->tunnel[i].far = -1;
        s->tunnel[i].up = &s->buffers[2 * i];
        s->tunnel[i].down = &s->buffers[2 * i + 1];
    }
    int error = prepare(s, ca, cert, key, why, why_size);
    if (!error) {
        sigfillset(&all); /* signals are for the program's threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = -pthread_create(&s->thread, NULL, tls_main, s);
        s->running = !error;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (error) snprintf(why, why_size, "store rediss: no thread can be started");
    }
    if (!error) return s;
    edm_tls_close(s);
    return NULL;
}

void edm_tls_close(edm_tls *s) {
    if (!s) return;
    s->stop = 1;
    wake(s);
    if (s->running) pthread_join(s->thread, NULL);
    if (s->wake >= 0) close(s->wake);
    SSL_CTX_free(s->context);
    free(s);
}

#else

edm_tls *edm_tls_open(const char *ca, const char *cert, const char *key, char *why, size_t why_size) {
    (void)ca, (void)cert, (void)key;
    snprintf(why, why_size, "store rediss: built without it; sudo apt install pkg-config libssl-dev, then make clean setup");
    return NULL;
}

void edm_tls_close(edm_tls *t) { (void)t; }

int edm_tls_connect(edm_tls *t, edm_resp *c, const edm_redis_host *host, uint64_t deadline_ns) {
    (void)t, (void)c, (void)host, (void)deadline_ns;
    return -ENOSYS;
}

void edm_tls_words(edm_tls *t, char *out, size_t size) {
    (void)t;
    if (size) *out = '\0';
}

#endif
