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

static int resolve(const char *host, const char *port, edm_redis_url *u, char *why, size_t why_size) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) {
        snprintf(why, why_size, "store %s: %s; is the host's name right?", u->where, gai_strerror(error));
        return -EINVAL;
    }
    memcpy(&u->address, found->ai_addr, found->ai_addrlen);
    u->address_length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* host:port/db */
static int read_server(const char *text, size_t n, edm_redis_url *u, char *why, size_t why_size) {
    char host[EDM_REDIS_NAME] = "", port[8] = "6379";
    const char *end = text + n, *slash = memchr(text, '/', n), *stop = slash ? slash : end, *colon;
    int bracket = n && *text == '[';
    const char *close = bracket ? memchr(text, ']', n) : NULL;
    colon = memchr(close ? close : text, ':', (size_t)(stop - (close ? close : text)));
    const char *host_end = close ? close : colon ? colon : stop;
    size_t host_n = (size_t)(host_end - text) - (bracket ? 1 : 0), port_n = colon ? (size_t)(stop - colon - 1) : 0;
    if (host_n >= sizeof host - 32 || port_n >= sizeof port || (bracket && !close)) goto bad;
    memcpy(host, text + bracket, host_n);
    if (colon) snprintf(port, sizeof port, "%.*s", (int)port_n, colon + 1);
    if (!*host) strcpy(host, "127.0.0.1");
    if (slash && slash + 1 < end) {
        char *rest, db[16] = "";
        if (end - slash - 1 >= (ptrdiff_t)sizeof db) goto bad;
        memcpy(db, slash + 1, (size_t)(end - slash - 1));
        u->db = strtoull(db, &rest, 10);
        if (*rest || db[0] == '-') goto bad;
    }
    snprintf(u->where, sizeof u->where, "redis://%.200s:%s/%llu", host, port, (unsigned long long)u->db);
    return resolve(host, port, u, why, why_size);
bad:
    snprintf(why, why_size, "store redis: this address cannot be; write redis://[user:password@]host:port/db");
    return -EINVAL;
}

static int read_socket(const char *text, size_t n, edm_redis_url *u, char *why, size_t why_size) {
    struct sockaddr_un *a = (struct sockaddr_un *)&u->address;
    if (!n || n >= sizeof a->sun_path) {
        snprintf(why, why_size, "store redis+unix: a socket's path has 1 to %zu bytes; write redis+unix:///path?db=0",
                 sizeof a->sun_path - 1);
        return -EINVAL;
    }
    a->sun_family = AF_UNIX;
    memcpy(a->sun_path, text, n);
    u->address_length = sizeof *a;
    snprintf(u->where, sizeof u->where, "redis+unix://%s", a->sun_path);
    return 0;
}

int edm_redis_url_read(const char *rest, int is_unix, edm_redis_url *u, char *why, size_t why_size) {
    char file[EDM_URL_TEXT_MAX] = "";
    edm_url_option options[] = {{"prefix", EDM_URL_TEXT, u->prefix}, {"auth", EDM_URL_TEXT, file},
                                {"db", EDM_URL_COUNT, &u->db},       {0}};
    size_t n = strcspn(rest, "?");
    const char *at = memrchr(rest, '@', n);
    memset(u, 0, sizeof *u);
    strcpy(u->prefix, "edm");
    if (edm_url_options(rest + n + (rest[n] == '?'), options, "redis", why, why_size)) return -EINVAL;
    if (strlen(u->prefix) >= EDM_REDIS_PREFIX) {
        snprintf(why, why_size, "store redis: prefix is too long; %d bytes at most", EDM_REDIS_PREFIX - 1);
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
    return (is_unix ? read_socket : read_server)(rest, n, u, why, why_size);
}
