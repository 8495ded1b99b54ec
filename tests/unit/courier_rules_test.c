/* A wake-up call goes to public addresses, and to others only where a rule names them. The first
 * and the last address of each range that is not public are refused, their neighbours are not. */
#include "server/courier_rules.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct courier_rules none;

/* Rules of the values, which must be good ones. */
static struct courier_rules rules_of(const char *const *values)
{
    char *items[CONFIG_LIST_MAX];
    struct courier_rules rules;
    struct config_list list = {.items = items};

    for (; values[list.count] != NULL; list.count++)
        items[list.count] = (char *)(uintptr_t)values[list.count];
    courier_rules_make(&rules, &list);
    return rules;
}

#define RULES(...) rules_of((const char *const[]){__VA_ARGS__, NULL})

static bool reaches(const struct courier_rules *rules, const char *host, const char *address,
                    uint16_t port)
{
    struct sockaddr_storage to = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&to;

    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
    } else {
        assert_int_equal(inet_pton(AF_INET6, address, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
    }
    return courier_may_reach(rules, (struct str){host, strlen(host)},
                             (const struct sockaddr *)(void *)&to);
}

static void addresses_that_are_not_public_are_refused(void **state)
{
    static const char *const refused[] = {
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.192",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::a00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "1fff:ffff::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::1",
        "2001:db8::",
        "2001:db8:ffff::1",
        "2002::1",
        "2002:7f00:1::1",
        "2002:ffff::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::",
        "5f00::1",
        "fc00::",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "febf:ffff::1",
        "fec0::1",
        "ff00::",
        "ff02::1",
        "ffff::1",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (reaches(&none, "example.org", refused[i], 443))
            fail_msg("%s can be reached", refused[i]);
    }
}

static void public_addresses_are_reached(void **state)
{
    static const char *const good[] = {
        "1.0.0.0",        "8.8.8.8",        "9.255.255.255",        "11.0.0.0",
        "100.63.255.255", "100.128.0.0",    "126.255.255.255",      "128.0.0.0",
        "168.63.129.15",  "168.63.129.17",  "169.253.255.255",      "169.255.0.0",
        "172.15.255.255", "172.32.0.0",     "191.255.255.255",      "192.0.1.0",
        "192.0.3.0",      "192.88.98.255",  "192.88.100.0",         "192.167.255.255",
        "192.169.0.0",    "198.17.255.255", "198.20.0.0",           "198.51.99.255",
        "198.51.101.0",   "203.0.112.255",  "203.0.114.0",          "223.255.255.255",
        "2000::1",        "2001:200::1",    "2001:4860:4860::8888", "2001:db7:ffff::1",
        "2001:db9::1",    "2003::1",        "2606:4700:4700::1111", "3ffe:ffff::1",
        "3fff:1000::1",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!reaches(&none, "example.org", good[i], 443))
            fail_msg("%s cannot be reached", good[i]);
    }
}

static void neither_is_any_other_family(void **state)
{
    struct sockaddr local = {.sa_family = AF_UNIX};
    (void)state;
    assert_false(courier_may_reach(&none, STR("example.org"), &local));
}

static void a_rule_allows_just_what_it_names(void **state)
{
    struct courier_rules rules = RULES("10.1.2.3", "172.16.0.0/13", "fd00:1::/32", "::1");
    (void)state;

    assert_true(reaches(&rules, "10.1.2.3", "10.1.2.3", 80));
    assert_true(reaches(&rules, "named.example", "10.1.2.3", 9000));
    assert_true(reaches(&rules, "[::ffff:10.1.2.3]", "::ffff:10.1.2.3", 80));
    assert_false(
        reaches(&rules, "10.1.2.3", "10.1.2.4", 80)); /* the URL's host counts for nothing */
    assert_true(reaches(&rules, "x", "172.16.0.1", 80));
    assert_true(reaches(&rules, "x", "172.23.255.255", 80));
    assert_false(reaches(&rules, "x", "172.24.0.0", 80));
    assert_true(reaches(&rules, "x", "fd00:1:ffff::1", 80));
    assert_false(reaches(&rules, "x", "fd00:2::1", 80));
    assert_true(reaches(&rules, "[::1]", "::1", 80));
    assert_false(reaches(&rules, "localhost", "127.0.0.1", 80));
    assert_true(reaches(&rules, "x", "8.8.8.8", 80));
}

static void a_name_allows_what_it_resolves_to(void **state)
{
    struct courier_rules rules = RULES("Hooks.Internal", "localhost:9000");
    (void)state;

    assert_true(reaches(&rules, "hooks.internal", "10.0.0.1", 80));
    assert_true(reaches(&rules, "HOOKS.internal.", "fd00::1", 443));
    assert_false(reaches(&rules, "xhooks.internal", "10.0.0.1", 80));
    assert_false(reaches(&rules, "hooks.interna", "10.0.0.1", 80));
    assert_true(reaches(&rules, "localhost", "127.0.0.1", 9000));
    assert_true(reaches(&rules, "localhost", "::1", 9000));
    assert_false(reaches(&rules, "localhost", "127.0.0.1", 9001));
    assert_false(reaches(&rules, "127.0.0.1", "127.0.0.1", 9000));
}

static void a_port_narrows_a_rule(void **state)
{
    struct courier_rules rules =
        RULES("10.0.0.0/8:8080", "[::1]:9000", "[fd00::/8]:7000", "127.0.0.1:1", "[fe80::1]");
    (void)state;

    assert_true(reaches(&rules, "x", "10.9.9.9", 8080));
    assert_false(reaches(&rules, "x", "10.9.9.9", 80));
    assert_true(reaches(&rules, "x", "::1", 9000));
    assert_false(reaches(&rules, "x", "::1", 9001));
    assert_true(reaches(&rules, "x", "fdff::1", 7000));
    assert_false(reaches(&rules, "x", "fdff::1", 7001));
    assert_true(reaches(&rules, "x", "127.0.0.1", 1));
    assert_true(reaches(&rules, "x", "fe80::1", 1));
}

static void everything_can_be_allowed(void **state)
{
    struct courier_rules v4 = RULES("0.0.0.0/0");
    struct courier_rules all = RULES("::/0");
    (void)state;

    assert_true(reaches(&v4, "x", "127.0.0.1", 80));
    assert_true(reaches(&v4, "x", "255.255.255.255", 80));
    assert_false(reaches(&v4, "x", "::1", 80));
    assert_true(reaches(&all, "x", "::1", 80));
    assert_true(reaches(&all, "x", "127.0.0.1", 80));
}

static void what_is_no_rule_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        ":80",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/x",
        "10.0.0",
        "10.0.0.256",
        "1.2.3.4.5",
        "::1/129",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]:",
        "[::1]:0",
        "[::1]:65536",
        "[10.0.0.1]",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        "localhost/8",
        "http://localhost",
        "a b",
        "a,b",
        "*.example.org",
        ".example.org",
        "-a",
        "fe80::1%eth0",
        "user@host",
    };
    struct courier_rule rule;
    char longest[COURIER_NAME_MAX + 2];
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (courier_rule_parse(bad[i], &rule))
            fail_msg("\"%s\" is taken for a rule", bad[i]);
    }
    memset(longest, 'a', sizeof(longest));
    longest[COURIER_NAME_MAX + 1] = '\0';
    assert_false(courier_rule_parse(longest, &rule));
    longest[COURIER_NAME_MAX] = '\0';
    assert_true(courier_rule_parse(longest, &rule));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_that_are_not_public_are_refused),
        cmocka_unit_test(public_addresses_are_reached),
        cmocka_unit_test(neither_is_any_other_family),
        cmocka_unit_test(a_rule_allows_just_what_it_names),
        cmocka_unit_test(a_name_allows_what_it_resolves_to),
        cmocka_unit_test(a_port_narrows_a_rule),
        cmocka_unit_test(everything_can_be_allowed),
        cmocka_unit_test(what_is_no_rule_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
