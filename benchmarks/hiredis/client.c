/* client.c: what hiredis does with a server, for benchmarks/redis.py to compare with.
 *
 *   client PORT get PAGES N SEED    N times GET of 4096 bytes, one after the other, keys drawn uniformly
 *   client PORT set PAGES N DEPTH   N times SET of 4096 bytes, in pipelines of DEPTH
 *   client PORT mget PAGES N DEPTH  N times GET, in pipelines of DEPTH
 *
 * PAGES keys are set before. Prints one JSON object, times in ns. Each reply is checked.
 */
#include <hiredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096 };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, const redisContext *c) {
    fprintf(stderr, "client: %s: %s\n", what, c && c->err ? c->errstr : "not what was expected");
    exit(1);
}

static void ask_set(redisContext *c, uint32_t page, const uint8_t *bytes) {
    if (redisAppendCommand(c, "SET client:%u %b", page, bytes, (size_t)PAGE)) fail("SET", c);
}

static void ask_get(redisContext *c, uint32_t page) {
    if (redisAppendCommand(c, "GET client:%u", page)) fail("GET", c);
}

static void answer(redisContext *c, int type) {
    redisReply *reply;
    if (redisGetReply(c, (void **)&reply) || reply->type != type) fail("reply", c);
    if (type == REDIS_REPLY_STRING && reply->len != PAGE) fail("length", c);
    freeReplyObject(reply);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void one_by_one(redisContext *c, uint32_t pages, uint32_t n, uint64_t seed) {
    uint64_t *took = malloc(n * sizeof *took), sum = 0;
    for (uint32_t i = 0; took && i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t begin = now_ns();
        ask_get(c, (uint32_t)(seed >> 33) % pages);
        answer(c, REDIS_REPLY_STRING);
        took[i] = now_ns() - begin;
        sum += took[i];
    }
    if (!took) fail("out of memory", NULL);
    qsort(took, n, sizeof *took, compare);
    printf("{\"mean\": %.1f, \"p50\": %llu, \"p99\": %llu}\n", (double)sum / n, (unsigned long long)took[n / 2],
           (unsigned long long)took[n - 1 - n / 100]);
    free(took);
}

static void pipelined(redisContext *c, uint32_t pages, uint32_t n, uint32_t depth, int set, const uint8_t *bytes) {
    uint64_t begin = now_ns();
    for (uint32_t i = 0; i < n; i += depth) {
        uint32_t k = n - i < depth ? n - i : depth;
        for (uint32_t j = 0; j < k; j++) {
            uint32_t page = (i + j) % pages;
            if (set) ask_set(c, page, bytes + (size_t)page * PAGE);
            else ask_get(c, page);
        }
        for (uint32_t j = 0; j < k; j++) answer(c, set ? REDIS_REPLY_STATUS : REDIS_REPLY_STRING);
    }
    printf("{\"rate\": %.1f}\n", n / ((double)(now_ns() - begin) / 1e9));
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: client PORT get|set|mget PAGES N SEED|DEPTH\n"), 2;
    uint32_t pages = (uint32_t)atoi(argv[3]), n = (uint32_t)atoi(argv[4]), last = (uint32_t)atoi(argv[5]);
    redisContext *c = redisConnect("127.0.0.1", atoi(argv[1]));
    if (!c || c->err) fail("connect", c);
    uint8_t *bytes = malloc((size_t)pages * PAGE);
    if (!bytes) fail("out of memory", NULL);
    for (size_t i = 0; i < (size_t)pages * PAGE; i++) bytes[i] = (uint8_t)(i * 31 + i / PAGE);
    for (uint32_t i = 0; i < pages; i++) {
        ask_set(c, i, bytes + (size_t)i * PAGE);
        if (i % 32 == 31 || i + 1 == pages)
            for (uint32_t j = 0; j <= i % 32; j++) answer(c, REDIS_REPLY_STATUS);
    }
    if (!strcmp(argv[2], "get")) one_by_one(c, pages, n, last);
    else pipelined(c, pages, n, last, !strcmp(argv[2], "set"), bytes);
    redisFree(c);
    free(bytes);
    return 0;
}
