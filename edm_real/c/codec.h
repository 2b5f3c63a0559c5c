/* codec.h: compressors for store_packed.c. No call of theirs allocates. */
#ifndef EDM_CODEC_H
#define EDM_CODEC_H

#include <stddef.h>
#include <stdint.h>

typedef struct edm_codec {
    const char *name, *package; /* package: what to install where it was not built */
    int built;
    int level_least, level_most, level; /* level: unless given */
    size_t (*work_bytes)(int level, uint32_t page_size);
    /* `work`: work_bytes of memory aligned to 64, for one thread at a time. 0 or -EINVAL. */
    int (*prepare)(void *work, int level, uint32_t page_size);
    /* Bytes written to `to` (room for page_size), or 0: not smaller than that. */
    size_t (*pack)(void *work, int level, void *to, const void *page, uint32_t page_size);
    /* 0, or -EIO: not what pack() made of a page. */
    int (*unpack)(void *work, void *page, uint32_t page_size, const void *from, size_t bytes);
} edm_codec;

extern const edm_codec edm_codec_zstd, edm_codec_lz4;

#endif
