/* redis_batch.c: see redis_batch.h. */
#define _GNU_SOURCE
#include "redis_batch.h"

#include <string.h>

enum {
    HEAD_MAX = EDM_REDIS_KEY + 64, /* bytes of a command beside the page */
    NAP_NS = 1000000,
    NAP_NS_MAX = 100000000
};
#define RENEW_NS 5000000000u
#define CLUSTER_NS UINT64_C(250000000) /* in a cluster another node may have taken over: the first attempt's time */

/* What commands begin with, up to their key. */
static const struct {
    const char *text;
    size_t n;
} verbs[] = {{"*2\r\n$3\r\nGET\r\n", 13}, {"*3\r\n$3\r\nSET\r\n", 13}, {"*2\r\n$6\r\nUNLINK\r\n", 16}};
static const char mset[] = "\r\n$4\r\nMSET\r\n";
static const char asking[] = "*1\r\n$6\r\nASKING\r\n";
static const char wait_for[] = "*3\r\n$4\r\nWAIT\r\n$1\r\n", wait_until[] = "\r\n$3\r\n100\r\n"; /* ms */

/* A pipeline to one node: of the items that go there. */
struct leg {
    uint32_t node, n, answered, wanted; /* wanted: replicas that must have it */
    uint32_t each;                      /* items in one command */
    edm_store_io **io;
    int *ask;    /* per item: the node to ask instead, or -1 */
    edm_resp *c;
    int error, sent, asking;
};

/* What one turn found out, beside the items' results. */
struct turn {
    int error;   /* a node could not be talked to */
    int refused; /* one of them because of user or password */
    int moved;   /* items are elsewhere, and it is known where */
    int stale;   /* the map may be wrong */
    int thin;    /* masters with fewer replicas than wanted */
    uint64_t down; /* nodes that could not be talked to, a bit each: not asked again in this attempt */
};

static void nap(uint64_t *ns, uint64_t deadline_ns) {
    uint64_t now = edm_now_ns(), left = now < deadline_ns ? deadline_ns - now : 0;
    if (left > *ns) left = *ns;
    struct timespec t = {0, (long)left};
    nanosleep(&t, NULL);
    if (*ns < NAP_NS_MAX / 2) *ns *= 2;
}

/* ---- commands ---- */

static char *put_number(char *to, uint64_t n) {
    char digits[20];
    int k = 0;
    do digits[k++] = (char)('0' + n % 10);
    while (n /= 10);
    while (k) *to++ = digits[--k];
    return to;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static char *put_text(char *to, const char *text, size_t n) { return (char *)memcpy(to, text, n) + n; }

/* By hand: snprintf takes longer than all else of a command that is one of many. */
static size_t key_of(const edm_redis *r, uint64_t page, char *out) {
    char *to = put_number(put_text(out, r->stem, r->stem_n), page);
    *to++ = '.';
    return (size_t)(put_number(to, r->version[page]) - out);
}

/* What begins a command about `items` pages. */
static char *verb_of(enum edm_redis_verb verb, uint32_t items, char *to) {
    if (items == 1) return put_text(to, verbs[verb].text, verbs[verb].n);
    *to++ = '*';
    return put_text(put_number(to, 1 + 2 * items), mset, sizeof mset - 1);
}

/* A page's part of its command, up to its bytes; the end. */
static char *key_and_size(const edm_redis *r, enum edm_redis_verb verb, const edm_store_io *io, char *to) {
    char key[EDM_REDIS_KEY];
    size_t n = key_of(r, io->page, key);
    *to++ = '$';
    to = put_text(put_number(to, n), "\r\n", 2);
    to = put_text(put_text(to, key, n), "\r\n", 2);
    if (verb != EDM_REDIS_SET) return to;
    *to++ = '$';
    return put_text(put_number(to, edm_io_size(&r->base, io)), "\r\n", 2);
}

/* All commands of a leg in one call: pages are sent from where they are. What stands between two pages is one
 * piece. */
static int send_leg(const edm_redis *r, enum edm_redis_verb verb, const struct leg *l, uint64_t deadline_ns) {
    char text[EDM_REDIS_WINDOW * HEAD_MAX + 64], *from = text, *to = text;
    struct iovec v[2 * EDM_REDIS_WINDOW + 1];
    int k = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->asking) to = put_text(to, asking, sizeof asking - 1);
        if (i % l->each == 0) to = verb_of(verb, smaller(l->each, l->n - i), to);
        to = key_and_size(r, verb, l->io[i], to);
        if (verb != EDM_REDIS_SET) continue;
        v[k++] = (struct iovec){from, (size_t)(to - from)};
        v[k++] = (struct iovec){l->io[i]->data, edm_io_size(&r->base, l->io[i])};
        from = to;
        to = put_text(to, "\r\n", 2);
    }
    if (l->wanted) {
        to = put_number(put_text(to, wait_for, sizeof wait_for - 1), l->wanted);
        to = put_text(to, wait_until, sizeof wait_until - 1);
    }
    v[k++] = (struct iovec){from, (size_t)(to - from)};
    return edm_resp_send(l->c, v, k, deadline_ns);
}

/* `size`: of the page that was asked for. */
static int meaning(enum edm_redis_verb verb, const edm_reply *reply, uint32_t size) {
    if (reply->type == '-') return edm_resp_errno(reply->line);
    if (verb == EDM_REDIS_SET) return reply->type == '+' ? 0 : -EIO;
    if (verb == EDM_REDIS_DEL) return reply->type == ':' ? 0 : -EIO;
    if (reply->type == '_') return -ENOENT;
    return reply->type == '$' && reply->number == (int64_t)size ? 0 : -EBADMSG;
}

/* Where `page` is, as far as is known. */
static uint32_t home_of(const edm_redis *r, uint64_t page) {
    char key[EDM_REDIS_KEY];
    if (!r->url.scheme.is_cluster) return 0;
    size_t n = key_of(r, page, key);
    return atomic_load_explicit(&r->cluster.slot[edm_redis_crc16(0, key, n) % EDM_REDIS_SLOTS], memory_order_acquire);
}

/* ---- one turn: pipelines to all nodes concerned ---- */

/* The reply to the next item of `l`. */
static void settle(edm_redis *r, enum edm_redis_verb verb, struct leg *l, const edm_reply *reply, struct turn *t) {
    edm_store_io *io = l->io[l->answered];
    io->result = meaning(verb, reply, edm_io_size(&r->base, io));
    if (l->each > 1 && reply->type == '-' && (!strncmp(reply->line, "NOPERM", 6) || !strncmp(reply->line, "ERR unknown", 11))) {
        r->one_by_one = 1;
        io->result = -EAGAIN;
    }
    if (reply->type != '-' || !r->url.scheme.is_cluster) return;
    int is_ask = !strncmp(reply->line, "ASK ", 4), is_moved = !strncmp(reply->line, "MOVED ", 6);
    if (!strncmp(reply->line, "CLUSTERDOWN", 11)) io->result = -EAGAIN;
    if (io->result == -EAGAIN || is_moved) t->stale = 1;
    if (!is_ask && !is_moved) return;
    int node = edm_redis_cluster_redirect(&r->cluster, l->node, reply->line);
    io->result = node >= 0 || node == -EALREADY ? -EAGAIN : node;
    if (is_ask) l->ask[l->answered] = node;
    else t->moved |= node >= 0;
}

static void start(edm_redis *r, enum edm_redis_verb verb, struct leg *l, uint64_t deadline_ns) {
    edm_reply said;
    l->c = edm_redis_take(&r->cluster.node[l->node], deadline_ns);
    l->error = l->c ? 0 : -ETIMEDOUT;
    if (!l->c) return;
    int was_open = l->c->fd >= 0;
    l->error = edm_redis_connect(&r->cluster.node[l->node], &r->cluster.login, l->c, deadline_ns, &said);
    if (l->error) return;
    l->sent = 1;
    l->error = send_leg(r, verb, l, deadline_ns);
    if (l->error && was_open) r->reconnects++;
}

/* Are the pages of `l` on as many replicas as wanted? */
static int replicated(struct leg *l, struct turn *t, uint64_t deadline_ns) {
    edm_reply reply;
    if (!l->wanted) return 0;
    int error = edm_resp_read(l->c, &reply, NULL, 0, deadline_ns);
    if (!error && (reply.type != ':' || reply.number < l->wanted)) error = -EAGAIN;
    if (error) t->stale = 1; /* perhaps it is no longer the master, perhaps a replica is dead */
    for (uint32_t i = 0; error && i < l->n; i++)
        if (!l->io[i]->result) l->io[i]->result = -EAGAIN;
    return error == -EAGAIN ? 0 : error;
}

void edm_redis_holds(edm_redis *r, uint64_t page, uint32_t bytes) {
    uint32_t was = atomic_exchange(&r->held_of[page], bytes);
    if (bytes && !was) r->kept++;
    if (was && !bytes) r->kept--;
    r->held += (uint64_t)bytes - was;
}

/* The replies. Items without one keep -EINPROGRESS, under a version of their own from now on. */
static void finish(edm_redis *r, enum edm_redis_verb verb, struct leg *l, struct turn *t, uint64_t deadline_ns) {
    edm_reply reply;
    int was_open = l->c && l->c->fd >= 0;
    while (l->answered < l->n) {
        uint32_t end = smaller(l->answered + l->each, l->n);
        void *to = verb == EDM_REDIS_GET ? l->io[l->answered]->data : NULL;
        if (!l->error && l->asking) l->error = edm_resp_read(l->c, &reply, NULL, 0, deadline_ns);
        if (!l->error) l->error = edm_resp_read(l->c, &reply, to, to ? edm_io_size(&r->base, l->io[l->answered]) : 0, deadline_ns);
        if (l->error) break;
        for (; l->answered < end; l->answered++) settle(r, verb, l, &reply, t);
    }
    if (!l->error) l->error = replicated(l, t, deadline_ns);
    if (was_open && l->c->fd < 0) r->reconnects++;
    if (l->c) edm_redis_give(&r->cluster.node[l->node], l->c);
    for (uint32_t i = l->answered; l->sent && verb != EDM_REDIS_GET && i < l->n; i++) {
        r->version[l->io[i]->page]++;
        edm_redis_holds(r, l->io[i]->page, 0);
    }
    if (l->error == -EACCES) t->refused = 1;
    if (l->error) t->error = l->error;
    if (l->error) t->down |= UINT64_C(1) << l->node;
}

static struct leg leg_of(const edm_redis *r, enum edm_redis_verb verb, uint32_t node, edm_store_io **io, int *ask, struct turn *t) {
    struct leg l = {.node = node, .io = io, .ask = ask, .each = 1};
    if (verb == EDM_REDIS_SET && !r->url.scheme.is_cluster && !r->one_by_one) l.each = EDM_REDIS_TOGETHER;
    if (verb != EDM_REDIS_SET || !r->url.scheme.is_cluster) return l;
    l.wanted = r->cluster.node[node].replicas;
    if (l.wanted < r->url.wait) t->thin = 1;
    else l.wanted = (uint32_t)r->url.wait;
    return l;
}

/* A slot is on its way to another node, and this item is there already. */
static void ask_there(edm_redis *r, enum edm_redis_verb verb, edm_store_io *io, int node, struct turn *t, uint64_t deadline_ns) {
    int again = -1;
    struct leg l = leg_of(r, verb, (uint32_t)node, &io, &again, t);
    l.n = l.asking = 1;
    start(r, verb, &l, deadline_ns);
    finish(r, verb, &l, t, deadline_ns);
}

/* The items in the order of their nodes, a leg for each node; how many. Connections are taken in this order: no two
 * threads wait for each other's. */
static uint32_t deal(const edm_redis *r, enum edm_redis_verb verb, edm_store_io *const *io, uint32_t n, edm_store_io **order,
                     int *ask, struct leg *leg, struct turn *t) {
    uint32_t home[EDM_REDIS_WINDOW], legs = 0, k = 0;
    for (uint32_t i = 0; i < n; i++) {
        home[i] = home_of(r, io[i]->page);
        if (home[i] == EDM_REDIS_NO_NODE) t->stale = 1; /* a slot that nobody serves */
        else if (t->down >> home[i] & 1) home[i] = EDM_REDIS_NO_NODE;
    }
    for (uint32_t node = 0; k < n; legs++) {
        uint32_t least = EDM_REDIS_NO_NODE;
        for (uint32_t i = 0; i < n; i++)
            if (home[i] >= node && home[i] < least) least = home[i];
        if (least == EDM_REDIS_NO_NODE) break;
        leg[legs] = leg_of(r, verb, least, order + k, ask + k, t);
        for (uint32_t i = 0; i < n; i++)
            if (home[i] == least) order[k++] = io[i];
        leg[legs].n = (uint32_t)(order + k - leg[legs].io);
        node = least + 1;
    }
    return legs;
}

static void take_turn(edm_redis *r, enum edm_redis_verb verb, edm_store_io *const *io, uint32_t n, struct turn *t,
                      uint64_t deadline_ns) {
    edm_store_io *order[EDM_REDIS_WINDOW];
    int there[EDM_REDIS_WINDOW];
    struct leg leg[EDM_REDIS_WINDOW];
    memset(there, -1, sizeof there);
    uint32_t legs = deal(r, verb, io, n, order, there, leg, t);
    for (uint32_t i = 0; i < legs; i++) start(r, verb, &leg[i], deadline_ns);
    for (uint32_t i = 0; i < legs; i++) finish(r, verb, &leg[i], t, deadline_ns);
    for (uint32_t i = 0; i < n; i++)
        if (there[i] >= 0) ask_there(r, verb, order[i], there[i], t, deadline_ns);
}

/* ---- batches ---- */

static int again(int result) { return result == -EINPROGRESS || result == -EAGAIN; }

/* Those of io[*next..n) still to be asked for, as many as a pipeline takes. */
static uint32_t pick(const edm_redis *r, edm_store_io *io, uint32_t n, uint32_t *next, edm_store_io **out) {
    uint32_t k = 0;
    for (; *next < n && k < r->window; ++*next)
        if (again(io[*next].result)) out[k++] = &io[*next];
    return k;
}

/* All of the batch once, as far as it goes. 1: something is to be asked again. */
static int attempt(edm_redis *r, enum edm_redis_verb verb, edm_store_io *io, uint32_t n, uint32_t number, struct turn *t,
                   uint64_t deadline_ns) {
    edm_store_io *now[EDM_REDIS_WINDOW];
    uint64_t share = number < 2 ? 3 - number : 1, most = r->url.scheme.is_cluster && number < 16 ? CLUSTER_NS << number : UINT64_MAX;
    for (uint32_t next = 0, k; (k = pick(r, io, n, &next, now));) {
        uint64_t begin = edm_now_ns(), left = begin < deadline_ns ? deadline_ns - begin : 0;
        take_turn(r, verb, now, k, t, begin + (left / share < most ? left / share : most));
        if (t->error && !r->url.scheme.is_cluster) return 1;
    }
    for (uint32_t i = 0; i < n; i++)
        if (again(io[i].result)) return 1;
    return 0;
}

static void renew(edm_redis *r, uint64_t deadline_ns) {
    edm_reply said;
    edm_redis_cluster_renew(&r->cluster, deadline_ns, &said); /* or the next time */
}

int edm_redis_ask(edm_redis *r, enum edm_redis_verb verb, edm_store_io *io, uint32_t n, uint64_t deadline_ns) {
    struct turn t = {0};
    uint64_t pause = NAP_NS;
    int cause = -ETIMEDOUT, failed = 0; /* cause: says more than that time ran out */
    for (uint32_t i = 0; i < n; i++) io[i].result = -EINPROGRESS;
    for (uint32_t number = 0; n && edm_now_ns() < deadline_ns; number++) {
        t = (struct turn){0};
        int more = attempt(r, verb, io, n, number, &t, deadline_ns);
        if (t.error && t.error != -EAGAIN && t.error != -ETIMEDOUT) cause = t.error;
        if (!more || t.refused) break;
        if (r->url.scheme.is_cluster && (t.error || t.stale)) renew(r, deadline_ns);
        if (t.error || !t.moved || number) nap(&pause, deadline_ns);
    }
    if (t.thin && edm_now_ns() - r->cluster.renewed_ns > RENEW_NS) renew(r, deadline_ns);
    for (uint32_t i = 0; i < n; i++) {
        if (again(io[i].result)) io[i].result = cause;
        failed += io[i].result != 0;
    }
    if (failed) r->errors += (uint64_t)failed;
    return -failed;
}
