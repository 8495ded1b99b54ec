/* What web/build.mjs writes and assets.c reads: the files of the dashboard. */
#ifndef ATOLL_SERVER_ASSETS_INTERNAL_H
#define ATOLL_SERVER_ASSETS_INTERNAL_H

#include <stddef.h>

struct asset_bytes {
    const char *p;
    size_t n;
};

struct asset {
    const char *name;
    const char *type; /* Content-Type */
    const char *etag; /* with its quotes */
    struct asset_bytes plain, gzip;
};

/* Sorted by name. */
extern const struct asset assets_table[];
extern const size_t assets_n;

#endif
