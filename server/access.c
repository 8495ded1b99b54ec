#include "server/access.h"

#include <arpa/inet.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool equal_any_case(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static struct str trim(struct str s)
{
    while (s.n != 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = (struct str){s.p + 1, s.n - 1};
    while (s.n != 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Cuts off what stands before `separator` and returns it; `rest` is what stands behind. */
static struct str cut(struct str *rest, char separator)
{
    const char *at = rest->n != 0 ? memchr(rest->p, separator, rest->n) : NULL;
    struct str head = {rest->p, at != NULL ? (size_t)(at - rest->p) : rest->n};
    size_t used = head.n + (at != NULL);
    *rest = (struct str){rest->p + used, rest->n - used};
    return head;
}

/* ---- addresses */

static bool parse_address(struct str name, struct access_address *address)
{
    char text[INET6_ADDRSTRLEN];
    bool bracketed = name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']';

    if (bracketed)
        name = (struct str){name.p + 1, name.n - 2};
    if (name.n == 0 || name.n >= sizeof(text))
        return false;
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    *address = (struct access_address){.family = bracketed ? AF_INET6 : AF_INET};
    return inet_pton(address->family, text, address->bytes) == 1;
}

bool access_is_loopback(const struct access_address *address)
{
    static const uint8_t v6[16] = {[15] = 1};
    return address->family == AF_INET ? address->bytes[0] == 127
                                      : memcmp(address->bytes, v6, sizeof(v6)) == 0;
}

static bool is_any(const struct access_address *address)
{
    static const uint8_t zeros[16];
    return memcmp(address->bytes, zeros, sizeof(zeros)) == 0;
}

void access_add(struct access *access, const struct sockaddr *listened)
{
    struct access_address *address = &access->addresses[access->addresses_n];

    if ((listened->sa_family != AF_INET && listened->sa_family != AF_INET6) ||
        access->addresses_n == CONFIG_LIST_MAX)
        return;
    *address = (struct access_address){.family = listened->sa_family};
    if (listened->sa_family == AF_INET)
        memcpy(address->bytes, &((const struct sockaddr_in *)listened)->sin_addr, 4);
    else
        memcpy(address->bytes, &((const struct sockaddr_in6 *)listened)->sin6_addr, 16);
    access->wildcard |= is_any(address);
    access->addresses_n++;
}

void access_init(struct access *access, const struct config *config)
{
    *access = (struct access){.hosts = &config->allowed_hosts, .origins = &config->allowed_origins};
    for (size_t i = 0; i < config->listen.count; i++) {
        struct sockaddr_storage storage;
        socklen_t size;
        if (config_parse_listen(config->listen.items[i], &storage, &size) == 0)
            access_add(access, (const struct sockaddr *)&storage);
    }
}

/* ---- Host */

/* Splits "name", "name:port", "[v6]" or "[v6]:port". False where it is none of them. */
static bool split_host(struct str host, struct str *name, struct str *port)
{
    const char *colon = NULL;
    size_t start = 0;

    if (host.n != 0 && host.p[0] == '[') {
        const char *bracket = memchr(host.p, ']', host.n);
        if (bracket == NULL)
            return false;
        start = (size_t)(bracket - host.p) + 1;
        if (start < host.n && host.p[start] != ':')
            return false;
    }
    if (start < host.n)
        colon = memchr(host.p + start, ':', host.n - start);
    *name = (struct str){host.p, colon != NULL ? (size_t)(colon - host.p) : host.n};
    *port = (struct str){NULL, 0};
    if (colon != NULL)
        *port = (struct str){colon + 1, host.n - name->n - 1};
    for (size_t i = 0; i < port->n; i++)
        if (port->p[i] < '0' || port->p[i] > '9')
            return false;
    return name->n != 0 && port->n <= 5;
}

static bool listed(const struct config_list *hosts, struct str name, struct str port)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct str allowed_name, allowed_port;
        if (split_host(text_of(hosts->items[i]), &allowed_name, &allowed_port) &&
            equal_any_case(allowed_name, name) &&
            (allowed_port.p == NULL || str_equal(allowed_port, port)))
            return true;
    }
    return false;
}

static bool listened_on(const struct access *access, const struct access_address *address)
{
    if (access->wildcard)
        return true;
    for (unsigned i = 0; i < access->addresses_n; i++)
        if (access->addresses[i].family == address->family &&
            memcmp(access->addresses[i].bytes, address->bytes, sizeof(address->bytes)) == 0)
            return true;
    return false;
}

bool access_host_allowed(const struct access *access, struct str host)
{
    struct str name, port;
    struct access_address address;

    if (!split_host(host, &name, &port))
        return false;
    if (equal_any_case(name, STR("localhost")))
        return true;
    if (parse_address(name, &address) &&
        (access_is_loopback(&address) || listened_on(access, &address)))
        return true;
    return listed(access->hosts, name, port);
}

/* ---- Origin */

/* By either scheme: who is in front of us may have ended TLS. */
bool access_origin_own(struct str origin, struct str host)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};

    for (unsigned i = 0; i < 2 && host.n != 0; i++)
        if (origin.n == schemes[i].n + host.n &&
            equal_any_case((struct str){origin.p, schemes[i].n}, schemes[i]) &&
            equal_any_case((struct str){origin.p + schemes[i].n, host.n}, host))
            return true;
    return false;
}

bool access_origin_allowed(const struct access *access, struct str origin, struct str host)
{
    if (access_origin_own(origin, host))
        return true;
    for (size_t i = 0; i < access->origins->count; i++)
        if (equal_any_case(origin, text_of(access->origins->items[i])))
            return true;
    return false;
}

/* ---- Content-Type and Accept */

static bool is_utf8_charset(struct str parameter)
{
    struct str rest = parameter;
    struct str name = trim(cut(&rest, '='));
    struct str value = trim(rest);

    if (value.n > 1 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = (struct str){value.p + 1, value.n - 2};
    return equal_any_case(name, STR("charset")) && equal_any_case(value, STR("utf-8"));
}

enum access_media access_media(struct str content_type)
{
    struct str rest = content_type;

    if (content_type.p == NULL)
        return ACCESS_MEDIA_NONE;
    if (str_equal(content_type, STR("application/json"))) /* what nearly everybody sends */
        return ACCESS_MEDIA_JSON;
    struct str type = trim(cut(&rest, ';'));
    while (rest.n != 0) {
        struct str parameter = trim(cut(&rest, ';'));
        if (parameter.n != 0 && !is_utf8_charset(parameter))
            return ACCESS_MEDIA_OTHER;
    }
    if (equal_any_case(type, STR("application/json")))
        return ACCESS_MEDIA_JSON;
    return equal_any_case(type, STR("application/x-ndjson")) ? ACCESS_MEDIA_NDJSON
                                                             : ACCESS_MEDIA_OTHER;
}

/* Whether the parameters of a media range give it the weight 0. */
static bool weighs_nothing(struct str parameters)
{
    while (parameters.n != 0) {
        struct str value = trim(cut(&parameters, ';'));
        struct str name = trim(cut(&value, '='));
        if (!equal_any_case(name, STR("q")))
            continue;
        value = trim(value);
        for (size_t i = 0; i < value.n; i++)
            if (value.p[i] != '0' && value.p[i] != '.')
                return false;
        return value.n != 0;
    }
    return false;
}

bool access_accepts(struct str accept, struct str type)
{
    while (accept.n != 0) {
        struct str range = cut(&accept, ',');
        struct str name = trim(cut(&range, ';'));
        if (equal_any_case(name, type))
            return !weighs_nothing(range);
    }
    return false;
}
