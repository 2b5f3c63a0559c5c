/* store_redis.c: `redis://`, `redis+unix://` and `redis-cluster://`: pages on redis or valkey servers, each a string
 * under its own key. redis_batch.h tells how they get there.
 *
 * A server must not throw pages away by itself: with a maxmemory-policy other than noeviction
 * it is refused.
 */
#define _GNU_SOURCE
#include "redis_batch.h"
#include "stores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TURN_BYTES (1u << 20) /* of pages in a pipeline */
#define OPEN_NS 5000000000u
#define CLOSE_NS 2000000000u
#define SHAKE_NS 1000000000u /* a TLS handshake that takes longer: does the port speak TLS at all? */

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_redis *r = (edm_redis *)s;
    int failed = edm_redis_ask(r, EDM_REDIS_SET, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++)
        if (!io[i].result) edm_redis_holds(r, io[i].page, edm_io_size(s, &io[i]));
    r->puts += n;
    r->bytes_in += edm_io_bytes(s, io, n);
    return failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_redis *r = (edm_redis *)s;
    r->gets += n;
    r->bytes_out += edm_io_bytes(s, io, n);
    return edm_redis_ask(r, EDM_REDIS_GET, io, n, deadline_ns);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_redis *r = (edm_redis *)s;
    int failed = edm_redis_ask(r, EDM_REDIS_DEL, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++) edm_redis_holds(r, io[i].page, 0);
    r->dels += n;
    return failed;
}

/* A put that was answered is as durable as the server's own settings make it. */
static int sync_nothing(edm_store *s, uint64_t deadline_ns) {
    (void)s, (void)deadline_ns;
    return 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    edm_redis *r = (edm_redis *)s;
    *out = (edm_store_stats){.gets = r->gets, .puts = r->puts, .dels = r->dels, .errors = r->errors,
                             .bytes_in = r->bytes_in, .bytes_out = r->bytes_out,
                             .pages = r->kept, .bytes_held = r->held, .reconnects = r->reconnects};
}

/* ---- opening and closing ---- */

/* The store's keys leave the server, those of abandoned versions too. */
static void remove_keys(edm_redis *r) {
    uint64_t deadline = edm_now_ns() + CLOSE_NS;
    edm_store_io io[EDM_REDIS_WINDOW];
    uint32_t n = 0;
    for (uint64_t page = 0; page < r->base.pages; page++) {
        uint16_t newest = r->version[page];
        for (uint16_t old = 0; old < newest; old++) {
            edm_store_io one = {.page = page};
            r->version[page] = old;
            edm_redis_ask(r, EDM_REDIS_DEL, &one, 1, deadline);
        }
        r->version[page] = newest;
        if (r->held_of[page]) io[n++] = (edm_store_io){.page = page};
        if (n < EDM_REDIS_WINDOW && page + 1 < r->base.pages) continue;
        edm_redis_ask(r, EDM_REDIS_DEL, io, n, deadline);
        n = 0;
    }
}

static void close_redis(edm_store *s) {
    edm_redis *r = (edm_redis *)s;
    if (r->version && r->held_of) remove_keys(r);
    edm_redis_cluster_close(&r->cluster);
    explicit_bzero(&r->url, sizeof r->url);
    free((void *)r->version);
    free((void *)r->held_of);
    free(r);
}

static const edm_store_ops ops = {"redis", put, get, del, sync_nothing, stats, .close = close_redis};

/* What "name:" of an INFO says, up to the line's end; "" if it says nothing of it. */
static const char *info_of(const char *info, const char *name) {
    const char *at = strstr(info, name);
    return at ? at + strlen(name) : "";
}

/* 1, with `why`: it was TLS. */
static int tls_refusal(const edm_redis *r, char *why, size_t why_size) {
    const char *where = r->url.where;
    char words[200] = "";
    if (r->cluster.login.tls) edm_tls_words(r->cluster.login.tls, words, sizeof words);
    if (!*words) return 0;
    if (strstr(words, "alert"))
        snprintf(why, why_size, "store %s: the server refuses TLS as it is (%s); a client's certificate is given with "
                 "?cert=FILE&key=FILE", where, words);
    else if (strstr(words, "mismatch"))
        snprintf(why, why_size, "store %s: its certificate is another host's (%s); write the name that is in it", where, words);
    else
        snprintf(why, why_size, "store %s: its certificate cannot be trusted (%s); ?ca=FILE names the one that signed it", where,
                 words);
    return 1;
}

/* 0, or -1 with `why`: the server may not be used. */
static int look_at_server(edm_redis *r, edm_resp *c, uint64_t deadline, char *why, size_t why_size) {
    static char ask_info[] = "*2\r\n$4\r\nINFO\r\n$6\r\nmemory\r\n*2\r\n$4\r\nINFO\r\n$7\r\ncluster\r\n";
    char info[8192] = "", cluster[256] = "";
    struct iovec v = {ask_info, sizeof ask_info - 1};
    edm_reply reply, other;
    int error = edm_resp_send(c, &v, 1, deadline);
    if (!error) error = edm_resp_read(c, &reply, info, sizeof info - 1, deadline);
    if (!error) error = edm_resp_read(c, &other, cluster, sizeof cluster - 1, deadline);
    const char *policy = info_of(info, "\nmaxmemory_policy:"), *where = r->url.where;
    if (error && tls_refusal(r, why, why_size)) return -1;
    if (error && r->url.scheme.is_tls) { /* the alert that says so may be lost with the connection */
        snprintf(why, why_size, "store %s: %s; if it wants a client's certificate: ?cert=FILE&key=FILE", where, strerror(-error));
    } else if (error) {
        snprintf(why, why_size, "store %s: %s; is it a redis or valkey server? (one that speaks TLS: rediss://)", where,
                 strerror(-error));
    } else if (reply.type == '-' && !strncmp(reply.line, "NOAUTH", 6)) {
        snprintf(why, why_size, "store %s: it wants a password; write %s://user:password@... or ?auth=FILE", where,
                 r->url.scheme.name);
    } else if (strtoull(info_of(info, "\nmaxmemory:"), NULL, 10) && *policy && strncmp(policy, "noeviction", 10)) {
        snprintf(why, why_size, "store %s: the server throws keys away when it is full (maxmemory-policy %.*s); redis-cli "
                 "config set maxmemory-policy noeviction", where, (int)strcspn(policy, "\r\n"), policy);
    } else if (!r->url.scheme.is_cluster && *info_of(cluster, "cluster_enabled:") == '1') {
        snprintf(why, why_size, "store %s: this server is part of a cluster; write redis-cluster://%s:%s/", where,
                 r->url.host[0].name, r->url.host[0].port);
    } else {
        return 0;
    }
    return -1;
}

static void refusal(const edm_redis *r, int error, const edm_reply *said, char *why, size_t why_size) {
    const char *where = r->url.where;
    if (tls_refusal(r, why, why_size)) return;
    if (error == -EACCES && !strncmp(said->line, "NOAUTH", 6))
        snprintf(why, why_size, "store %s: it wants a password; write %s://user:password@... or ?auth=FILE", where,
                 r->url.scheme.name);
    else if (error == -EACCES)
        snprintf(why, why_size, "store %s: wrong user or password; check the URL, or the file of ?auth=FILE", where);
    else if (error == -EPROTONOSUPPORT)
        snprintf(why, why_size, "store %s: this server is not part of a cluster; write redis://%s:%s/0", where,
                 r->url.host[0].name, r->url.host[0].port);
    else if (error == -ENODATA)
        snprintf(why, why_size, "store %s: no node of this cluster serves any keys; make one: redis-cli --cluster create ...",
                 where);
    else if (error == -ETIMEDOUT && r->url.scheme.is_tls)
        snprintf(why, why_size, "store %s: no answer; if this port does not speak TLS, write redis://%s:%s/%llu", where,
                 r->url.host[0].name, r->url.host[0].port, (unsigned long long)r->url.db);
    else if (strstr(said->line, "without any password"))
        snprintf(why, why_size, "store %s: this server has no password; leave it out of the URL", where);
    else if (strstr(said->line, "DB index"))
        snprintf(why, why_size, "store %s: the server says: %.60s; its databases are 0 to 15, unless it was told otherwise",
                 where, said->line + 4);
    else if (*said->line)
        snprintf(why, why_size, "store %s: the server says: %.120s", where, said->line);
    else
        snprintf(why, why_size, "store %s: %s; is the server running? redis-server starts one", where, strerror(-error));
}

/* A server that waits for the rest of a line does not answer a handshake: it is asked a line of its own. */
static int speaks_plainly(const edm_redis_node *n, uint64_t deadline) {
    static char ping[] = "PING\r\n";
    struct iovec v = {ping, sizeof ping - 1};
    edm_resp *c = calloc(1, sizeof *c);
    edm_reply reply = {0};
    if (!c) return 0;
    int error = edm_resp_connect(c, (const struct sockaddr *)&n->at.address, n->at.length, deadline);
    if (!error) error = edm_resp_send(c, &v, 1, deadline);
    if (!error) error = edm_resp_read(c, &reply, NULL, 0, deadline);
    edm_resp_close(c);
    free(c);
    return !error && (reply.type == '+' || reply.type == '-');
}

/* Each server that keeps pages now. 0, or -1 with `why`. */
static int try_server(edm_redis *r, uint32_t node, uint64_t deadline, char *why, size_t why_size) {
    edm_redis_node *n = &r->cluster.node[node];
    edm_resp *c = &n->connection[0];
    edm_reply said;
    uint64_t first = edm_now_ns() + SHAKE_NS;
    int is_tls = r->url.scheme.is_tls, error = edm_redis_connect(n, &r->cluster.login, c, is_tls ? first : deadline, &said);
    if (is_tls && error == -ETIMEDOUT && !speaks_plainly(n, first + SHAKE_NS))
        error = edm_redis_connect(n, &r->cluster.login, c, deadline, &said);
    if (!error) return look_at_server(r, c, deadline, why, why_size);
    refusal(r, error, &said, why, why_size);
    return -1;
}

static int try_cluster(edm_redis *r, uint64_t deadline, char *why, size_t why_size) {
    edm_redis_cluster *k = &r->cluster;
    uint8_t serves[EDM_REDIS_NODES + 256] = {0};
    edm_reply said;
    k->opening = 1;
    int error = edm_redis_cluster_renew(k, deadline, &said);
    k->opening = 0;
    if (error) refusal(r, error, &said, why, why_size);
    if (error) return -1;
    for (int s = 0; s < EDM_REDIS_SLOTS; s++) serves[k->slot[s]] = 1;
    if (serves[EDM_REDIS_NO_NODE]) {
        snprintf(why, why_size, "store %s: %u of the cluster's 16384 slots are not served; redis-cli --cluster fix %s:%s",
                 r->url.where, edm_redis_cluster_unserved(k), r->url.host[0].name, r->url.host[0].port);
        return -1;
    }
    for (uint32_t i = 0; i < EDM_REDIS_NODES; i++)
        if (serves[i] && try_server(r, i, deadline, why, why_size)) return -1;
    return 0;
}

static edm_store *open_redis(const char *rest, edm_redis_scheme scheme, uint32_t page_size, uint64_t pages, char *why,
                             size_t why_size) {
    uint64_t epoch, deadline;
    edm_redis *r = calloc(1, sizeof *r);
    if (r) {
        r->version = calloc(pages, sizeof *r->version);
        r->held_of = calloc(pages, sizeof *r->held_of);
    }
    if (!r || !r->version || !r->held_of || getrandom(&epoch, sizeof epoch, 0) != sizeof epoch) {
        snprintf(why, why_size, "store redis: out of memory for %llu pages", (unsigned long long)pages);
        if (r) close_redis(&r->base);
        return NULL;
    }
    r->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING, page_size, 0};
    r->window = page_size * EDM_REDIS_WINDOW <= TURN_BYTES ? EDM_REDIS_WINDOW : page_size < TURN_BYTES ? TURN_BYTES / page_size : 1;
    int error = edm_redis_url_read(rest, scheme, &r->url, why, why_size);
    r->stem_n = (size_t)snprintf(r->stem, sizeof r->stem, "%.*s:%016llx:", EDM_REDIS_PREFIX, r->url.prefix,
                                 (unsigned long long)epoch);
    if (!error) error = edm_redis_cluster_open(&r->cluster, &r->url, why, why_size);
    deadline = edm_now_ns() + OPEN_NS;
    if (!error) error = scheme.is_cluster ? try_cluster(r, deadline, why, why_size) : try_server(r, 0, deadline, why, why_size);
    if (error) {
        close_redis(&r->base);
        return NULL;
    }
    r->base.pages = pages;
    return &r->base;
}

static edm_store *open_tcp(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, (edm_redis_scheme){.name = "redis"}, page_size, pages, why, why_size);
}

static edm_store *open_unix(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, (edm_redis_scheme){.name = "redis+unix", .is_unix = 1}, page_size, pages, why, why_size);
}

static edm_store *open_cluster(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, (edm_redis_scheme){.name = "redis-cluster", .is_cluster = 1}, page_size, pages, why, why_size);
}

static edm_store *open_tls(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, (edm_redis_scheme){.name = "rediss", .is_tls = 1}, page_size, pages, why, why_size);
}

const edm_store_kind edm_store_redis = {"redis://", "redis://[user:password@]host:port/db[?prefix=edm&auth=FILE]",
                                        open_tcp};
const edm_store_kind edm_store_redis_unix = {"redis+unix://", "redis+unix:///path[?db=0]", open_unix};
const edm_store_kind edm_store_redis_cluster = {"redis-cluster://", "redis-cluster://host:port[,host:port]/[?wait=1]",
                                                open_cluster};
const edm_store_kind edm_store_redis_tls = {"rediss://", "rediss://host:port/db[?ca=FILE&cert=FILE&key=FILE]", open_tls};
