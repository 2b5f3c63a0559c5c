/* members.c: see members.h. */
#include "members.h"

#include "patience.h"

#include <errno.h>
#include <string.h>

#define FAIR_NS 20000000u

/* The length up to `stop` outside of brackets. */
static size_t length(const char *text, char stop) {
    int depth = 0;
    size_t n = 0;
    for (; text[n] && (depth > 0 || text[n] != stop); n++) depth += (text[n] == '[') - (text[n] == ']');
    return n;
}

char *edm_member_next(char **rest) {
    char *url = *rest;
    if (!*url) return NULL;
    size_t n = length(url, ',');
    *rest = url + n + (url[n] == ',');
    url[n] = '\0';
    if (n < 2 || *url != '[' || url[n - 1] != ']') return url;
    url[n - 1] = '\0';
    return url + 1;
}

char *edm_member_options(char *urls, const edm_url_option *known) {
    char *last = NULL;
    for (char *at = urls; at += length(at, '?'), *at; at++) last = at;
    for (const edm_url_option *o = known; last && o->name; o++) {
        size_t n = strlen(o->name);
        if (strncmp(last + 1, o->name, n) || last[n + 1] != '=') continue;
        *last = '\0';
        return last + 1;
    }
    return urls + strlen(urls);
}

int edm_is_silence(int error) {
    return error && error != -ENOENT && error != -ENOSPC && error != -EBADMSG && error != -EIO && error != -EHOSTDOWN;
}

int edm_is_dead(int error, uint64_t begun_ns, uint64_t deadline_ns) {
    if (error != -ETIMEDOUT) return edm_is_silence(error);
    return deadline_ns >= begun_ns + FAIR_NS && !edm_was_stopped(begun_ns, deadline_ns - begun_ns);
}

void edm_stats_of_member(edm_store_stats *out, const edm_store_stats *one) {
    out->reconnects += one->reconnects;
    out->dead += one->dead;
    out->skipped += one->skipped;
    out->resynced += one->resynced;
    out->moved += one->moved;
    out->asked += one->asked;
    out->hedges += one->hedges;
    out->hedges_won += one->hedges_won;
}
