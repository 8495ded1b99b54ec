/* No web page of another origin, and no name that somebody points at us, gets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/access.h"

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

/* The rules of a server with these options; the lists are NULL-terminated. */
static struct access rules(char **listen, char **hosts, char **origins)
{
    static struct config config;
    struct access access;

    config = (struct config){
        .listen.items = listen, .allowed_hosts.items = hosts, .allowed_origins.items = origins};
    for (char **p = listen; *p != NULL; p++)
        config.listen.count++;
    for (char **p = hosts; *p != NULL; p++)
        config.allowed_hosts.count++;
    for (char **p = origins; *p != NULL; p++)
        config.allowed_origins.count++;
    access_init(&access, &config);
    return access;
}

static char *none[] = {NULL};

static void assert_hosts(const struct access *access, bool allowed, const char *const *hosts)
{
    for (; *hosts != NULL; hosts++)
        if (access_host_allowed(access, text(*hosts)) != allowed)
            fail_msg("\"%s\" is %s", *hosts, allowed ? "refused" : "allowed");
}

static void loopback_may_always_call(void **state)
{
    char *listen[] = {(char *)"10.1.2.3:8080", NULL};
    struct access access = rules(listen, none, none);

    (void)state;
    assert_hosts(&access, true,
                 (const char *const[]){"localhost", "LocalHost:1", "localhost:", "127.0.0.1",
                                       "127.0.0.1:8080", "127.255.1.2:80", "[::1]", "[::1]:65535",
                                       "[0:0:0:0:0:0:0:1]:1", NULL});
    assert_hosts(&access, false,
                 (const char *const[]){"",
                                       ":",
                                       ":80",
                                       "evil.example",
                                       "localhost.evil.example",
                                       "127.0.0.1.evil.example",
                                       "localhost:80x",
                                       "localhost:123456",
                                       "localhost:80:80",
                                       "::1",
                                       "[::1",
                                       "[::1]x",
                                       "[]",
                                       "[::2]",
                                       "127.1",
                                       "0x7f.0.0.1",
                                       "0.0.0.0",
                                       "*",
                                       "localhost ",
                                       NULL});
}

static void addresses_listened_on_may_call(void **state)
{
    char *listen[] = {(char *)"10.1.2.3:8080", (char *)"[fe80::1]:80", (char *)"unix:/x", NULL};
    struct access access = rules(listen, none, none);

    (void)state;
    assert_hosts(
        &access, true,
        (const char *const[]){"10.1.2.3", "10.1.2.3:9", "[fe80::1]", "[FE80:0::1]:7", NULL});
    assert_hosts(&access, false,
                 (const char *const[]){"10.1.2.4", "10.1.2.3.evil.example", "[fe80::2]", NULL});
}

static void a_listener_on_all_addresses_takes_any_address_but_no_name(void **state)
{
    char *listen[] = {(char *)"0.0.0.0:8080", NULL};
    struct access access = rules(listen, none, none);

    (void)state;
    assert_hosts(&access, true, (const char *const[]){"192.168.1.7:8080", "0.0.0.0:8080", NULL});
    assert_hosts(&access, false, (const char *const[]){"evil.example", "host.local:8080", NULL});
}

static void allowed_hosts_may_call(void **state)
{
    char *listen[] = {(char *)"127.0.0.1:8080", NULL};
    char *hosts[] = {(char *)"atoll.example", (char *)"other.example:8443", NULL};
    struct access access = rules(listen, hosts, none);

    (void)state;
    assert_hosts(
        &access, true,
        (const char *const[]){"atoll.example", "Atoll.Example:1", "other.example:8443", NULL});
    assert_hosts(&access, false,
                 (const char *const[]){"other.example", "other.example:80", "x.atoll.example",
                                       "atoll.example.", NULL});
}

static void only_its_own_and_allowed_origins_may_call(void **state)
{
    char *listen[] = {(char *)"127.0.0.1:8080", NULL};
    char *origins[] = {(char *)"https://app.example", NULL};
    struct access access = rules(listen, none, origins);
    struct str host = STR("127.0.0.1:8080");

    (void)state;
    assert_true(access_origin_allowed(&access, STR("http://127.0.0.1:8080"), host));
    assert_true(access_origin_allowed(&access, STR("https://app.example"), host));
    assert_false(access_origin_allowed(&access, STR("null"), host));
    assert_false(access_origin_allowed(&access, STR(""), host));
    /* A proxy may speak TLS for us. */
    assert_true(access_origin_allowed(&access, STR("https://127.0.0.1:8080"), host));
    assert_false(access_origin_allowed(&access, STR("http://127.0.0.1:8081"), host));
    assert_false(access_origin_allowed(&access, STR("http://127.0.0.1:8080/"), host));
    assert_false(access_origin_allowed(&access, STR("http://evil.example"), host));
    assert_false(access_origin_allowed(&access, STR("https://app.example.evil"), host));
    assert_false(access_origin_allowed(&access, STR("http://"), (struct str){"", 0}));
}

static void content_types_are_read(void **state)
{
    (void)state;
    assert_int_equal(access_media((struct str){0}), ACCESS_MEDIA_NONE);
    assert_int_equal(access_media(STR("application/json")), ACCESS_MEDIA_JSON);
    assert_int_equal(access_media(STR("Application/JSON ; Charset=\"UTF-8\"")), ACCESS_MEDIA_JSON);
    assert_int_equal(access_media(STR("application/json;charset=utf-8;")), ACCESS_MEDIA_JSON);
    assert_int_equal(access_media(STR("application/x-ndjson")), ACCESS_MEDIA_NDJSON);
    assert_int_equal(access_media(STR("")), ACCESS_MEDIA_OTHER);
    assert_int_equal(access_media(STR("text/plain")), ACCESS_MEDIA_OTHER);
    assert_int_equal(access_media(STR("application/jsonx")), ACCESS_MEDIA_OTHER);
    assert_int_equal(access_media(STR("application/json; charset=latin1")), ACCESS_MEDIA_OTHER);
    assert_int_equal(access_media(STR("text/plain; application/json")), ACCESS_MEDIA_OTHER);
}

static void accept_asks_by_name(void **state)
{
    struct str sse = STR("text/event-stream");

    (void)state;
    assert_true(access_accepts(STR("text/event-stream"), sse));
    assert_true(access_accepts(STR("application/json, Text/Event-Stream;q=0.5"), sse));
    assert_false(access_accepts((struct str){0}, sse));
    assert_false(access_accepts(STR("*/*"), sse));
    assert_false(access_accepts(STR("text/*, application/json"), sse));
    assert_false(access_accepts(STR("text/event-stream; q=0.0"), sse));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loopback_may_always_call),
        cmocka_unit_test(addresses_listened_on_may_call),
        cmocka_unit_test(a_listener_on_all_addresses_takes_any_address_but_no_name),
        cmocka_unit_test(allowed_hosts_may_call),
        cmocka_unit_test(only_its_own_and_allowed_origins_may_call),
        cmocka_unit_test(content_types_are_read),
        cmocka_unit_test(accept_asks_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
