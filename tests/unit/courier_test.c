/* A courier makes one POST for each order and tells how it went. The receiver is a socket of this
 * test's own, which answers as each test wants. */
#include "server/courier.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SHARDS = 2, REQUEST_MAX = 8192 };

static const uint8_t secret_of_keys[SEAL_KEY_BYTES] = {7};

struct desk {
    struct courier *courier;
    const struct wake_courier *wake;
    struct seal_key key;
    int nudges[SHARDS]; /* eventfds */
    int listener;
    uint16_t port;
};

static void nudge(void *ctx, unsigned shard)
{
    struct desk *desk = ctx;
    int rc = eventfd_write(desk->nudges[shard], 1);
    assert(rc == 0);
}

static void open_listener(struct desk *desk)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    desk->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(desk->listener >= 0);
    assert_int_equal(bind(desk->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(desk->listener, SOMAXCONN), 0);
    assert_int_equal(getsockname(desk->listener, (struct sockaddr *)&address, &size), 0);
    desk->port = ntohs(address.sin_port);
}

static void open_desk(struct desk *desk, const char *allowed)
{
    char *items[] = {(char *)(uintptr_t)allowed};
    struct config_list list = {.items = items, .count = allowed != NULL};
    struct courier_start start = {.nudge = nudge, .ctx = desk};

    *desk = (struct desk){.courier = courier_new(SHARDS, &list)};
    for (unsigned i = 0; i < SHARDS; i++)
        desk->nudges[i] = eventfd(0, EFD_CLOEXEC);
    open_listener(desk);
    seal_key_init(&desk->key, secret_of_keys);
    start.seal = desk->key;
    desk->wake = courier_wake(desk->courier);
    courier_start(desk->courier, &start);
}

static void close_desk(struct desk *desk)
{
    courier_stop(desk->courier);
    courier_free(desk->courier);
    close(desk->listener);
    for (unsigned i = 0; i < SHARDS; i++)
        close(desk->nudges[i]);
}

static struct wake_order *make_order(const struct desk *desk, unsigned shard)
{
    struct wake_order *order = wake_order_new();
    char url[64];
    int n = snprintf(url, sizeof(url), "http://127.0.0.1:%u/hook?token=hidden", desk->port);

    order->shard = (uint16_t)shard;
    order->session = STR("s1");
    order->epoch = STR("k3x9");
    order->agent = STR("coder");
    order->url = arena_copy(&order->arena, (struct str){url, (size_t)n});
    order->seq = 42;
    order->unread = 3;
    order->mentioned = true;
    order->cursor = STR("Zm9v");
    return order;
}

static void seal_for(const struct desk *desk, struct wake_order *order, const char *session)
{
    struct buf sealed = {0};
    seal_secret(&desk->key, (struct str){session, strlen(session)}, order->agent,
                STR("sixteen bytes or more"), &sealed);
    order->sealed = arena_copy(&order->arena, buf_str(&sealed));
    buf_free(&sealed);
}

/* Waits for an order of this shard to come back. */
static struct wake_order *await_order(struct desk *desk, unsigned shard)
{
    struct wake_order *order = desk->wake->done(desk->wake->ctx, shard);
    eventfd_t n;
    while (order == NULL) {
        assert_int_equal(eventfd_read(desk->nudges[shard], &n), 0);
        order = desk->wake->done(desk->wake->ctx, shard);
    }
    return order;
}

/* ---- the receiver */

static size_t body_length(const char *head)
{
    const char *length = strcasestr(head, "\r\ncontent-length: ");
    return length == NULL ? 0 : strtoul(length + 18, NULL, 10);
}

/* Reads one whole request; returns where its body begins. */
static char *hear(int peer, char request[REQUEST_MAX])
{
    size_t n = 0;
    for (;;) {
        ssize_t more = read(peer, request + n, REQUEST_MAX - 1 - n);
        assert_true(more > 0);
        n += (size_t)more;
        request[n] = '\0';
        char *body = strstr(request, "\r\n\r\n");
        if (body != NULL && n >= (size_t)(body + 4 - request) + body_length(request))
            return body + 4;
    }
}

static int take(const struct desk *desk)
{
    int peer = accept4(desk->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    return peer;
}

static void say(int peer, const char *answer)
{
    size_t n = strlen(answer);
    assert_int_equal(write(peer, answer, n), (ssize_t)n);
}

/* A header's value, terminated in place; NULL: it is not there. */
static char *header(char *request, const char *name)
{
    char key[64];
    snprintf(key, sizeof(key), "\r\n%s: ", name);
    char *found = strcasestr(request, key);
    if (found == NULL)
        return NULL;
    char *copy = strdup(found + strlen(key));
    copy[strcspn(copy, "\r")] = '\0';
    return copy;
}

/* ---- tests */

static void an_order_is_one_post_that_says_who_and_what(void **state)
{
    char request[REQUEST_MAX];
    struct desk desk;
    (void)state;

    open_desk(&desk, "127.0.0.1");
    assert_true(desk.wake->post(desk.wake->ctx, make_order(&desk, 1)));
    int peer = take(&desk);
    char *body = hear(peer, request);
    assert_memory_equal(request, "POST /hook?token=hidden HTTP/1.1\r\n", 34);
    assert_string_equal(body, "{\"type\":\"agent.wake\",\"session\":\"s1\",\"epoch\":\"k3x9\","
                              "\"agent\":\"coder\",\"seq\":42,\"unread\":3,\"mentioned\":true,"
                              "\"cursor\":\"Zm9v\"}");
    char *id = header(request, "webhook-id");
    char *type = header(request, "content-type");
    assert_string_equal(id, "wake:s1:k3x9:coder:42");
    assert_string_equal(type, "application/json");
    assert_null(header(request, "webhook-signature"));
    say(peer, "HTTP/1.1 204 No Content\r\n\r\n");
    struct wake_order *order = await_order(&desk, 1);
    assert_int_equal(order->outcome, WAKE_DELIVERED);
    assert_int_equal(order->status, 204);
    assert_string_equal(order->why, "");
    wake_order_free(order);
    free(id);
    free(type);
    close(peer);
    close_desk(&desk);
}

static void it_is_signed_with_the_targets_secret(void **state)
{
    static const char secret[] = "sixteen bytes or more";
    char request[REQUEST_MAX], signed_text[REQUEST_MAX + 128], expected[64] = "v1,";
    uint8_t mac[32];
    unsigned mac_n;
    struct desk desk;
    (void)state;

    open_desk(&desk, "127.0.0.0/8");
    struct wake_order *order = make_order(&desk, 0);
    seal_for(&desk, order, "s1");
    assert_true(desk.wake->post(desk.wake->ctx, order));
    int peer = take(&desk);
    char *body = hear(peer, request);
    char *id = header(request, "webhook-id");
    char *stamp = header(request, "webhook-timestamp");
    char *signature = header(request, "webhook-signature");
    int n = snprintf(signed_text, sizeof(signed_text), "%s.%s.%s", id, stamp, body);
    HMAC(EVP_sha256(), secret, sizeof(secret) - 1, (uint8_t *)signed_text, (size_t)n, mac, &mac_n);
    EVP_EncodeBlock((uint8_t *)expected + 3, mac, 32);
    assert_string_equal(signature, expected);
    assert_true(llabs(strtoll(stamp, NULL, 10) - (long long)time(NULL)) < 60);
    say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    order = await_order(&desk, 0);
    assert_int_equal(order->outcome, WAKE_DELIVERED);
    wake_order_free(order);
    free(id);
    free(stamp);
    free(signature);
    close(peer);
    close_desk(&desk);
}

static void a_secret_sealed_for_another_session_sends_nothing(void **state)
{
    struct desk desk;
    (void)state;

    open_desk(&desk, "127.0.0.1");
    struct wake_order *order = make_order(&desk, 0);
    seal_for(&desk, order, "s2");
    assert_true(desk.wake->post(desk.wake->ctx, order));
    order = await_order(&desk, 0);
    assert_int_equal(order->outcome, WAKE_REFUSED);
    assert_non_null(strstr(order->why, "set it anew"));
    wake_order_free(order);
    close_desk(&desk);
}

/* What becomes of an order whose call is answered so. */
static struct wake_order *answered(const char *answer)
{
    char request[REQUEST_MAX];
    struct desk desk;

    open_desk(&desk, "127.0.0.1");
    assert_true(desk.wake->post(desk.wake->ctx, make_order(&desk, 0)));
    int peer = take(&desk);
    hear(peer, request);
    say(peer, answer);
    close(peer);
    struct wake_order *order = await_order(&desk, 0);
    assert_null(strstr(order->why, "hidden")); /* of the URL's query */
    close_desk(&desk);
    return order;
}

static void an_error_is_a_failure_and_says_which(void **state)
{
    (void)state;
    struct wake_order *order = answered("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(order->outcome, WAKE_FAILED);
    assert_int_equal(order->status, 500);
    assert_string_equal(order->why, "It answered 500.");
    wake_order_free(order);
}

static void a_redirect_is_not_followed(void **state)
{
    (void)state;
    struct wake_order *order = answered(
        "HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(order->outcome, WAKE_FAILED);
    assert_int_equal(order->status, 307);
    assert_string_equal(order->why, "It answered 307, and redirects are not followed.");
    wake_order_free(order);
}

static void no_answer_is_a_failure(void **state)
{
    (void)state;
    struct wake_order *order = answered("");
    assert_int_equal(order->outcome, WAKE_FAILED);
    assert_int_equal(order->status, 0);
    assert_non_null(strstr(order->why, "It cannot be called: "));
    wake_order_free(order);
    order = answered("not HTTP at all\r\n\r\n");
    assert_int_equal(order->outcome, WAKE_FAILED);
    wake_order_free(order);
}

/* The one test that takes as long as it says. The others are not held up by it. */
static void a_target_that_never_answers_is_given_up(void **state)
{
    char request[REQUEST_MAX];
    struct desk desk;
    (void)state;

    open_desk(&desk, "127.0.0.1");
    assert_true(desk.wake->post(desk.wake->ctx, make_order(&desk, 0)));
    int silent = take(&desk);
    hear(silent, request);
    assert_true(desk.wake->post(desk.wake->ctx, make_order(&desk, 1)));
    int peer = take(&desk);
    hear(peer, request);
    say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    struct wake_order *order = await_order(&desk, 1);
    assert_int_equal(order->outcome, WAKE_DELIVERED);
    wake_order_free(order);
    order = await_order(&desk, 0);
    assert_int_equal(order->outcome, WAKE_FAILED);
    assert_string_equal(order->why, "It did not answer within 10 s.");
    wake_order_free(order);
    close(peer);
    close(silent);
    close_desk(&desk);
}

static void an_endless_answer_is_not_read(void **state)
{
    char request[REQUEST_MAX], junk[4096];
    struct desk desk;
    (void)state;

    memset(junk, 'x', sizeof(junk));
    open_desk(&desk, "127.0.0.1");
    assert_true(desk.wake->post(desk.wake->ctx, make_order(&desk, 0)));
    int peer = take(&desk);
    hear(peer, request);
    say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    while (send(peer, junk, sizeof(junk), MSG_NOSIGNAL) > 0)
        ;
    struct wake_order *order = await_order(&desk, 0);
    assert_int_equal(order->outcome, WAKE_DELIVERED); /* its status had been heard */
    wake_order_free(order);
    close(peer);
    close_desk(&desk);
}

static void a_private_address_is_refused_without_a_rule(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost",  "[::1]",  "[::ffff:127.0.0.1]",
                                        "0.0.0.0",   "2130706433", "0x7f.1", "10.0.0.1"};
    struct desk desk;
    (void)state;

    open_desk(&desk, NULL);
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct wake_order *order = make_order(&desk, 0);
        char url[64];
        int n = snprintf(url, sizeof(url), "http://%s:%u/", hosts[i], desk.port);
        order->url = arena_copy(&order->arena, (struct str){url, (size_t)n});
        assert_true(desk.wake->post(desk.wake->ctx, order));
        order = await_order(&desk, 0);
        if (order->outcome != WAKE_REFUSED)
            fail_msg("%s: %s", hosts[i], order->why);
        assert_non_null(strstr(order->why, "--allow-wake-to"));
        if (strcmp(hosts[i], "localhost") == 0) /* what a name resolves to is not told */
            assert_null(strstr(order->why, "127.0.0.1"));
        wake_order_free(order);
    }
    close_desk(&desk);
}

static void a_name_that_a_rule_names_is_called(void **state)
{
    char request[REQUEST_MAX], url[64];
    struct desk desk;
    (void)state;

    open_desk(&desk, "localhost");
    struct wake_order *order = make_order(&desk, 0);
    int n = snprintf(url, sizeof(url), "http://LocalHost:%u/", desk.port);
    order->url = arena_copy(&order->arena, (struct str){url, (size_t)n});
    assert_true(desk.wake->post(desk.wake->ctx, order));
    int peer = take(&desk);
    hear(peer, request);
    say(peer, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    order = await_order(&desk, 0);
    assert_int_equal(order->outcome, WAKE_DELIVERED);
    wake_order_free(order);
    close(peer);
    close_desk(&desk);
}

static void other_schemes_are_not_called(void **state)
{
    static const char *const urls[] = {"ftp://8.8.8.8/",         "file:///etc/passwd",
                                       "gopher://8.8.8.8/",      "http://",
                                       "http://user@127.0.0.1/", "nonsense"};
    struct desk desk;
    (void)state;

    open_desk(&desk, "0.0.0.0/0");
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct wake_order *order = make_order(&desk, 0);
        order->url = (struct str){urls[i], strlen(urls[i])};
        assert_true(desk.wake->post(desk.wake->ctx, order));
        order = await_order(&desk, 0);
        assert_int_not_equal(order->outcome, WAKE_DELIVERED);
        wake_order_free(order);
    }
    close_desk(&desk);
}

static void a_shard_has_so_many_orders_out_and_no_more(void **state)
{
    struct desk desk;
    struct wake_order *orders[WAKE_ORDERS_MAX + 1];
    (void)state;

    open_desk(&desk, "127.0.0.1");
    for (unsigned i = 0; i <= WAKE_ORDERS_MAX; i++)
        orders[i] = make_order(&desk, 0);
    for (unsigned i = 0; i < WAKE_ORDERS_MAX; i++)
        assert_true(desk.wake->post(desk.wake->ctx, orders[i]));
    assert_false(desk.wake->post(desk.wake->ctx, orders[WAKE_ORDERS_MAX]));
    struct wake_order *other = make_order(&desk, 1);
    assert_true(desk.wake->post(desk.wake->ctx, other));
    for (unsigned i = 0; i <= WAKE_ORDERS_MAX; i++) /* and that of the other shard */
        close(take(&desk));
    wake_order_free(await_order(&desk, 1));
    wake_order_free(await_order(&desk, 0));
    assert_true(desk.wake->post(desk.wake->ctx, orders[WAKE_ORDERS_MAX]));
    close_desk(&desk); /* with what is under way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_is_one_post_that_says_who_and_what),
        cmocka_unit_test(it_is_signed_with_the_targets_secret),
        cmocka_unit_test(a_secret_sealed_for_another_session_sends_nothing),
        cmocka_unit_test(an_error_is_a_failure_and_says_which),
        cmocka_unit_test(a_redirect_is_not_followed),
        cmocka_unit_test(no_answer_is_a_failure),
        cmocka_unit_test(a_target_that_never_answers_is_given_up),
        cmocka_unit_test(an_endless_answer_is_not_read),
        cmocka_unit_test(a_private_address_is_refused_without_a_rule),
        cmocka_unit_test(a_name_that_a_rule_names_is_called),
        cmocka_unit_test(other_schemes_are_not_called),
        cmocka_unit_test(a_shard_has_so_many_orders_out_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
