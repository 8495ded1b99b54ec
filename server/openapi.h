#ifndef ATOLL_SERVER_OPENAPI_H
#define ATOLL_SERVER_OPENAPI_H

#include <stddef.h>

/* web/openapi.yaml, and a zero byte behind it that `size` does not count. */
extern const char web_openapi_yaml[];
extern const size_t web_openapi_yaml_size;

#endif
