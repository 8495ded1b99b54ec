/*
 * access: who may call, by the headers Host, Origin and Content-Type. Pure.
 *
 * Host: loopback, an address listened on, or an --allowed-host, with any port unless the option
 * names one. So a name that somebody else controls and points at us (DNS rebinding) is refused.
 * Where a listener takes all addresses of the machine, any address is one listened on: an address
 * cannot be rebound. Origin: the server's own by the Host asked, or an --allowed-origin.
 */
#ifndef ATOLL_SERVER_ACCESS_H
#define ATOLL_SERVER_ACCESS_H

#include "core/base.h"
#include "server/config.h"

#include <netinet/in.h>

struct access_address {
    int family;
    uint8_t bytes[16];
};

struct access {
    const struct config_list *hosts;   /* --allowed-host */
    const struct config_list *origins; /* --allowed-origin */
    struct access_address addresses[CONFIG_LIST_MAX];
    unsigned addresses_n;
    bool wildcard; /* one of them is 0.0.0.0 or [::] */
};

enum access_media { ACCESS_MEDIA_NONE, ACCESS_MEDIA_JSON, ACCESS_MEDIA_NDJSON, ACCESS_MEDIA_OTHER };

/* The lists are the configuration's and must outlive it. */
void access_init(struct access *access, const struct config *config);
bool access_is_loopback(const struct access_address *address);
/* One more address that is listened on; anything but IPv4 and IPv6 is passed over. */
void access_add(struct access *access, const struct sockaddr *listened);
bool access_host_allowed(const struct access *access, struct str host);
/* `host` is the Host of the same request. */
bool access_origin_own(struct str origin, struct str host);
bool access_origin_allowed(const struct access *access, struct str origin, struct str host);
/* What a Content-Type says; p == NULL: ACCESS_MEDIA_NONE. The only parameter known is
 * charset=utf-8. */
enum access_media access_media(struct str content_type);
/* Whether an Accept header asks for `type` by name. */
bool access_accepts(struct str accept, struct str type);

#endif
