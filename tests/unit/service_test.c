/*
 * service: sockets that were passed to this process and to no other; and a watchdog that is fed
 * only while every reactor turns.
 */
#include "server/service.h"

#include "shards/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { REACTORS = 3 };

/* ---- stands in for the cluster */

static uint64_t turns[REACTORS];
static bool stuck[REACTORS];
static unsigned nudges;

unsigned cluster_size(const struct cluster *cluster)
{
    (void)cluster;
    return REACTORS;
}

struct reactor_figures cluster_reactor_figures(const struct cluster *cluster, unsigned number)
{
    (void)cluster;
    return (struct reactor_figures){.turns = turns[number]};
}

/* A reactor that sleeps turns once when it is nudged; one that is stuck does not. */
void cluster_nudge(struct cluster *cluster, unsigned shard)
{
    (void)cluster;
    nudges++;
    turns[shard] += !stuck[shard];
}

void cluster_tell_recovery(const struct cluster *cluster, char *text, size_t size)
{
    (void)cluster;
    snprintf(text, size, "recovering: 43 %% of 12 MB of log read");
}

/* ---- stands in for the service manager */

static char directory[64];
static char path[80];
static int heard_fd;

static int setup(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/atoll-service-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/notify", directory);
    memcpy(address.sun_path, path, strlen(path) + 1);
    heard_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(heard_fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return -1;
    setenv("NOTIFY_SOCKET", path, 1);
    memset(stuck, 0, sizeof(stuck));
    memset(turns, 0, sizeof(turns));
    nudges = 0;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    close(heard_fd);
    unlink(path);
    return rmdir(directory);
}

/* The next message; "": there is none. */
static const char *heard(void)
{
    static char text[1024];
    ssize_t n = recv(heard_fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* ---- telling */

static void messages_reach_the_manager(void **state)
{
    (void)state;
    service_tell("READY=1\nSTATUS=%s", "here");
    assert_string_equal(heard(), "READY=1\nSTATUS=here");
    service_tell_reloading();
    assert_memory_equal(heard(), "RELOADING=1\nMONOTONIC_USEC=", 27);
    unsetenv("NOTIFY_SOCKET");
    service_tell("READY=1");
    assert_string_equal(heard(), "");
    setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
    service_tell("READY=1"); /* nobody hears it, and nothing happens */
}

static void abstract_names_are_names(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[64];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    (void)state;
    int n = snprintf(text, sizeof(text), "@atoll-service-%d", (int)getpid());
    memcpy(address.sun_path + 1, text + 1, (size_t)n - 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", text, 1);
    service_tell("READY=1");
    assert_int_equal(recv(fd, text, sizeof(text), 0), 7);
    close(fd);
}

/* ---- the watchdog */

static void watchdog_is_fed_while_all_reactors_turn_and_not_when_one_is_stuck(void **state)
{
    struct service_watch watch;
    int64_t now_ms = 5000;

    (void)state;
    setenv("WATCHDOG_USEC", "4000000", 1);
    service_watch_open(&watch, now_ms);
    service_watch_look(&watch, NULL, now_ms);
    heard();
    service_watch_ready(&watch);
    assert_string_equal(heard(), "READY=1\nSTATUS=serving");
    service_watch_look(&watch, NULL, now_ms);
    assert_string_equal(heard(), "WATCHDOG=1");
    assert_int_equal(service_watch_wait_ms(&watch, now_ms), 1000);
    service_watch_look(&watch, NULL, now_ms + 999);
    assert_string_equal(heard(), "");
    for (int i = 0; i < 5; i++) {
        now_ms += 1000;
        service_watch_look(&watch, NULL, now_ms);
        assert_string_equal(heard(), "WATCHDOG=1");
    }
    stuck[1] = true;
    service_watch_look(&watch, NULL, now_ms += 1000); /* what it had been nudged to before */
    heard();
    for (int i = 0; i < 5; i++) {
        service_watch_look(&watch, NULL, now_ms += 1000);
        assert_string_equal(heard(), "");
    }
    stuck[1] = false;
    service_watch_look(&watch, NULL, now_ms += 1000);
    service_watch_look(&watch, NULL, now_ms += 1000);
    assert_string_equal(heard(), "WATCHDOG=1");
}

static void recovery_asks_for_time_as_long_as_reactors_turn(void **state)
{
    struct service_watch watch;

    (void)state;
    service_watch_open(&watch, 0);
    service_watch_look(&watch, NULL, 0);
    service_watch_look(&watch, NULL, 5000);
    assert_string_equal(heard(), "EXTEND_TIMEOUT_USEC=60000000\n"
                                 "STATUS=recovering: 43 % of 12 MB of log read");
    memset(stuck, true, sizeof(stuck));
    service_watch_look(&watch, NULL, 10000);
    heard();
    service_watch_look(&watch, NULL, 15000);
    assert_string_equal(heard(), "");
    service_watch_ready(&watch);
    assert_int_equal(service_watch_wait_ms(&watch, 20000), -1); /* no watchdog: no more looks */
}

static void nobody_is_nudged_where_nobody_watches(void **state)
{
    struct service_watch watch;

    (void)state;
    unsetenv("NOTIFY_SOCKET");
    setenv("WATCHDOG_USEC", "1000", 1);
    service_watch_open(&watch, 0);
    assert_int_equal(service_watch_wait_ms(&watch, 0), -1);
    service_watch_look(&watch, NULL, 1000000);
    assert_int_equal(nudges, 0);
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_PID", "1", 1); /* another process is watched */
    service_watch_open(&watch, 0);
    service_watch_ready(&watch);
    assert_int_equal(service_watch_wait_ms(&watch, 0), -1);
}

/* ---- sockets */

enum { FIRST_FD = 3, MOST = 4 };

static int saved[MOST];
static char why[256];

/* Puts these where passed ones are, for this process or another. */
static void pass(const int *fds, int n, const char *names, bool other)
{
    char text[32];

    for (int i = 0; i < n; i++) {
        saved[i] = fcntl(FIRST_FD + i, F_DUPFD_CLOEXEC, 100);
        assert_int_equal(dup2(fds[i], FIRST_FD + i), FIRST_FD + i);
    }
    snprintf(text, sizeof(text), "%d", n);
    setenv("LISTEN_FDS", text, 1);
    snprintf(text, sizeof(text), "%d", (int)getpid() + other);
    setenv("LISTEN_PID", text, 1);
    if (names != NULL)
        setenv("LISTEN_FDNAMES", names, 1);
    else
        unsetenv("LISTEN_FDNAMES");
}

static void put_back(int n)
{
    for (int i = 0; i < n; i++) {
        if (saved[i] >= 0)
            dup2(saved[i], FIRST_FD + i);
        else
            close(FIRST_FD + i);
        if (saved[i] >= 0)
            close(saved[i]);
    }
}

static int high_socket(int type)
{
    int fd = socket(AF_INET, type, 0);
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    close(fd);
    assert_true(high >= 200);
    return high;
}

static void passed_sockets_are_found_by_name_each_once(void **state)
{
    struct service_sockets sockets;
    int fds[] = {high_socket(SOCK_STREAM), high_socket(SOCK_STREAM), high_socket(SOCK_STREAM)};

    (void)state;
    pass(fds, 3, "web:admin:web", false);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), 0);
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_PID"));
    assert_int_equal(sockets.n, 3);
    assert_int_equal(service_find_socket(&sockets, "web"), FIRST_FD);
    assert_int_equal(service_find_socket(&sockets, "nothing"), -1);
    assert_string_equal(service_left_over(&sockets), "admin");
    assert_int_equal(service_find_socket(&sockets, "web"), FIRST_FD + 2);
    assert_int_equal(service_find_socket(&sockets, "web"), -1);
    assert_int_equal(service_find_socket(&sockets, "admin"), FIRST_FD + 1);
    assert_null(service_left_over(&sockets));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fcntl(FIRST_FD + i, F_GETFD), FD_CLOEXEC);
        assert_true((fcntl(FIRST_FD + i, F_GETFL) & O_NONBLOCK) != 0);
        close(fds[i]);
    }
    service_free_sockets(&sockets);
    put_back(3);
}

static void sockets_without_names_and_of_others(void **state)
{
    struct service_sockets sockets;
    int fd = high_socket(SOCK_STREAM);

    (void)state;
    pass(&fd, 1, NULL, false);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), 0);
    assert_string_equal(service_left_over(&sockets), "unknown");
    service_free_sockets(&sockets); /* closes it */
    put_back(1);
    pass(&fd, 1, "web", true);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), 0);
    assert_int_equal(sockets.n, 0);
    service_free_sockets(&sockets);
    put_back(1);
    close(fd);
}

static void what_is_no_listening_stream_is_refused(void **state)
{
    struct service_sockets sockets;
    int datagrams = high_socket(SOCK_DGRAM);
    int file = fcntl(open("/dev/null", O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 200);

    (void)state;
    pass(&datagrams, 1, "web", false);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, "the socket \"web\" that was passed here must be a stream of TCP or "
                             "Unix");
    service_free_sockets(&sockets);
    put_back(1);
    pass(&file, 1, "web", false);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, "the socket \"web\" that was passed here is none");
    service_free_sockets(&sockets);
    put_back(1);
    close(datagrams);
    close(file);
    setenv("LISTEN_FDS", "65", 1);
    assert_int_equal(service_take_sockets(&sockets, why, sizeof(why)), 0); /* LISTEN_PID is gone */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_reach_the_manager),
        TEST(abstract_names_are_names),
        TEST(watchdog_is_fed_while_all_reactors_turn_and_not_when_one_is_stuck),
        TEST(recovery_asks_for_time_as_long_as_reactors_turn),
        TEST(nobody_is_nudged_where_nobody_watches),
        TEST(passed_sockets_are_found_by_name_each_once),
        TEST(sockets_without_names_and_of_others),
        TEST(what_is_no_listening_stream_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
