/* See reduce.h for what is computed. How: pages stand in a list by their last reference,
 * newest first, with a marker at the (k+1)-st. Right after p is referenced p is the first,
 * so the marker is the k-th most recent of the others, and "at most k-1 others since t1"
 * is one comparison: its last reference is older than t1. Every step is O(1). */
#include "reduce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct record {
    uint64_t page;
    uint64_t t;
    uint32_t hits;
    uint8_t write;
    uint8_t dropped;
};

struct page {
    uint64_t number;
    uint64_t last;      /* sequence number of its last reference, reduced or not */
    uint64_t kept_seq;  /* the same of its last but one record that is kept (t1) */
    uint64_t newest_seq; /* and of its last one (t2) */
    size_t kept;        /* their places among the records */
    size_t newest;
    uint32_t newer, older; /* list by last reference */
    uint32_t records;      /* 1: only `newest` is there; 2: both */
    uint8_t near;          /* stands at or before the marker */
};

struct edm_reduce {
    uint32_t k, page_shift;
    int instructions;
    uint64_t now; /* instructions */
    uint64_t seq; /* references after collapsing */
    uint64_t seen; /* and before */
    struct record *records;
    size_t count, room;
    struct page *pages;
    uint32_t page_count, page_room;
    uint32_t *table; /* open addressing, a power of two, at most half full */
    uint32_t table_mask;
    uint32_t first, last, marker, current;
};

struct edm_reduce *edm_reduce_new(uint32_t k, uint32_t page_shift, int instructions)
{
    struct edm_reduce *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->k = k;
    r->page_shift = page_shift;
    r->instructions = instructions;
    r->room = 1 << 16;
    r->page_room = 1 << 10;
    r->table_mask = 2 * r->page_room - 1;
    r->first = r->last = r->marker = r->current = NONE;
    r->records = malloc(r->room * sizeof *r->records);
    r->pages = malloc(r->page_room * sizeof *r->pages);
    r->table = malloc((size_t)2 * r->page_room * sizeof *r->table);
    if (!r->records || !r->pages || !r->table) {
        edm_reduce_free(r);
        return NULL;
    }
    memset(r->table, 0xff, (size_t)2 * r->page_room * sizeof *r->table);
    return r;
}

void edm_reduce_free(struct edm_reduce *r)
{
    if (!r)
        return;
    free(r->records);
    free(r->pages);
    free(r->table);
    free(r);
}

/* Take the dropped records out; pages follow their records. */
static void compact(struct edm_reduce *r)
{
    size_t out = 0;
    size_t *moved = r->k ? malloc(r->count * sizeof *moved) : NULL;
    if (!moved)
        return; /* nothing was dropped, or growing is tried instead */
    for (size_t i = 0; i < r->count; i++) {
        moved[i] = out;
        if (!r->records[i].dropped)
            r->records[out++] = r->records[i];
    }
    for (uint32_t p = 0; p < r->page_count; p++) {
        r->pages[p].newest = moved[r->pages[p].newest];
        r->pages[p].kept = moved[r->pages[p].kept];
    }
    r->count = out;
    free(moved);
}

static int append(struct edm_reduce *r, struct record record, size_t *place)
{
    if (r->count == r->room) {
        compact(r);
        if (r->count > r->room / 2) {
            struct record *bigger = realloc(r->records, 2 * r->room * sizeof *bigger);
            if (!bigger)
                return -ENOMEM;
            r->records = bigger;
            r->room *= 2;
        }
    }
    *place = r->count;
    r->records[r->count++] = record;
    return 0;
}

static uint32_t slot_of(const struct edm_reduce *r, uint64_t number)
{
    uint32_t slot = (uint32_t)((number * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & r->table_mask;
    while (r->table[slot] != NONE && r->pages[r->table[slot]].number != number)
        slot = (slot + 1) & r->table_mask;
    return slot;
}

static int grow_pages(struct edm_reduce *r)
{
    if (r->page_room >= UINT32_MAX / 4)
        return -EOVERFLOW;
    uint32_t room = 2 * r->page_room;
    struct page *pages = realloc(r->pages, room * sizeof *pages);
    if (!pages)
        return -ENOMEM;
    r->pages = pages;
    uint32_t *table = malloc((size_t)2 * room * sizeof *table);
    if (!table)
        return -ENOMEM;
    memset(table, 0xff, (size_t)2 * room * sizeof *table);
    free(r->table);
    r->table = table;
    r->table_mask = 2 * room - 1;
    r->page_room = room;
    for (uint32_t p = 0; p < r->page_count; p++)
        r->table[slot_of(r, r->pages[p].number)] = p;
    return 0;
}

static void unlink_page(struct edm_reduce *r, struct page *page)
{
    if (page->newer != NONE)
        r->pages[page->newer].older = page->older;
    else
        r->first = page->older;
    if (page->older != NONE)
        r->pages[page->older].newer = page->newer;
    else
        r->last = page->newer;
}

static void push_first(struct edm_reduce *r, uint32_t p)
{
    struct page *page = &r->pages[p];
    page->newer = NONE;
    page->older = r->first;
    if (r->first != NONE)
        r->pages[r->first].newer = p;
    else
        r->last = p;
    r->first = p;
}

/* Put p first and keep the marker at place k+1 (NONE while there are fewer pages). */
static void to_front(struct edm_reduce *r, uint32_t p, int known)
{
    struct page *page = &r->pages[p];
    if (known && r->first == p)
        return;
    if (known) {
        if (r->marker == p)
            r->marker = page->newer;
        else if (!page->near) {
            r->pages[r->marker].near = 0;
            r->marker = r->pages[r->marker].newer;
        }
        unlink_page(r, page);
    } else if (r->page_count > r->k + 1) {
        r->pages[r->marker].near = 0;
        r->marker = r->pages[r->marker].newer;
    }
    push_first(r, p);
    page->near = 1;
    if (r->marker == NONE && r->page_count == r->k + 1)
        r->marker = r->last;
}

/* Count a record in an earlier one of the same page; 0: its counter is full. */
static int fold(struct record *earlier, uint32_t hits, int write)
{
    if (hits >= UINT32_MAX - earlier->hits)
        return 0;
    earlier->hits += hits + 1;
    earlier->write |= (uint8_t)write;
    return 1;
}

static int reference(struct edm_reduce *r, uint64_t number, int write, uint64_t t, uint32_t hits)
{
    r->seen += (uint64_t)hits + 1;
    if (r->current != NONE && r->pages[r->current].number == number) {
        struct record *record = &r->records[r->pages[r->current].newest];
        if (fold(record, hits, write))
            return 0;
    }
    uint32_t slot = slot_of(r, number), p = r->table[slot];
    int known = p != NONE, error;
    if (!known) {
        if (r->page_count == r->page_room) {
            if ((error = grow_pages(r)))
                return error;
            slot = slot_of(r, number);
        }
        p = r->page_count++;
        r->table[slot] = p;
        r->pages[p] = (struct page){.number = number, .newer = NONE, .older = NONE};
    }
    r->seq++;
    if (r->k)
        to_front(r, p, known);
    r->current = p;
    struct page *page = &r->pages[p];
    page->last = r->seq;
    struct record *middle = &r->records[page->newest], *earlier = &r->records[page->kept];
    if (r->k && page->records == 2 &&
        (r->marker == NONE || r->pages[r->marker].last < page->kept_seq) &&
        fold(earlier, middle->hits, middle->write)) {
        middle->dropped = 1;
    } else if (page->records) {
        page->kept = page->newest;
        page->kept_seq = page->newest_seq;
    }
    struct record record = {
        .page = number, .t = t, .hits = hits, .write = (uint8_t)write, .dropped = 0};
    size_t place;
    if ((error = append(r, record, &place)))
        return error;
    page->newest = place;
    page->newest_seq = r->seq;
    page->records = page->records ? 2 : 1;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* "I  04001090,3", " L 1ffefffe7e,8", " S ...", " M ...": kind, hexadecimal address, size. */
static int lackey_line(struct edm_reduce *r, const char *line, const char *end)
{
    if (end - line < 5)
        return 0;
    char kind = line[0] == 'I' ? 'I' : line[1];
    if (line[0] == 'I' ? line[1] != ' ' : line[0] != ' ')
        return 0;
    if (kind != 'I' && kind != 'L' && kind != 'S' && kind != 'M')
        return 0;
    if (kind == 'I') {
        r->now++;
        if (!r->instructions)
            return 0;
    }
    const char *c = line + 3;
    uint64_t address = 0, size = 0;
    int digits = 0;
    for (int d; c < end && (d = hex_digit(*c)) >= 0; c++, digits++)
        address = address << 4 | (uint64_t)d;
    if (!digits || digits > 16 || c == end || *c++ != ',' || c == end)
        return -EINVAL;
    for (; c < end && *c >= '0' && *c <= '9' && size < UINT32_MAX; c++)
        size = size * 10 + (uint64_t)(*c - '0');
    if (c != end || !size)
        return -EINVAL;
    uint64_t page = address >> r->page_shift, last = (address + size - 1) >> r->page_shift;
    for (; page <= last; page++) {
        int error = reference(r, page, kind == 'S' || kind == 'M', r->now, 0);
        if (error)
            return error;
    }
    return 0;
}

int edm_reduce_lackey(struct edm_reduce *r, const char *text, size_t length)
{
    const char *end = text + length;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        int error = lackey_line(r, text, stop);
        if (error)
            return error;
        text = stop + 1;
    }
    return 0;
}

int edm_reduce_references(struct edm_reduce *r, size_t n, const struct edm_reference *references)
{
    for (const struct edm_reference *a = references; a < references + n; a++) {
        int error = reference(r, a->page, a->write != 0, a->t, a->hits);
        if (error)
            return error;
    }
    return 0;
}

int edm_reduce_pages(struct edm_reduce *r, size_t n, const uint64_t *page, const uint8_t *write,
                     const uint64_t *t, const uint32_t *hits)
{
    for (size_t i = 0; i < n; i++) {
        int error = reference(r, page[i], write ? write[i] : 0, t ? t[i] : 0, hits ? hits[i] : 0);
        if (error)
            return error;
    }
    return 0;
}

uint64_t edm_reduce_seen(const struct edm_reduce *r, uint64_t *pages)
{
    *pages = r->page_count;
    return r->seen;
}

size_t edm_reduce_count(struct edm_reduce *r)
{
    size_t live = 0;
    for (size_t i = 0; i < r->count; i++)
        live += !r->records[i].dropped;
    return live;
}

void edm_reduce_take(struct edm_reduce *r, uint64_t *page, uint8_t *write, uint64_t *t,
                     uint32_t *hits)
{
    size_t out = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct record *record = &r->records[i];
        if (record->dropped)
            continue;
        page[out] = record->page;
        write[out] = record->write;
        t[out] = record->t;
        hits[out++] = record->hits;
    }
}
