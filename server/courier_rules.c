#include "server/courier_rules.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { MAPPED_BITS = 96 };

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

/* ---- addresses */

struct range {
    const char *address;
    uint8_t bits;
};

/* Not public, by IANA's registry of special-purpose addresses, and what clouds have of their own.
 */
static const struct range refused_v4[] = {
    {"0.0.0.0", 8},                             /* this network */
    {"10.0.0.0", 8},                            /* private */
    {"100.64.0.0", 10},                         /* shared by a carrier's customers */
    {"127.0.0.0", 8},                           /* loopback */
    {"169.254.0.0", 16},                        /* link-local; metadata of most clouds */
    {"172.16.0.0", 12},                         /* private */
    {"192.0.0.0", 24},                          /* protocol assignments; metadata of one cloud */
    {"192.0.2.0", 24},                          /* documentation */
    {"192.88.99.0", 24},                        /* once the relays of 6to4 */
    {"192.168.0.0", 16},                        /* private */
    {"198.18.0.0", 15},                         /* benchmarks */
    {"198.51.100.0", 24},  {"203.0.113.0", 24}, /* documentation */
    {"168.63.129.16", 32},                      /* public by its number, one cloud's host by use */
    {"224.0.0.0", 4},                           /* multicast */
    {"240.0.0.0", 4},                           /* reserved, and broadcast */
};

/* All that is public is in 2000::/3, so what lies outside needs no rows: loopback, mapped and
 * translated IPv4, unique-local, link-local, site-local, multicast. Of what is inside: */
static const struct range refused_v6[] = {
    {"2001::", 23},     /* protocol assignments: Teredo, benchmarks, ORCHID */
    {"2001:db8::", 32}, /* documentation */
    {"2002::", 16},     /* 6to4, which holds an IPv4 address */
    {"3fff::", 20},     /* documentation */
};

static const struct range public_v6 = {"2000::", 3};

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

static bool in_range(const uint8_t address[16], int family, const struct range *range)
{
    uint8_t start[16];
    memcpy(start, mapped, sizeof(mapped));
    int rc = inet_pton(family, range->address, family == AF_INET ? start + sizeof(mapped) : start);
    assert(rc == 1);
    return same_bits(address, start, range->bits + (family == AF_INET ? MAPPED_BITS : 0u));
}

static bool is_public(const uint8_t address[16], int family)
{
    const struct range *ranges = family == AF_INET ? refused_v4 : refused_v6;
    size_t n = family == AF_INET ? sizeof(refused_v4) / sizeof(refused_v4[0])
                                 : sizeof(refused_v6) / sizeof(refused_v6[0]);
    if (family == AF_INET6 && !in_range(address, AF_INET6, &public_v6))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (in_range(address, family, &ranges[i]))
            return false;
    }
    return true;
}

/* ---- rules */

static bool parse_number(const char *text, unsigned max, unsigned *value)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    unsigned long number = strtoul(text, &end, 10);
    *value = (unsigned)number;
    return *end == '\0' && number <= max;
}

/* "ADDRESS" or "ADDRESS/BITS". */
static bool parse_addresses(char *text, struct courier_rule *rule)
{
    char *slash = strchr(text, '/');
    unsigned bits;
    if (slash != NULL)
        *slash++ = '\0';
    bool v4 = inet_pton(AF_INET, text, rule->address + sizeof(mapped)) == 1;
    if (v4)
        memcpy(rule->address, mapped, sizeof(mapped));
    else if (inet_pton(AF_INET6, text, rule->address) != 1)
        return false;
    unsigned most = v4 ? 32 : 128;
    if (slash == NULL)
        bits = most;
    else if (!parse_number(slash, most, &bits))
        return false;
    rule->bits = (uint8_t)(v4 ? bits + MAPPED_BITS : bits);
    return true;
}

static bool parse_name(const char *text, struct courier_rule *rule)
{
    size_t n = strlen(text);
    if (n == 0 || n > COURIER_NAME_MAX || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!isalnum(c) && c != '-' && c != '.' && c != '_')
            return false;
        rule->name[i] = (char)tolower(c);
    }
    /* All digits and dots: an address that was meant, and is none. */
    return strspn(text, "0123456789.") != n;
}

/* Takes ":PORT" off the end, where there is one; an IPv6 address without brackets has none. */
static bool take_port(char *text, struct courier_rule *rule)
{
    char *colon = strrchr(text, ':');
    unsigned port;
    if (colon == NULL || (text[0] != '[' && strchr(text, ':') != colon) ||
        (text[0] == '[' && colon[-1] != ']'))
        return true;
    *colon = '\0';
    if (!parse_number(colon + 1, UINT16_MAX, &port) || port == 0)
        return false;
    rule->port = (uint16_t)port;
    return true;
}

bool courier_rule_parse(const char *text, struct courier_rule *rule)
{
    char copy[COURIER_NAME_MAX + 8];
    size_t n = strlen(text);

    *rule = (struct courier_rule){0};
    if (n == 0 || n >= sizeof(copy))
        return false;
    memcpy(copy, text, n + 1);
    if (!take_port(copy, rule))
        return false;
    n = strlen(copy);
    if (copy[0] != '[')
        return parse_addresses(copy, rule) || (strchr(text, '/') == NULL && parse_name(copy, rule));
    if (copy[n - 1] != ']')
        return false;
    copy[n - 1] = '\0';
    return strchr(copy + 1, ':') != NULL && parse_addresses(copy + 1, rule);
}

void courier_rules_make(struct courier_rules *rules, const struct config_list *values)
{
    rules->n = 0;
    for (size_t i = 0; i < values->count; i++) {
        bool good = courier_rule_parse(values->items[i], &rules->items[rules->n++]);
        assert(good);
    }
}

static bool rule_names(const struct courier_rule *rule, struct str host)
{
    if (host.n != 0 && host.p[host.n - 1] == '.')
        host.n--;
    return strlen(rule->name) == host.n && strncasecmp(rule->name, host.p, host.n) == 0;
}

bool courier_may_reach(const struct courier_rules *rules, struct str host,
                       const struct sockaddr *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    int family = address->sa_family;
    uint8_t bytes[16];

    if (family == AF_INET) {
        memcpy(bytes, mapped, sizeof(mapped));
        memcpy(bytes + sizeof(mapped), &v4->sin_addr, 4);
    } else if (family == AF_INET6) {
        memcpy(bytes, &v6->sin6_addr, 16);
    } else {
        return false;
    }
    uint16_t port = ntohs(family == AF_INET ? v4->sin_port : v6->sin6_port);
    for (size_t i = 0; i < rules->n; i++) {
        const struct courier_rule *rule = &rules->items[i];
        if (rule->port != 0 && rule->port != port)
            continue;
        if (rule->name[0] != '\0' ? rule_names(rule, host)
                                  : same_bits(bytes, rule->address, rule->bits))
            return true;
    }
    return is_public(bytes, family);
}
