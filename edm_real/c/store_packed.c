/* store_packed.c: `zstd+URL` and `lz4+URL`, pages compressed on their way to any other store.
 *
 * A page of one repeated 64-bit word (zeros, mostly) is that word, kept here: nothing goes inside. A page
 * that does not get smaller goes inside as it is. The compressors' contexts are made at the start,
 * one for each slot of wrapped.h: nothing is allocated on get and put, which run in the fault handler.
 */
#include "codec.h"
#include "wrapped.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { SAME = 1, PACKED, RAW };

struct packed {
    edm_wrapped w;
    const edm_codec *codec;
    int level;
};

static int is_same(const void *page, uint32_t size, uint64_t *word) {
    if (size % sizeof *word) return 0;
    memcpy(word, page, sizeof *word);
    return !memcmp(page, (const uint8_t *)page + sizeof *word, size - sizeof *word);
}

static void fill(void *page, uint32_t size, uint64_t word) {
    for (uint8_t *to = page, *end = to + size; to < end; to += sizeof word) memcpy(to, &word, sizeof word);
}

static int pack(edm_wrapped *w, void *work, uint64_t page, edm_wrapped_page *p, const void *data, uint32_t size, void *room,
                const void **inside) {
    struct packed *k = (struct packed *)w;
    (void)page;
    if (is_same(data, size, &p->note[0])) {
        p->kind = SAME;
        return 0;
    }
    size_t n = k->codec->pack(work, k->level, room, data, size);
    int smaller = n > 0 && n + size / 64 <= size; /* what is hardly smaller is not worth unpacking */
    p->kind = smaller ? PACKED : RAW;
    p->bytes = smaller ? (uint32_t)n : size;
    *inside = smaller ? room : data;
    return 0;
}

static int unpack(edm_wrapped *w, void *work, uint64_t page, const edm_wrapped_page *p, const void *from, void *data,
                  uint32_t size) {
    (void)page;
    if (p->kind == PACKED) return ((struct packed *)w)->codec->unpack(work, data, size, from, p->bytes);
    if (p->kind == RAW) return p->bytes == size ? 0 : -EBADMSG;
    fill(data, size, p->note[0]);
    return 0;
}

static const edm_wrapper zstd = {"zstd", pack, unpack, NULL}, lz4 = {"lz4", pack, unpack, NULL};

/* Cuts `level=N` out of the options of the URL's outermost store, where it has been written. */
static int take_level(char *url, const char *name, uint64_t *level, char *why, size_t why_size) {
    const edm_url_option known[] = {{"level", EDM_URL_COUNT, level}, {0}};
    char *options = strrchr(url, '?');
    for (char *at = options && !strpbrk(options, ",]") ? options + 1 : NULL; at; at = strchr(at, '&'), at += at != NULL) {
        size_t n = strcspn(at, "&");
        if (strncmp(at, "level=", 6)) continue;
        if (edm_url_option_read(at, n, known, name, why, why_size)) return -EINVAL;
        memmove(at, at + n + (at[n] == '&'), strlen(at + n + (at[n] == '&')) + 1);
        n = strlen(url);
        if (url[n - 1] == '&' || url[n - 1] == '?') url[n - 1] = '\0';
        return 0;
    }
    return 0;
}

static int prepare(struct packed *k, const edm_wrapper *wrapper) {
    const edm_codec *c = k->codec;
    uint32_t page_size = k->w.inner->page_size;
    if (edm_wrapped_open(&k->w, wrapper, c->work_bytes(k->level, page_size))) return -ENOMEM;
    for (int i = 0; i < EDM_SLOTS; i++)
        if (c->prepare(edm_wrapped_work(&k->w, i), k->level, page_size)) return -EINVAL;
    return 0;
}

static edm_store *open_packed(const edm_codec *codec, const edm_wrapper *wrapper, const char *rest, uint32_t page_size,
                              uint64_t pages, char *why, size_t why_size) {
    uint64_t level = (uint64_t)codec->level;
    if (!codec->built) {
        snprintf(why, why_size, "store %s+: built without it; sudo apt install pkg-config %s, then make clean setup", codec->name,
                 codec->package);
        return NULL;
    }
    struct packed *k = calloc(1, sizeof *k);
    char *url = strdup(rest);
    snprintf(why, why_size, "store %s+: no memory for %llu pages", codec->name, (unsigned long long)pages);
    int error = k && url ? take_level(url, codec->name, &level, why, why_size) : -ENOMEM;
    if (!error && (level < (uint64_t)codec->level_least || level > (uint64_t)codec->level_most)) {
        snprintf(why, why_size, "store %s+: level must be %d to %d", codec->name, codec->level_least, codec->level_most);
        error = -EINVAL;
    }
    if (!error) {
        k->codec = codec;
        k->level = (int)level;
        k->w.wrapper = wrapper;
        k->w.inner = edm_store_open(url, page_size, pages, why, why_size);
        error = k->w.inner ? prepare(k, wrapper) : -EINVAL;
        if (error && k->w.inner) snprintf(why, why_size, "store %s+: no memory for %llu pages", codec->name, (unsigned long long)pages);
    }
    free(url);
    if (!error) return &k->w.base;
    if (k) edm_wrapped_close(&k->w.base);
    return NULL;
}

static edm_store *open_zstd(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_packed(&edm_codec_zstd, &zstd, rest, page_size, pages, why, why_size);
}

static edm_store *open_lz4(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    return open_packed(&edm_codec_lz4, &lz4, rest, page_size, pages, why, why_size);
}

const edm_store_kind edm_store_zstd = {"zstd+", "zstd+URL[?level=1]", open_zstd};
const edm_store_kind edm_store_lz4 = {"lz4+", "lz4+URL[?level=1]", open_lz4};
