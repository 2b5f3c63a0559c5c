/* codec_zstd.c: zstd with its contexts in memory given once (static contexts). */
#include "codec.h"

#ifdef EDM_HAVE_ZSTD
#define ZSTD_STATIC_LINKING_ONLY
#include <errno.h>
#include <zstd.h>

struct work {
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
};

enum { HEAD = 64 };

static size_t rounded(size_t n) { return (n + 63) / 64 * 64; }

static size_t packing(int level, uint32_t page_size) {
    return rounded(ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, page_size, 0)));
}

static size_t work_bytes(int level, uint32_t page_size) {
    return HEAD + packing(level, page_size) + rounded(ZSTD_estimateDCtxSize());
}

static int prepare(void *work, int level, uint32_t page_size) {
    struct work *w = work;
    size_t n = packing(level, page_size);
    uint8_t *at = (uint8_t *)work + HEAD;
    w->c = ZSTD_initStaticCCtx(at, n);
    w->d = ZSTD_initStaticDCtx(at + n, ZSTD_estimateDCtxSize());
    return w->c && w->d ? 0 : -EINVAL;
}

static size_t pack(void *work, int level, void *to, const void *page, uint32_t page_size) {
    size_t n = ZSTD_compressCCtx(((struct work *)work)->c, to, page_size, page, page_size, level);
    return ZSTD_isError(n) ? 0 : n;
}

static int unpack(void *work, void *page, uint32_t page_size, const void *from, size_t bytes) {
    return ZSTD_decompressDCtx(((struct work *)work)->d, page, page_size, from, bytes) == page_size ? 0 : -EIO;
}

const edm_codec edm_codec_zstd = {"zstd", "libzstd-dev", 1, 1, 19, 1, work_bytes, prepare, pack, unpack};
#else
const edm_codec edm_codec_zstd = {.name = "zstd", .package = "libzstd-dev"};
#endif
