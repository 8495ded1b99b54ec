/*
 * courier_rules: where a wake-up call may go. Public addresses, always; others (loopback, private,
 * link-local, carriers', multicast, reserved, of cloud metadata, IPv4 in IPv6's clothes) only where
 * --allow-wake-to names them:
 *
 *     localhost            whatever address this name of the URL resolves to
 *     10.1.2.3, ::1        this address, however the URL says it
 *     10.0.0.0/8, fd00::/8 these addresses
 *     localhost:9000, 10.0.0.0/8:9000, [::1]:9000, [fd00::/8]:9000    the same, this port only
 *
 * What is judged is the address that a connection is about to be made to, so that nothing can
 * change between the look and the call: courier.c. Pure; any thread.
 */
#ifndef ATOLL_SERVER_COURIER_RULES_H
#define ATOLL_SERVER_COURIER_RULES_H

#include "core/base.h"
#include "server/config.h"

enum { COURIER_NAME_MAX = 253 /* bytes of a host name (RFC 1035) */ };

struct courier_rule {
    char name[COURIER_NAME_MAX + 1]; /* in lower case; "": it is the addresses */
    uint8_t address[16];             /* IPv4 as ::ffff:a.b.c.d */
    uint8_t bits;                    /* how many of them count, of 128 */
    uint16_t port;                   /* 0: any */
};

struct courier_rules {
    struct courier_rule items[CONFIG_LIST_MAX];
    size_t n;
};

/* False: it is none of the forms above. */
bool courier_rule_parse(const char *text, struct courier_rule *rule);
/* Of --allow-wake-to's values, which are good ones. */
void courier_rules_make(struct courier_rules *rules, const struct config_list *values);
/* Whether a connection may be made to `address`, for a URL with this host (brackets or not). Other
 * families than IPv4 and IPv6: never. */
bool courier_may_reach(const struct courier_rules *rules, struct str host,
                       const struct sockaddr *address);

#endif
