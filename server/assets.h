/*
 * assets: the dashboard, as web/build.mjs made it, out of the binary.
 *
 * Normal path: the page itself at each of its addresses, to be asked for again each time, and its
 * scripts, styles and pictures by names that hold a hash of their content, to be kept for ever.
 * Both as gzip where the client takes that. The headers forbid the page everything but its own
 * origin: no other host is asked, no script runs that did not come from here.
 * Failure: an unknown name is a 404. A server built without the dashboard (ATOLL_DASHBOARD=OFF)
 * says so in words.
 */
#ifndef ATOLL_SERVER_ASSETS_H
#define ATOLL_SERVER_ASSETS_H

#include "server/call.h"

/* Answers ROUTE_PAGE and ROUTE_ASSET, at once. */
void assets_serve(struct exchange *exchange, const struct call *call);

#endif
