/* store_redis.c: `redis://`, pages on a redis or valkey server, each a string under its own key.
 *
 * A batch is a pipeline: all commands, then all replies. A call takes a connection of a fixed
 * pool (made when first needed), so threads do not wait for each other's answers. A connection
 * that broke is made again, with growing pauses, until the call's deadline; what had no answer
 * is asked again.
 *
 * Keys are "prefix:epoch:page.version". The epoch is drawn when the store is opened: regions
 * do not see each other's pages. The version makes late commands harmless: a SET or DEL that was
 * sent but not answered may still be carried out by the server, even after a later SET on another
 * connection. So whenever that is possible, the page goes on under its next version.
 *
 * The server must not throw pages away by itself: with a maxmemory-policy other than noeviction
 * it is refused.
 */
#define _GNU_SOURCE
#include "redis_url.h"
#include "resp.h"
#include "stores.h"
#include "sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    CONNECTIONS = 16,
    WINDOW = 64,     /* commands in a pipeline; more go in turns */
    HEAD_MAX = 256,  /* bytes of a command before the page */
    KEY_MAX = EDM_REDIS_PREFIX + 48,
    NAP_NS = 1000000,
    NAP_NS_MAX = 100000000
};
#define OPEN_NS 5000000000u
#define CLOSE_NS 2000000000u

enum verb { GET, SET, DEL };
static const char *const verbs[] = {"$3\r\nGET", "$3\r\nSET", "$6\r\nUNLINK"};

struct redis {
    edm_store base;
    edm_redis_url url;
    char epoch[17];
    char hello[4 * EDM_REDIS_NAME]; /* AUTH and SELECT, as they are sent */
    uint32_t hello_bytes, hello_replies;
    _Atomic uint32_t taken; /* bit per connection */
    edm_event_t given;
    edm_resp connection[CONNECTIONS];
    _Atomic uint16_t *version; /* per page */
    _Atomic uint32_t *held_of; /* per page: its bytes on the server, 0: it is not there */
    _Atomic uint64_t gets, puts, dels, errors, kept, held, reconnects, bytes_in, bytes_out;
};

/* ---- connections ---- */

static edm_resp *take(struct redis *r, uint64_t deadline_ns) {
    for (;;) {
        uint32_t ticket = edm_event_ticket(&r->given);
        uint32_t taken = atomic_load_explicit(&r->taken, memory_order_relaxed), free = ~taken & ((1u << CONNECTIONS) - 1);
        if (free) {
            uint32_t bit = (uint32_t)__builtin_ctz(free);
            if (atomic_compare_exchange_weak_explicit(&r->taken, &taken, taken | 1u << bit, memory_order_acquire,
                                                      memory_order_relaxed))
                return &r->connection[bit];
            continue;
        }
        uint64_t now = edm_now_ns();
        if (now >= deadline_ns) return NULL;
        edm_event_wait(&r->given, ticket, 100, deadline_ns - now);
    }
}

static void give(struct redis *r, edm_resp *c) {
    atomic_fetch_and_explicit(&r->taken, ~(1u << (c - r->connection)), memory_order_release);
    edm_event_raise(&r->given);
}

/* `said`: the server's words where it refused. */
static int connect_once(struct redis *r, edm_resp *c, uint64_t deadline_ns, edm_reply *said) {
    int error = edm_resp_connect(c, (const struct sockaddr *)&r->url.address, r->url.address_length, deadline_ns);
    struct iovec v = {r->hello, r->hello_bytes};
    said->line[0] = '\0';
    if (!error && r->hello_bytes) error = edm_resp_send(c, &v, 1, deadline_ns);
    for (uint32_t i = 0; i < r->hello_replies && !error; i++) {
        error = edm_resp_read(c, said, NULL, 0, deadline_ns);
        if (!error && said->type == '-') error = edm_resp_errno(said->line);
    }
    if (error) edm_resp_close(c);
    return error;
}

static void nap(uint64_t *ns, uint64_t deadline_ns) {
    uint64_t now = edm_now_ns(), left = now < deadline_ns ? deadline_ns - now : 0;
    if (left > *ns) left = *ns;
    struct timespec t = {0, (long)left};
    nanosleep(&t, NULL);
    if (*ns < NAP_NS_MAX / 2) *ns *= 2;
}

/* ---- commands ---- */

static size_t key_of(const struct redis *r, uint64_t page, uint16_t version, char *out) {
    return (size_t)snprintf(out, KEY_MAX, "%s:%s:%llu.%u", r->url.prefix, r->epoch, (unsigned long long)page, version);
}

/* The command up to the page's bytes. */
static size_t head_of(const struct redis *r, enum verb verb, const edm_store_io *io, char *out) {
    char key[KEY_MAX];
    size_t n = key_of(r, io->page, r->version[io->page], key);
    int at = snprintf(out, HEAD_MAX, "*%d\r\n%s\r\n$%zu\r\n%s\r\n", verb == SET ? 3 : 2, verbs[verb], n, key);
    if (verb == SET) at += snprintf(out + at, HEAD_MAX - (size_t)at, "$%u\r\n", edm_io_size(&r->base, io));
    return (size_t)at;
}

static int send_all(const struct redis *r, edm_resp *c, enum verb verb, edm_store_io *const *io, uint32_t n,
                    uint64_t deadline_ns) {
    char head[WINDOW][HEAD_MAX];
    struct iovec v[3 * WINDOW];
    int k = 0;
    for (uint32_t i = 0; i < n; i++) {
        v[k++] = (struct iovec){head[i], head_of(r, verb, io[i], head[i])};
        if (verb != SET) continue;
        v[k++] = (struct iovec){io[i]->data, edm_io_size(&r->base, io[i])};
        v[k++] = (struct iovec){(void *)"\r\n", 2};
    }
    return edm_resp_send(c, v, k, deadline_ns);
}

/* `size`: of the page that was asked for. */
static int meaning(enum verb verb, const edm_reply *reply, uint32_t size) {
    if (reply->type == '-') return edm_resp_errno(reply->line);
    if (verb == SET) return reply->type == '+' ? 0 : -EIO;
    if (verb == DEL) return reply->type == ':' ? 0 : -EIO;
    if (reply->type == '_') return -ENOENT;
    return reply->type == '$' && reply->number == (int64_t)size ? 0 : -EBADMSG;
}

static int read_all(const struct redis *r, edm_resp *c, enum verb verb, edm_store_io *const *io, uint32_t n,
                    uint32_t *answered, uint64_t deadline_ns) {
    edm_reply reply;
    for (uint32_t i = 0; i < n; i++, ++*answered) {
        uint32_t size = edm_io_size(&r->base, io[i]);
        int error = edm_resp_read(c, &reply, verb == GET ? io[i]->data : NULL, verb == GET ? size : 0, deadline_ns);
        if (error) return error;
        io[i]->result = meaning(verb, &reply, size);
    }
    return 0;
}

static void now_holds(struct redis *r, uint64_t page, uint32_t bytes) {
    uint32_t was = atomic_exchange(&r->held_of[page], bytes);
    if (bytes && !was) r->kept++;
    if (was && !bytes) r->kept--;
    r->held += (uint64_t)bytes - was;
}

/* One turn over at most WINDOW commands, on a connection that is there. Those without an answer
 * keep -EINPROGRESS, under a version of their own from now on. */
static int turn(struct redis *r, edm_resp *c, enum verb verb, edm_store_io *const *io, uint32_t n, uint64_t deadline_ns) {
    uint32_t answered = 0;
    int error = send_all(r, c, verb, io, n, deadline_ns);
    if (!error) error = read_all(r, c, verb, io, n, &answered, deadline_ns);
    if (error && verb != GET)
        for (uint32_t i = answered; i < n; i++) {
            r->version[io[i]->page]++;
            now_holds(r, io[i]->page, 0);
        }
    return error;
}

static int again(int result) { return result == -EINPROGRESS || result == -EAGAIN; }

/* Those of io[*next..n) still to be asked for, at most WINDOW. */
static uint32_t pick(edm_store_io *io, uint32_t n, uint32_t *next, edm_store_io **out) {
    uint32_t k = 0;
    for (; *next < n && k < WINDOW; ++*next)
        if (again(io[*next].result)) out[k++] = &io[*next];
    return k;
}

/* All of the batch once, as far as it goes. The error that ended it, -EAGAIN: something to ask again. */
static int round_of(struct redis *r, edm_resp *c, enum verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    edm_store_io *now[WINDOW];
    edm_reply said;
    int error = c->fd < 0 ? connect_once(r, c, deadline_ns, &said) : 0;
    for (uint32_t next = 0, k; !error && (k = pick(io, n, &next, now));) error = turn(r, c, verb, now, k, deadline_ns);
    for (uint32_t i = 0; i < n && !error; i++)
        if (again(io[i].result)) error = -EAGAIN;
    return error;
}

static int ask(struct redis *r, enum verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    if (!n) return 0;
    edm_resp *c = take(r, deadline_ns);
    uint64_t pause = NAP_NS;
    int error = c ? -EAGAIN : -ETIMEDOUT, cause = -ETIMEDOUT, failed = 0; /* cause: says more than that time ran out */
    for (uint32_t i = 0; i < n; i++) io[i].result = -EINPROGRESS;
    for (int first = 1; c && error && error != -EACCES && edm_now_ns() < deadline_ns; first = 0) {
        if (!first) nap(&pause, deadline_ns);
        int was_open = c->fd >= 0;
        error = round_of(r, c, verb, io, n, deadline_ns);
        if (was_open && c->fd < 0) r->reconnects++;
        if (error && error != -EAGAIN && error != -ETIMEDOUT) cause = error;
    }
    if (c) give(r, c);
    for (uint32_t i = 0; i < n; i++) {
        if (io[i].result == -EINPROGRESS) io[i].result = cause;
        failed += io[i].result != 0;
    }
    if (failed) r->errors += (uint64_t)failed;
    return -failed;
}

static int put(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct redis *r = (struct redis *)s;
    int failed = ask(r, SET, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++)
        if (!io[i].result) now_holds(r, io[i].page, edm_io_size(s, &io[i]));
    r->puts += n;
    r->bytes_in += edm_io_bytes(s, io, n);
    return failed;
}

static int get(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct redis *r = (struct redis *)s;
    r->gets += n;
    r->bytes_out += edm_io_bytes(s, io, n);
    return ask(r, GET, io, n, deadline_ns);
}

static int del(edm_store *s, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct redis *r = (struct redis *)s;
    int failed = ask(r, DEL, io, n, deadline_ns);
    for (uint32_t i = 0; i < n; i++) now_holds(r, io[i].page, 0);
    r->dels += n;
    return failed;
}

/* A put that was answered is as durable as the server's own settings make it. */
static int sync_nothing(edm_store *s, uint64_t deadline_ns) {
    (void)s, (void)deadline_ns;
    return 0;
}

static void stats(edm_store *s, edm_store_stats *out) {
    struct redis *r = (struct redis *)s;
    *out = (edm_store_stats){.gets = r->gets, .puts = r->puts, .dels = r->dels, .errors = r->errors,
                             .bytes_in = r->bytes_in, .bytes_out = r->bytes_out,
                             .pages = r->kept, .bytes_held = r->held, .reconnects = r->reconnects};
}

/* ---- opening and closing ---- */

/* The store's keys leave the server, those of abandoned versions too. */
static void remove_keys(struct redis *r) {
    uint64_t deadline = edm_now_ns() + CLOSE_NS;
    edm_store_io io[WINDOW];
    uint32_t n = 0;
    for (uint64_t page = 0; page < r->base.pages; page++) {
        for (uint32_t version = r->version[page]; version; version--) {
            edm_store_io one = {.page = page};
            r->version[page] = (uint16_t)(version - 1);
            ask(r, DEL, &one, 1, deadline);
            r->version[page] = (uint16_t)version;
        }
        if (r->held_of[page]) io[n++] = (edm_store_io){.page = page};
        if (n < WINDOW && page + 1 < r->base.pages) continue;
        ask(r, DEL, io, n, deadline);
        n = 0;
    }
}

static void close_redis(edm_store *s) {
    struct redis *r = (struct redis *)s;
    if (r->version && r->held_of) remove_keys(r);
    for (int i = 0; i < CONNECTIONS; i++) edm_resp_close(&r->connection[i]);
    explicit_bzero(r->hello, sizeof r->hello);
    explicit_bzero(&r->url, sizeof r->url);
    free((void *)r->version);
    free((void *)r->held_of);
    free(r);
}

static const edm_store_ops ops = {"redis", put, get, del, sync_nothing, stats, close_redis};

static void prepare_hello(struct redis *r) {
    const edm_redis_url *u = &r->url;
    char db[24];
    int at = 0, size = sizeof r->hello;
    if (*u->password && *u->user)
        at = snprintf(r->hello, (size_t)size, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(u->user), u->user,
                      strlen(u->password), u->password);
    else if (*u->password)
        at = snprintf(r->hello, (size_t)size, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(u->password), u->password);
    r->hello_replies = at > 0;
    if (u->db) {
        int n = snprintf(db, sizeof db, "%llu", (unsigned long long)u->db);
        at += snprintf(r->hello + at, (size_t)(size - at), "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", n, db);
        r->hello_replies++;
    }
    r->hello_bytes = (uint32_t)at;
}

/* 0, or -1 with `why`: the server may not be used. */
static int look_at_server(struct redis *r, edm_resp *c, uint64_t deadline, char *why, size_t why_size) {
    char info[8192] = "", ask_info[] = "*2\r\n$4\r\nINFO\r\n$6\r\nmemory\r\n";
    struct iovec v = {ask_info, sizeof ask_info - 1};
    edm_reply reply;
    int error = edm_resp_send(c, &v, 1, deadline);
    if (!error) error = edm_resp_read(c, &reply, info, sizeof info - 1, deadline);
    if (error) {
        snprintf(why, why_size, "store %s: %s; is it a redis or valkey server?", r->url.where, strerror(-error));
        return -1;
    }
    if (reply.type == '-' && !strncmp(reply.line, "NOAUTH", 6)) {
        snprintf(why, why_size, "store %s: it wants a password; write redis://user:password@... or ?auth=FILE", r->url.where);
        return -1;
    }
    const char *most = strstr(info, "\nmaxmemory:"), *policy = strstr(info, "\nmaxmemory_policy:");
    if (!most || !policy || strtoull(most + 11, NULL, 10) == 0 || !strncmp(policy + 18, "noeviction", 10)) return 0;
    snprintf(why, why_size, "store %s: the server throws keys away when it is full (maxmemory-policy %.*s); redis-cli config set "
             "maxmemory-policy noeviction", r->url.where, (int)strcspn(policy + 18, "\r\n"), policy + 18);
    return -1;
}

static int try_server(struct redis *r, char *why, size_t why_size) {
    uint64_t deadline = edm_now_ns() + OPEN_NS;
    edm_resp *c = &r->connection[0];
    edm_reply said;
    int error = connect_once(r, c, deadline, &said);
    if (!error) return look_at_server(r, c, deadline, why, why_size);
    if (error == -EACCES)
        snprintf(why, why_size, "store %s: wrong user or password; check the URL, or the file of ?auth=FILE", r->url.where);
    else if (*said.line)
        snprintf(why, why_size, "store %s: the server says: %.120s", r->url.where, said.line);
    else
        snprintf(why, why_size, "store %s: %s; is the server running? redis-server starts one", r->url.where, strerror(-error));
    return -1;
}

static edm_store *open_redis(const char *rest, int is_unix, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    uint64_t epoch;
    struct redis *r = calloc(1, sizeof *r);
    if (r) {
        for (int i = 0; i < CONNECTIONS; i++) r->connection[i].fd = -1;
        r->version = calloc(pages, sizeof *r->version);
        r->held_of = calloc(pages, sizeof *r->held_of);
    }
    if (!r || !r->version || !r->held_of || getrandom(&epoch, sizeof epoch, 0) != sizeof epoch) {
        snprintf(why, why_size, "store redis: out of memory for %llu pages", (unsigned long long)pages);
        if (r) close_redis(&r->base);
        return NULL;
    }
    r->base = (edm_store){&ops, EDM_STORE_SIGNAL_SAFE | EDM_STORE_BLOCKING, page_size, 0};
    snprintf(r->epoch, sizeof r->epoch, "%016llx", (unsigned long long)epoch);
    if (edm_redis_url_read(rest, is_unix, &r->url, why, why_size)) {
        close_redis(&r->base);
        return NULL;
    }
    prepare_hello(r);
    if (try_server(r, why, why_size)) {
        close_redis(&r->base);
        return NULL;
    }
    r->base.pages = pages;
    return &r->base;
}

static edm_store *open_tcp(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, 0, page_size, pages, why, why_size);
}

static edm_store *open_unix(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_redis(rest, 1, page_size, pages, why, why_size);
}

static edm_store *open_tls(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    (void)rest, (void)page_size, (void)pages;
    snprintf(why, why_size, "store rediss: TLS is not supported; run stunnel or ghostunnel here, and use redis://127.0.0.1:port");
    return NULL;
}

const edm_store_kind edm_store_redis = {"redis://", "redis://[user:password@]host:port/db[?prefix=edm&auth=FILE]",
                                        open_tcp};
const edm_store_kind edm_store_redis_unix = {"redis+unix://", "redis+unix:///path[?db=0]", open_unix};
const edm_store_kind edm_store_redis_tls = {"rediss://", "", open_tls};
