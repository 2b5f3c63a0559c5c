/* resp.c: see resp.h. */
#define _GNU_SOURCE
#include "resp.h"

#include "sync.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define SPIN_NS 100000u

void edm_resp_close(edm_resp *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->have = c->used = 0;
}

static int fail(edm_resp *c, int error) {
    edm_resp_close(c);
    return error;
}

/* 0 when the socket is ready, -ETIMEDOUT at the deadline. */
static int ready(int fd, short events, uint64_t deadline_ns) {
    for (;;) {
        uint64_t now = edm_now_ns();
        if (now >= deadline_ns) return -ETIMEDOUT;
        uint64_t left = deadline_ns - now;
        struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        struct pollfd p = {.fd = fd, .events = events};
        int n = ppoll(&p, 1, &t, NULL);
        if (n > 0) return 0;
        if (n < 0 && errno != EINTR) return -errno;
    }
}

void edm_resp_no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int edm_resp_adopt(edm_resp *c, int fd) {
    c->have = c->used = 0;
    c->usual_ns = 0;
    c->fd = fd;
    return 0;
}

int edm_resp_connect(edm_resp *c, const struct sockaddr *address, socklen_t length, uint64_t deadline_ns) {
    int error = 0;
    socklen_t size = sizeof error;
    edm_resp_adopt(c, socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (c->fd < 0) return -errno;
    if (address->sa_family != AF_UNIX) edm_resp_no_delay(c->fd);
    if (!connect(c->fd, address, length)) return 0;
    if (errno != EINPROGRESS) return fail(c, -errno);
    error = ready(c->fd, POLLOUT, deadline_ns);
    if (error) return fail(c, error);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size)) return fail(c, -errno);
    return error ? fail(c, -error) : 0;
}

int edm_resp_send(edm_resp *c, struct iovec *v, int n, uint64_t deadline_ns) {
    while (n) {
        struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
        ssize_t sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            int error = errno == EAGAIN ? ready(c->fd, POLLOUT, deadline_ns) : -errno;
            if (error) return fail(c, error);
            continue;
        }
        for (; n && (size_t)sent >= v->iov_len; v++, n--) sent -= (ssize_t)v->iov_len;
        if (n) {
            v->iov_base = (uint8_t *)v->iov_base + sent;
            v->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

/* Some bytes more; how many, or -errno. What has come is taken, even when time is up. */
static ssize_t receive(edm_resp *c, void *to, size_t most, uint64_t deadline_ns) {
    uint64_t begin = 0, now = 0;
    for (;;) {
        ssize_t n = recv(c->fd, to, most, MSG_DONTWAIT);
        if (n > 0) {
            if (begin) c->usual_ns += (int64_t)(edm_now_ns() - begin - c->usual_ns) / 8;
            return n;
        }
        if (!n) return fail(c, -ECONNRESET);
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return fail(c, -errno);
        now = edm_now_ns();
        if (!begin) begin = now;
        /* To be woken from a sleep may take longer than the answer. */
        if (now - begin < SPIN_NS && c->usual_ns < SPIN_NS && now < deadline_ns) continue;
        int error = ready(c->fd, POLLIN, deadline_ns);
        if (error) return fail(c, error);
    }
}

static int fill(edm_resp *c, uint64_t deadline_ns) {
    if (c->used == c->have) c->used = c->have = 0;
    if (c->have == sizeof c->in) {
        memmove(c->in, c->in + c->used, c->have - c->used);
        c->have -= c->used;
        c->used = 0;
    }
    if (c->have == sizeof c->in) return fail(c, -EPROTO); /* a line longer than any there is */
    ssize_t n = receive(c, c->in + c->have, sizeof c->in - c->have, deadline_ns);
    if (n < 0) return (int)n;
    c->have += (uint32_t)n;
    return 0;
}

/* The next line without its end, cut to what `line` holds. */
static int read_line(edm_resp *c, char *line, uint64_t deadline_ns) {
    for (;;) {
        uint8_t *from = c->in + c->used, *end = memchr(from, '\n', c->have - c->used);
        if (end) {
            size_t n = (size_t)(end - from);
            c->used += (uint32_t)n + 1;
            if (!n || from[n - 1] != '\r') return fail(c, -EPROTO);
            if (--n >= EDM_RESP_LINE) n = EDM_RESP_LINE - 1;
            memcpy(line, from, n);
            line[n] = '\0';
            return 0;
        }
        int error = fill(c, deadline_ns);
        if (error) return error;
    }
}

/* `n` bytes, to `to` or nowhere. */
static int read_bytes(edm_resp *c, uint8_t *to, size_t n, uint64_t deadline_ns) {
    while (n) {
        size_t at_hand = c->have - c->used;
        if (!at_hand && to && n >= sizeof c->in / 8) { /* straight to its place */
            ssize_t got = receive(c, to, n, deadline_ns);
            if (got < 0) return (int)got;
            to += got;
            n -= (size_t)got;
            continue;
        }
        if (!at_hand) {
            int error = fill(c, deadline_ns);
            if (error) return error;
            continue;
        }
        if (at_hand > n) at_hand = n;
        if (to) memcpy(to, c->in + c->used, at_hand);
        if (to) to += at_hand;
        c->used += (uint32_t)at_hand;
        n -= at_hand;
    }
    return 0;
}

int edm_resp_read(edm_resp *c, edm_reply *reply, void *bulk, size_t want, uint64_t deadline_ns) {
    char line[EDM_RESP_LINE], end[2], *rest;
    int error = read_line(c, line, deadline_ns);
    if (error) return error;
    reply->type = line[0];
    reply->number = 0;
    memcpy(reply->line, line + 1, sizeof line - 1);
    switch (line[0]) {
    case '+':
    case '-': return 0;
    case '_': return 0;
    case ':':
    case '*':
    case '$':
        errno = 0;
        reply->number = strtoll(line + 1, &rest, 10);
        if (errno || rest == line + 1 || *rest) return fail(c, -EPROTO);
        break;
    default: return fail(c, -EPROTO);
    }
    if (line[0] == ':' || (line[0] == '*' && reply->number >= 0)) return 0;
    if (reply->number < 0) {
        reply->type = '_';
        return 0;
    }
    size_t n = (size_t)reply->number, taken = n < want ? n : want;
    if ((error = read_bytes(c, bulk, taken, deadline_ns))) return error;
    if ((error = read_bytes(c, NULL, n - taken, deadline_ns))) return error;
    if ((error = read_bytes(c, (uint8_t *)end, 2, deadline_ns))) return error;
    return memcmp(end, "\r\n", 2) ? fail(c, -EPROTO) : 0;
}

int edm_resp_errno(const char *line) {
    static const struct {
        const char *word;
        int error;
    } known[] = {{"OOM", -ENOSPC},      {"NOAUTH", -EACCES},  {"WRONGPASS", -EACCES}, {"NOPERM", -EACCES},
                 {"LOADING", -EAGAIN},  {"BUSY", -EAGAIN},    {"TRYAGAIN", -EAGAIN},  {"MASTERDOWN", -EAGAIN},
                 {"READONLY", -EROFS},  {"MISCONF", -EIO}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(line, known[i].word, strlen(known[i].word))) return known[i].error;
    return -EIO;
}
