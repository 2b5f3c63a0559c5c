/* codec_lz4.c: LZ4; its level is the library's acceleration: more is faster and packs less. */
#include "codec.h"

#ifdef EDM_HAVE_LZ4
#include <errno.h>
#include <lz4.h>

static size_t work_bytes(int level, uint32_t page_size) {
    (void)level, (void)page_size;
    return (size_t)LZ4_sizeofState();
}

static int prepare(void *work, int level, uint32_t page_size) {
    (void)work, (void)level, (void)page_size;
    return 0;
}

static size_t pack(void *work, int level, void *to, const void *page, uint32_t page_size) {
    return (size_t)LZ4_compress_fast_extState(work, page, to, (int)page_size, (int)page_size, level);
}

static int unpack(void *work, void *page, uint32_t page_size, const void *from, size_t bytes) {
    (void)work;
    return LZ4_decompress_safe(from, page, (int)bytes, (int)page_size) == (int)page_size ? 0 : -EIO;
}

const edm_codec edm_codec_lz4 = {"lz4", "liblz4-dev", 1, 1, 64, 1, work_bytes, prepare, pack, unpack};
#else
const edm_codec edm_codec_lz4 = {.name = "lz4", .package = "liblz4-dev"};
#endif
