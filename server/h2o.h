/*
 * h2o: h2o's headers as this program needs them. Without H2O_USE_LIBUV=0 the structs would have
 * another layout than the library was built with, and nothing else would say so.
 */
#ifndef ATOLL_SERVER_H2O_H
#define ATOLL_SERVER_H2O_H

#include <h2o.h>
#include <h2o/http1.h>

_Static_assert(H2O_USE_LIBUV == 0, "h2o's structs differ between libuv and evloop builds");

#endif
