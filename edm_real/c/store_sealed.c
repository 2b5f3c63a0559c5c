/* store_sealed.c: `sealed:KEYFILE,URL`, pages encrypted and authenticated on their way to any other store.
 *
 * AES-256-GCM (NIST SP 800-38D) of OpenSSL. The key of a run is HMAC-SHA256(key file, label and 32 random
 * bytes drawn at open); the nonce is the page's number and its version (wrapped.h), which no two puts
 * share; both are authenticated besides. Version and tag stay here: what goes inside is as long as the
 * page, and only the last version of that very page opens. Anything else is -EBADMSG, and no byte of it
 * is handed out. Contexts are made at the start, one pair a slot: OpenSSL allocates nothing after that.
 */
#define _GNU_SOURCE
#include "stores.h"

#include <stdio.h>

#ifdef EDM_HAVE_CRYPTO
#include "wrapped.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

enum { KEY = 32, TAG = 16, NONCE = 12, SEALED = 1 };
#define SIX_BYTES ((uint64_t)1 << 48) /* of the nonce, for page and version each */
static const char label[] = "edm sealed pages, 1";

struct work {
    EVP_CIPHER_CTX *seal, *open;
};

static void bytes_of(uint8_t *to, uint64_t value, int n) {
    for (int i = 0; i < n; i++) to[i] = (uint8_t)(value >> 8 * i);
}

/* Up to the page's own bytes. 1, or 0 as OpenSSL says it. */
static int begin(EVP_CIPHER_CTX *c, uint64_t page, uint64_t version) {
    uint8_t nonce[NONCE], named[16];
    int n;
    bytes_of(nonce, page, 6);
    bytes_of(nonce + 6, version, 6);
    bytes_of(named, page, 8);
    bytes_of(named + 8, version, 8);
    return EVP_CipherInit_ex(c, NULL, NULL, NULL, nonce, -1) > 0 && EVP_CipherUpdate(c, NULL, &n, named, sizeof named) > 0;
}

static int seal(edm_wrapped *w, void *work, uint64_t page, edm_wrapped_page *p, const void *data, uint32_t size, void *room,
                const void **inside) {
    EVP_CIPHER_CTX *c = ((struct work *)work)->seal;
    int n, rest;
    (void)w;
    if (p->version >= SIX_BYTES) return -EOVERFLOW; /* a nonce is never used twice */
    if (!begin(c, page, p->version) || EVP_CipherUpdate(c, room, &n, data, (int)size) <= 0 ||
        EVP_CipherFinal_ex(c, (uint8_t *)room + n, &rest) <= 0 || n + rest != (int)size ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG, p->note) <= 0)
        return -EIO;
    p->kind = SEALED;
    p->bytes = size;
    *inside = room;
    return 0;
}

static int unseal(edm_wrapped *w, void *work, uint64_t page, const edm_wrapped_page *p, const void *from, void *data,
                  uint32_t size) {
    EVP_CIPHER_CTX *c = ((struct work *)work)->open;
    uint8_t tag[TAG];
    int n, rest, right;
    (void)w;
    memcpy(tag, p->note, TAG);
    right = p->bytes == size && begin(c, page, p->version) && EVP_CipherUpdate(c, data, &n, from, (int)size) > 0 &&
            EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG, tag) > 0 &&
            EVP_CipherFinal_ex(c, (uint8_t *)data + n, &rest) > 0 && n + rest == (int)size;
    if (!right) memset(data, 0, size); /* what was not authenticated leaves no trace */
    return right ? 0 : -EBADMSG;
}

static void end(edm_wrapped *w, void *work) {
    struct work *k = work;
    (void)w;
    EVP_CIPHER_CTX_free(k->seal); /* also wipes its key; NULL is well */
    EVP_CIPHER_CTX_free(k->open);
}

static const edm_wrapper sealed = {"sealed", seal, unseal, end};

static int prepare(edm_wrapped *w, const uint8_t *key) {
    if (edm_wrapped_open(w, &sealed, sizeof(struct work))) return -ENOMEM;
    for (int i = 0; i < EDM_SLOTS; i++) {
        struct work *k = edm_wrapped_work(w, i);
        k->seal = EVP_CIPHER_CTX_new();
        k->open = EVP_CIPHER_CTX_new();
        if (!k->seal || !k->open || EVP_CipherInit_ex(k->seal, EVP_aes_256_gcm(), NULL, key, NULL, 1) <= 0 ||
            EVP_CipherInit_ex(k->open, EVP_aes_256_gcm(), NULL, key, NULL, 0) <= 0)
            return -ENOMEM;
    }
    return 0;
}

static int refuse(char *why, size_t why_size, const char *path, const char *what, const char *fix, const char *where) {
    snprintf(why, why_size, "store sealed: key file %s: %s; %s%s", path, what, fix, where);
    return -EINVAL;
}

/* The key file's bytes, if nobody else can have read or written them. */
static int read_key(const char *path, uint8_t key[KEY], char *why, size_t why_size) {
    static const char make[] = "make one: (umask 077; head -c 32 /dev/urandom > FILE)";
    uint8_t one_more[KEY + 1];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error = 0;
    if (fd < 0 && errno == ENOENT) return refuse(why, why_size, path, "there is none", make, "");
    if (fd < 0 || fstat(fd, &st)) error = refuse(why, why_size, path, strerror(errno), "give one that you may read", "");
    else if (!S_ISREG(st.st_mode)) error = refuse(why, why_size, path, "not a file", make, "");
    else if (st.st_uid != geteuid() && st.st_uid != 0)
        error = refuse(why, why_size, path, "it belongs to somebody else", "chown it, or ", make);
    else if (st.st_mode & 077) error = refuse(why, why_size, path, "others may read or write it", "chmod 600 ", path);
    else if (read(fd, one_more, sizeof one_more) != KEY)
        error = refuse(why, why_size, path, "a key is 32 bytes, no more and no less", make, "");
    else memcpy(key, one_more, KEY);
    OPENSSL_cleanse(one_more, sizeof one_more);
    if (fd >= 0) close(fd);
    return error;
}

/* The run's own key, in place of the file's. */
static int derive(uint8_t key[KEY]) {
    uint8_t drawn[sizeof label + 32], run[KEY];
    unsigned int n = 0;
    memcpy(drawn, label, sizeof label);
    if (getrandom(drawn + sizeof label, 32, 0) != 32) return -EIO;
    int right = HMAC(EVP_sha256(), key, KEY, drawn, sizeof drawn, run, &n) && n == KEY;
    memcpy(key, run, KEY);
    OPENSSL_cleanse(run, sizeof run);
    return right ? 0 : -EIO;
}

static edm_store *open_sealed(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    uint8_t key[KEY];
    const char *comma = strchr(rest, ',');
    if (!comma || comma == rest) {
        snprintf(why, why_size, "store sealed: it takes a key file and a store; write sealed:KEYFILE,URL");
        return NULL;
    }
    char *path = strndup(rest, (size_t)(comma - rest));
    edm_wrapped *w = calloc(1, sizeof *w);
    snprintf(why, why_size, "store sealed: no memory for %llu pages", (unsigned long long)pages);
    int error = path && w && pages < SIX_BYTES ? read_key(path, key, why, why_size) : -ENOMEM;
    if (!error) {
        w->wrapper = &sealed;
        w->inner = edm_store_open(comma + 1, page_size, pages, why, why_size);
        error = !w->inner ? -EINVAL : derive(key) ? -EIO : prepare(w, key);
        if (error && w->inner) snprintf(why, why_size, "store sealed: OpenSSL has no AES-256-GCM here, or no memory is left");
    }
    OPENSSL_cleanse(key, sizeof key);
    free(path);
    if (!error) return &w->base;
    if (w) edm_wrapped_close(&w->base);
    return NULL;
}
#else
static edm_store *open_sealed(const char *rest, uint32_t page_size, uint64_t pages, char *why, size_t why_size) {
    (void)rest, (void)page_size, (void)pages;
    snprintf(why, why_size, "store sealed: built without it; sudo apt install pkg-config libssl-dev, then make clean setup");
    return NULL;
}
#endif

const edm_store_kind edm_store_sealed = {"sealed:", "sealed:KEYFILE,URL", open_sealed};
