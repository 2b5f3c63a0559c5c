/* redis_url.c: see redis_url.h. */
#define _GNU_SOURCE
#include "redis_url.h"

#include "stores.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int hex(char c) {
    const char *digits = "0123456789abcdef", *at = strchr(digits, c | 0x20);
    return c && at ? (int)(at - digits) : -1;
}

/* %41 is A. 0, or -EINVAL: too long. */
static int decode(const char *text, size_t n, char *out) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (k + 1 >= EDM_REDIS_NAME) return -EINVAL;
        if (text[i] == '%' && i + 2 < n && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
            out[k++] = (char)(hex(text[i + 1]) * 16 + hex(text[i + 2]));
            i += 2;
        } else {
            out[k++] = text[i];
        }
    }
    out[k] = '\0';
    return 0;
}

/* "user:password", ":password" or "password". */
static int read_login(const char *text, size_t n, edm_redis_url *u) {
    const char *colon = memchr(text, ':', n);
    if (!colon) return decode(text, n, u->password);
    if (decode(text, (size_t)(colon - text), u->user)) return -EINVAL;
    return decode(colon + 1, n - (size_t)(colon + 1 - text), u->password);
}

/* A file with such a line: a password in a URL is seen by ps and in shell histories. */
static int read_login_file(const char *path, edm_redis_url *u, char *why, size_t why_size) {
    char line[2 * EDM_REDIS_NAME];
    FILE *file = fopen(path, "re");
    int got = file && fgets(line, sizeof line, file);
    int error = got ? 0 : errno;
    if (file) fclose(file);
    if (got && !read_login(line, strcspn(line, "\r\n"), u)) return 0;
    snprintf(why, why_size, "store redis: auth=%s: %s; it must hold one line, user:password or password", path,
             error ? strerror(error) : "no password in it");
    return -EINVAL;
}

int edm_redis_resolve(edm_redis_host *h) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
    if (getaddrinfo(h->name, h->port, &hints, &found)) return -EHOSTUNREACH;
    memcpy(&h->address, found->ai_addr, found->ai_addrlen);
    h->length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* host:port or [host]:port, n bytes, of which the port may be missing. */
static int read_host(const char *text, size_t n, edm_redis_host *h) {
    int bracket = n && *text == '[';
    const char *end = text + n, *close = bracket ? memchr(text, ']', n) : text;
    if (!close) return -EINVAL;
    const char *colon = memchr(close, ':', (size_t)(end - close)), *stop = bracket ? close : colon ? colon : end;
    size_t name_n = (size_t)(stop - text) - (size_t)bracket, port_n = colon ? (size_t)(end - colon - 1) : 0;
    if (name_n >= sizeof h->name || port_n >= sizeof h->port) return -EINVAL;
    memcpy(h->name, text + bracket, name_n);
    if (port_n) memcpy(h->port, colon + 1, port_n);
    if (port_n && (strspn(h->port, "0123456789") < port_n || atoi(h->port) < 1 || atoi(h->port) > 65535)) return -EINVAL;
    if (!*h->name) strcpy(h->name, "127.0.0.1");
    if (!*h->port) strcpy(h->port, "6379");
    return 0;
}

/* host:port[,host:port...]; one that cannot be resolved is left out, but for the last that is left. */
static int read_hosts(const char *text, size_t n, edm_redis_url *u, char *why, size_t why_size) {
    const char *end = text + n, *next, *unknown = NULL;
    int unknown_n = 0;
    for (; text <= end; text = next + 1) {
        next = u->scheme.is_cluster ? memchr(text, ',', (size_t)(end - text)) : NULL;
        if (!next) next = end;
        if (u->hosts == EDM_REDIS_HOSTS || read_host(text, (size_t)(next - text), &u->host[u->hosts])) return -EINVAL;
        if (!edm_redis_resolve(&u->host[u->hosts])) {
            u->hosts++;
            continue;
        }
        unknown = text;
        unknown_n = (int)(next - text);
        memset(&u->host[u->hosts], 0, sizeof u->host[0]);
    }
    if (u->hosts) return 0;
    snprintf(why, why_size, "store %s://%.*s: this host is not known; is its name right?", u->scheme.name, unknown_n, unknown);
    return -EHOSTUNREACH;
}

/* host:port/db */
static int read_server(const char *text, size_t n, edm_redis_url *u, char *why, size_t why_size) {
    const char *end = text + n, *slash = memchr(text, '/', n);
    int error = read_hosts(text, (size_t)((slash ? slash : end) - text), u, why, why_size);
    if (error == -EHOSTUNREACH) return -EINVAL;
    if (!error && slash && slash + 1 < end) {
        char *rest, db[16] = "";
        if (end - slash - 1 < (ptrdiff_t)sizeof db) memcpy(db, slash + 1, (size_t)(end - slash - 1));
        u->db = strtoull(db, &rest, 10);
        if (!*db || *rest || db[0] == '-') error = -EINVAL;
    }
    const char *scheme = u->scheme.name, *name = u->host[0].name, *port = u->host[0].port;
    if (error)
        snprintf(why, why_size, "store %s: this address cannot be; write %s://[user:password@]host:port%s", scheme, scheme,
                 u->scheme.is_cluster ? "[,host:port]/" : "/db");
    else if (u->scheme.is_cluster && u->db)
        snprintf(why, why_size, "store %s: a cluster has no databases but 0; leave it out", scheme);
    else if (u->scheme.is_cluster)
        snprintf(u->where, sizeof u->where, "%s://%.200s:%s/", scheme, name, port);
    else
        snprintf(u->where, sizeof u->where, "%s://%.200s:%s/%llu", scheme, name, port, (unsigned long long)u->db);
    return error || (u->scheme.is_cluster && u->db) ? -EINVAL : 0;
}

static int read_socket(const char *text, size_t n, edm_redis_url *u, char *why, size_t why_size) {
    struct sockaddr_un *a = (struct sockaddr_un *)&u->host[0].address;
    if (!n || n >= sizeof a->sun_path) {
        snprintf(why, why_size, "store redis+unix: a socket's path has 1 to %zu bytes; write redis+unix:///path?db=0",
                 sizeof a->sun_path - 1);
        return -EINVAL;
    }
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, text, n);
    u->host[0].length = sizeof *a;
    u->hosts = 1;
    snprintf(u->where, sizeof u->where, "redis+unix://%s", a->sun_path);
    return 0;
}

int edm_redis_url_read(const char *rest, edm_redis_scheme scheme, edm_redis_url *u, char *why, size_t why_size) {
    char file[EDM_URL_TEXT_MAX] = "";
    edm_url_option options[8] = {{"prefix", EDM_URL_TEXT, u->prefix}, {"auth", EDM_URL_TEXT, file}};
    edm_url_option *next = options + 2;
    *next++ = (edm_url_option){scheme.is_cluster ? "wait" : "db", EDM_URL_COUNT, scheme.is_cluster ? &u->wait : &u->db};
    if (scheme.is_tls) {
        *next++ = (edm_url_option){"ca", EDM_URL_TEXT, u->ca};
        *next++ = (edm_url_option){"cert", EDM_URL_TEXT, u->cert};
        *next++ = (edm_url_option){"key", EDM_URL_TEXT, u->key};
    }
    size_t n = strcspn(rest, "?");
    const char *at = memrchr(rest, '@', n);
    memset(u, 0, sizeof *u);
    u->scheme = scheme;
    u->wait = 1;
    strcpy(u->prefix, "edm");
    if (edm_url_options(rest + n + (rest[n] == '?'), options, scheme.name, why, why_size)) return -EINVAL;
    if (strlen(u->prefix) >= EDM_REDIS_PREFIX || strpbrk(u->prefix, "{}")) { /* braces would choose the slot */
        snprintf(why, why_size, "store %s: prefix has %d bytes at most, and no braces", scheme.name, EDM_REDIS_PREFIX - 1);
        return -EINVAL;
    }
    if (*u->key && !*u->cert) {
        snprintf(why, why_size, "store %s: key=FILE goes with cert=FILE, the client's certificate", scheme.name);
        return -EINVAL;
    }
    if (*file && read_login_file(file, u, why, why_size)) return -EINVAL;
    if (at) {
        if (read_login(rest, (size_t)(at - rest), u)) {
            snprintf(why, why_size, "store redis: user and password have %d bytes at most", EDM_REDIS_NAME - 1);
            return -EINVAL;
        }
        n -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    return (scheme.is_unix ? read_socket : read_server)(rest, n, u, why, why_size);
}
