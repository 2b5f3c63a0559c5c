/* checksum.h: what tells that a page came back as it left.
 *
 * Eight lanes over 64-bit words, each step acc = (acc ^ word) * odd: a bijection of acc and
 * of word, so a change within one word always changes its lane; eight lanes because a
 * multiplication takes several cycles and eight may be under way. About 0.15 us for 4 KiB.
 */
#ifndef EDM_CHECKSUM_H
#define EDM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t edm_mix64(uint64_t z) { /* splitmix64's finish (Steele, Lea, Flood 2014) */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#define EDM_NO_SUM ((uint64_t)0) /* no page's */

/* Never EDM_NO_SUM. data aligned to 8. */
static inline uint64_t edm_checksum(const void *data, size_t bytes) {
    const uint64_t *w = data;
    uint64_t acc[8];
    for (unsigned i = 0; i < 8; i++) acc[i] = 0x9e3779b97f4a7c15u * (2 * i + 1);
    for (size_t n = bytes / 64; n; n--, w += 8)
        for (unsigned i = 0; i < 8; i++) acc[i] = (acc[i] ^ w[i]) * 0xff51afd7ed558ccdu;
    if (bytes % 64) {
        uint64_t rest[8] = {0};
        memcpy(rest, w, bytes % 64);
        for (unsigned i = 0; i < 8; i++) acc[i] = (acc[i] ^ rest[i]) * 0xff51afd7ed558ccdu;
    }
    uint64_t sum = bytes;
    for (unsigned i = 0; i < 8; i++) sum = edm_mix64(sum ^ acc[i]) + acc[i];
    return sum | 1;
}

#endif
