/* store_url.c: the options in a store's URL: sizes, times, shares and numbers by name. */
#include "stores.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    double factor;
};

static const struct unit sizes[] = {{"", 1},          {"B", 1},           {"KiB", 1024},
                                    {"MiB", 1 << 20}, {"GiB", 1u << 30}, {"TiB", 1024.0 * (1u << 30)}};
static const struct unit times[] = {{"", 1e3}, {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
static const struct unit none[] = {{"", 1}};

/* 0 if `text` is a number from 0 up with one of the units. */
static int scaled(const char *text, const struct unit *units, size_t n, double *out) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || !isfinite(value) || value < 0) return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(end, units[i].name)) {
            *out = value * units[i].factor;
            return *out < 0x1p63 ? 0 : -EINVAL;
        }
    return -EINVAL;
}

#define SCALED(text, units, out) scaled(text, units, sizeof units / sizeof *units, out)

static int read_value(const char *text, const edm_url_option *o) {
    double value = 0;
    switch (o->type) {
    case EDM_URL_NUMBER:
        if (SCALED(text, none, &value)) return -EINVAL;
        *(double *)o->value = value;
        return 0;
    case EDM_URL_SHARE:
        if (SCALED(text, none, &value) || value > 1) return -EINVAL;
        *(double *)o->value = value;
        return 0;
    case EDM_URL_COUNT:
        if (SCALED(text, none, &value) || value != floor(value)) return -EINVAL;
        break;
    case EDM_URL_SWITCH:
        if (SCALED(text, none, &value) || (value != 0 && value != 1)) return -EINVAL;
        break;
    case EDM_URL_SIZE:
        if (SCALED(text, sizes, &value)) return -EINVAL;
        break;
    case EDM_URL_TIME:
        if (SCALED(text, times, &value)) return -EINVAL;
        break;
    case EDM_URL_TEXT:
        strcpy(o->value, text); /* it fits: see below */
        return 0;
    }
    *(uint64_t *)o->value = (uint64_t)value;
    return 0;
}

static const char *example(enum edm_url_type type) {
    static const char *const of[] = {"1.5", "3", "64MiB", "120us", "0.01", "text", "1"};
    return of[type];
}

int edm_url_option_read(const char *text, size_t length, const edm_url_option *options, const char *store, char *why,
                        size_t why_size) {
    char value[EDM_URL_TEXT_MAX];
    const char *equals = memchr(text, '=', length);
    size_t name = equals ? (size_t)(equals - text) : length;
    for (const edm_url_option *o = options; o->name; o++) {
        if (strlen(o->name) != name || strncmp(o->name, text, name)) continue;
        size_t left = equals ? length - name - 1 : 0;
        if (left >= sizeof value) left = 0;
        memcpy(value, equals ? equals + 1 : text, left);
        value[left] = '\0';
        if (left && !read_value(value, o)) return 0;
        snprintf(why, why_size, "store %s: %s: this value cannot be; write for example %s=%s", store, o->name, o->name,
                 example(o->type));
        return -EINVAL;
    }
    int at = snprintf(why, why_size, "store %s: unknown option '%.*s'; there are:", store, (int)(name < 40 ? name : 40), text);
    for (const edm_url_option *o = options; o->name && at >= 0 && (size_t)at < why_size; o++)
        at += snprintf(why + at, why_size - (size_t)at, " %s", o->name);
    return -EINVAL;
}

int edm_url_options(const char *text, const edm_url_option *options, const char *store, char *why, size_t why_size) {
    while (*text) {
        size_t length = strcspn(text, "&");
        int error = edm_url_option_read(text, length, options, store, why, why_size);
        if (error) return error;
        text += length + (text[length] == '&');
    }
    return 0;
}
