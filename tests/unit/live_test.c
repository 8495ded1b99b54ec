/*
 * live: settings are published while others hold the old ones, and nobody sees half of anything;
 * and who may reach a server without keys.
 */
#include "server/live.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char error[CONFIG_ERROR_SIZE];

static struct config options(const char *listen, const char *more)
{
    struct config config;
    char *argv[] = {(char *)"--listen", (char *)(uintptr_t)listen, (char *)(uintptr_t)more};
    if (config_load(&config, more != NULL ? 3 : 2, argv, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    return config;
}

static int make(const char *listen, const char *more, struct live **live)
{
    struct config config = options(listen, more);
    return live_make(&config, NULL, 0, live, error, sizeof(error));
}

static void only_this_machine_reaches_a_server_without_keys(void **state)
{
    static const char *const near[] = {"127.0.0.1:0", "127.8.9.10:80", "localhost:1", "[::1]:0",
                                       "unix:/tmp/a.sock"};
    static const char *const far[] = {"0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[2001:db8::1]:80",
                                      "[fe80::1]:80"};
    struct live *live;

    (void)state;
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        assert_int_equal(make(near[i], NULL, &live), 0);
        live_release(live);
    }
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        assert_int_equal(make(far[i], NULL, &live), -EINVAL);
        assert_non_null(strstr(error, "--auth-key"));
        assert_int_equal(make(far[i], "--insecure-no-auth", &live), 0);
        live_release(live);
    }
}

static struct live_address address_of(int family, const char *text)
{
    struct live_address address = {.storage.ss_family = (sa_family_t)family};
    void *place = family == AF_INET ? (void *)&((struct sockaddr_in *)&address.storage)->sin_addr
                                    : (void *)&((struct sockaddr_in6 *)&address.storage)->sin6_addr;
    assert_int_equal(inet_pton(family, text, place), 1);
    return address;
}

static void passed_sockets_count_by_where_they_are_bound(void **state)
{
    struct live_address near = address_of(AF_INET6, "::1");
    struct live_address far[] = {address_of(AF_INET, "127.0.0.1"),
                                 address_of(AF_INET, "192.0.2.7")};
    struct live_address local = {.storage.ss_family = AF_UNIX};
    struct config config = options("fd:a", NULL);
    struct live *live;

    (void)state;
    assert_int_equal(live_make(&config, &near, 1, &live, error, sizeof(error)), 0);
    live_release(live);
    config = options("fd:a", NULL);
    assert_int_equal(live_make(&config, &local, 1, &live, error, sizeof(error)), 0);
    live_release(live);
    config = options("fd:a", NULL);
    assert_int_equal(live_make(&config, far, 2, &live, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "192.0.2.7"));
    config = options("fd:a", "--insecure-no-auth");
    assert_int_equal(live_make(&config, far, 2, &live, error, sizeof(error)), 0);
    assert_true(access_host_allowed(&live->access, STR("192.0.2.7:80")));
    assert_false(access_host_allowed(&live->access, STR("192.0.2.8:80")));
    live_release(live);
}

static void files_that_cannot_be_read_are_named(void **state)
{
    struct live *live;
    (void)state;
    assert_int_equal(make("127.0.0.1:0", "--auth-key=/nowhere/a.key#kid=x", &live), -EINVAL);
    assert_non_null(strstr(error, "/nowhere/a.key"));
}

/* ---- from several threads */

enum { READERS = 3, GENERATIONS = 300 };

static struct live_cell cell;

/* Its only host tells which one it is. */
static struct live *numbered(unsigned number)
{
    char host[64];
    struct live *live;
    snprintf(host, sizeof(host), "--allowed-host=g%u", number);
    assert_int_equal(make("127.0.0.1:0", host, &live), 0);
    return live;
}

static void *follow(void *argument)
{
    struct live *live = live_take(&cell);
    uint64_t seen = 0;

    (void)argument;
    while (live->generation < GENERATIONS) {
        char host[32];
        snprintf(host, sizeof(host), "g%u", (unsigned)live->generation);
        if (live->generation < seen || strcmp(live->access.hosts->items[0], host) != 0)
            return (void *)1;
        seen = live->generation;
        if (live_outdated(&cell, live)) {
            struct live *old = live;
            live = live_take(&cell);
            live_release(old);
        }
    }
    live_release(live);
    return NULL;
}

static void all_see_the_newest_whole_and_in_order(void **state)
{
    pthread_t readers[READERS];
    void *wrong;

    (void)state;
    live_open(&cell);
    live_publish(&cell, numbered(1));
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, follow, NULL), 0);
    for (unsigned i = 2; i <= GENERATIONS; i++)
        live_publish(&cell, numbered(i));
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i], &wrong);
        assert_null(wrong);
    }
    live_close(&cell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_this_machine_reaches_a_server_without_keys),
        cmocka_unit_test(passed_sockets_count_by_where_they_are_bound),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(all_see_the_newest_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
