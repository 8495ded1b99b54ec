/*
 * mailbox: credits, and the errands of shards. The test is all frontends and all shards: what it
 * sends it takes off the request rings and puts onto the reply rings itself.
 */
#include "shards/limits.h"
#include "shards/mailbox_internal.h"
#include "shards/shard.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SHARDS = 2 };

struct bench {
    struct rings *rings;
    struct mailbox mailbox; /* of frontend 1 */
    struct shard *shards[SHARDS];
    struct request *errand; /* the last one that came back, to whom, and how many did */
    void *owner;
    unsigned errands;
    struct request *reply; /* the last one that came to the face, and how many did */
    unsigned replies;
    unsigned relays, relayed_from; /* and of relays */
    char relayed[16];
};

static struct bench *bench;

static int open_bench(void **state)
{
    static const uint8_t hash_key[DATADIR_HASH_KEY_BYTES] = "0123456789abcdef";
    (void)state;
    bench = calloc(1, sizeof(*bench));
    bench->rings = rings_new(SHARDS, hash_key);
    mailbox_init(&bench->mailbox, bench->rings, 1);
    for (unsigned i = 0; i < SHARDS; i++) {
        bench->shards[i] = calloc(1, sizeof(*bench->shards[i]));
        bench->shards[i]->number = i;
        rings_attach_shard(bench->rings, bench->shards[i]);
    }
    return 0;
}

static int close_bench(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SHARDS; i++)
        free(bench->shards[i]);
    rings_free(bench->rings);
    free(bench);
    request_free_spares();
    return 0;
}

static void on_errand(void *owner, struct request *request)
{
    bench->owner = owner;
    bench->errand = request;
    bench->errands++;
}

static void on_reply(void *ctx, struct request *request)
{
    assert_ptr_equal(ctx, bench);
    bench->reply = request;
    bench->replies++;
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    (void)ctx;
    (void)feed;
    (void)frame;
    fail_msg("no frame was sent");
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    (void)ctx;
    (void)feed;
    (void)notice;
    fail_msg("no notice was sent");
}

static void on_relay(void *ctx, unsigned from, struct str bytes)
{
    assert_ptr_equal(ctx, bench);
    bench->relayed_from = from;
    snprintf(bench->relayed, sizeof(bench->relayed), "%.*s", (int)bytes.n, bytes.p);
    bench->relays++;
}

static unsigned drain(unsigned max)
{
    struct mailbox_handlers handlers = {bench, on_reply, on_frame, on_notice, on_relay};
    return mailbox_drain(&bench->mailbox, &handlers, max);
}

/* What the shard has been sent first; NULL: nothing. */
static struct request *take(unsigned shard)
{
    struct ring_item item;
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (ring_pop(&bench->shards[shard]->requests[1][lane], &item))
            return item.p;
    }
    return NULL;
}

static void answer(struct request *request)
{
    struct ring *ring = bench->shards[request->shard]->replies[request->frontend];
    assert_true(ring_push(ring, reply_item(REPLY_REQUEST, request, 0)));
}

/* For a shard by its number. */
static struct request *errand_new(unsigned shard)
{
    struct request *request = request_new();
    request->kind = REQUEST_COMMANDS;
    request->shard = (uint16_t)shard;
    request->errand = on_errand;
    request->errand_owner = request;
    return request;
}

static struct request *question_new(void)
{
    struct request *request = request_new();
    request->kind = REQUEST_EXISTS;
    return request;
}

/* Fills the ring to a shard with what takes no credit. */
static void fill(unsigned shard)
{
    for (unsigned i = 0; i < REQUEST_RING_ITEMS; i++) {
        struct request *request = request_new();
        request->kind = REQUEST_INBOX;
        request->wait = true;
        assert_int_equal(mailbox_send_to(&bench->mailbox, request, shard), 0);
    }
}

static void free_all(unsigned shard)
{
    struct request *request;
    while ((request = take(shard)) != NULL)
        request_free(request);
}

static void errand_comes_back_to_its_owner_and_not_to_the_face(void **state)
{
    (void)state;
    struct request *errand = errand_new(0);
    struct request *status = question_new();
    mailbox_errand(&bench->mailbox, errand);
    assert_int_equal(mailbox_send_to(&bench->mailbox, status, 0), 0);
    assert_int_equal(mailbox_errands(&bench->mailbox), 1);
    assert_int_equal(mailbox_outstanding(&bench->mailbox), 1);
    assert_int_equal(bench->mailbox.wake, 1 << 0);
    assert_ptr_equal(take(0), errand);
    assert_ptr_equal(take(0), status);
    assert_int_equal(errand->frontend, 1);
    answer(errand);
    answer(status);
    assert_true(mailbox_pending(&bench->mailbox));
    assert_int_equal(drain(10), 2);
    assert_int_equal(bench->errands, 1);
    assert_ptr_equal(bench->errand, errand);
    assert_ptr_equal(bench->owner, errand);
    assert_int_equal(bench->replies, 1);
    assert_ptr_equal(bench->reply, status);
    assert_int_equal(mailbox_errands(&bench->mailbox), 0);
    assert_int_equal(mailbox_outstanding(&bench->mailbox), 0);
    request_free(errand);
    request_free(status);
}

static void errand_goes_to_the_shard_of_its_session(void **state)
{
    static const char *const ids[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    unsigned came[SHARDS] = {0};
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct request *asked = question_new();
        asked->session = (struct str){ids[i], 1};
        assert_int_equal(mailbox_send(&bench->mailbox, asked), 0);
        unsigned shard = asked->shard;
        struct request *errand = errand_new(1 - shard); /* the session counts */
        errand->session = asked->session;
        mailbox_errand(&bench->mailbox, errand);
        assert_ptr_equal(take(shard), asked);
        assert_ptr_equal(take(shard), errand);
        came[shard]++;
        request_free(asked);
        request_free(errand);
    }
    assert_true(came[0] != 0 && came[1] != 0);
}

static void errands_wait_for_room_in_order(void **state)
{
    struct request *errands[3];
    (void)state;
    fill(0);
    for (unsigned i = 0; i < 3; i++) {
        errands[i] = errand_new(0);
        mailbox_errand(&bench->mailbox, errands[i]);
    }
    assert_true(mailbox_send_errands(&bench->mailbox));
    assert_int_equal(mailbox_errands(&bench->mailbox), 3);
    request_free(take(0)); /* room for one */
    assert_true(mailbox_send_errands(&bench->mailbox));
    for (unsigned i = 1; i < REQUEST_RING_ITEMS; i++)
        request_free(take(0));
    assert_ptr_equal(take(0), errands[0]);
    assert_null(take(0));
    assert_false(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(0), errands[1]);
    assert_ptr_equal(take(0), errands[2]);
    assert_int_equal(mailbox_errands(&bench->mailbox), 3); /* sent, not answered */
    for (unsigned i = 0; i < 3; i++)
        request_free(errands[i]);
}

static void errand_that_comes_later_does_not_overtake(void **state)
{
    (void)state;
    fill(0);
    struct request *first = errand_new(0);
    struct request *second = errand_new(0);
    mailbox_errand(&bench->mailbox, first);
    free_all(0); /* room, but nobody has tried again yet */
    mailbox_errand(&bench->mailbox, second);
    assert_false(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(0), first);
    assert_ptr_equal(take(0), second);
    request_free(first);
    request_free(second);
}

static void full_ring_holds_up_only_what_goes_there(void **state)
{
    (void)state;
    fill(0);
    struct request *stuck = errand_new(0);
    struct request *free_to_go = errand_new(1);
    mailbox_errand(&bench->mailbox, stuck);
    mailbox_errand(&bench->mailbox, free_to_go);
    assert_true(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(1), free_to_go);
    free_all(0);
    struct request *last = errand_new(0); /* the list's end is still its end */
    mailbox_errand(&bench->mailbox, last);
    assert_false(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(0), stuck);
    assert_ptr_equal(take(0), last);
    request_free(stuck);
    request_free(free_to_go);
    request_free(last);
}

static void errand_takes_a_credit_and_gives_it_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REPLY_CREDITS / 2; i++) {
        assert_int_equal(mailbox_send_to(&bench->mailbox, question_new(), 0), 0);
        struct request *request = take(0);
        assert_non_null(request);
        answer(request); /* the ring is empty: only credit can be short */
    }
    struct request *refused = question_new();
    assert_int_equal(mailbox_send_to(&bench->mailbox, refused, 0), -EAGAIN);
    struct request *errand = errand_new(0);
    mailbox_errand(&bench->mailbox, errand);
    assert_null(take(0));
    assert_int_equal(drain(1), 1);
    request_free(bench->reply);
    assert_false(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(0), errand);
    assert_int_equal(mailbox_send_to(&bench->mailbox, refused, 0), -EAGAIN);
    answer(errand);
    for (unsigned i = 1; i < REPLY_CREDITS / 2; i++) {
        assert_int_equal(drain(1), 1);
        request_free(bench->reply);
    }
    assert_int_equal(bench->errands, 0);
    assert_int_equal(drain(UINT32_MAX), 1);
    assert_int_equal(bench->errands, 1);
    for (unsigned i = 0; i < REPLY_CREDITS / 2; i++) /* all credits are there again */
        assert_int_equal(mailbox_send_to(&bench->mailbox, i == 0 ? refused : question_new(), 0), 0);
    free_all(0);
    request_free(errand);
}

static struct request *request_of(enum request_kind kind)
{
    struct request *request = request_new();
    request->kind = kind;
    return request;
}

/* Sends of one kind until it is refused; how many were taken. */
static unsigned flood(enum request_kind kind, bool wait)
{
    for (unsigned n = 0;; n++) {
        struct request *request = request_of(kind);
        request->wait = wait;
        if (mailbox_send_to(&bench->mailbox, request, 0) != 0) {
            request_free(request);
            return n;
        }
    }
}

static void a_flood_of_one_lane_is_refused_without_the_others(void **state)
{
    (void)state;
    static const enum request_kind kinds[LANES] = {REQUEST_TOUCH, REQUEST_COMMANDS, REQUEST_VIEW};
    uint32_t taken = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        struct request *first = request_of(kinds[(lane + 1) % LANES]);
        uint32_t n = flood(kinds[lane], false);
        taken += n;
        assert_in_range(n, REPLY_CREDITS / 4 - 1, REPLY_CREDITS / 2);
        for (unsigned i = 0; i < LANES; i++)
            assert_int_equal(bench->mailbox.full[i], i <= lane);
        if (lane + 1 < LANES) {
            assert_int_equal(mailbox_send_to(&bench->mailbox, first, 0), 0);
            taken++;
        } else {
            request_free(first);
        }
    }
    /* As many as replies have room for, and no more. */
    assert_int_equal(taken, REPLY_CREDITS);
    free_all(0);
}

/* What waits without a credit fills its ring, and no other. */
static void waits_fill_the_ring_of_their_lane_alone(void **state)
{
    (void)state;
    assert_int_equal(flood(REQUEST_INBOX, true), REQUEST_RING_ITEMS);
    assert_int_equal(flood(REQUEST_CHANGES, true), TELEMETRY_RING_ITEMS);
    struct request *touch = request_of(REQUEST_TOUCH);
    assert_int_equal(mailbox_send_to(&bench->mailbox, touch, 0), 0);
    assert_ptr_equal(take(0), touch);
    request_free(touch);
    free_all(0);
}

static void a_cancellation_goes_the_way_of_what_it_cancels(void **state)
{
    (void)state;
    struct request *of_inbox = request_of(REQUEST_CANCEL), *of_changes = request_of(REQUEST_CANCEL);
    of_inbox->session = STR("s1");
    assert_int_equal(request_lane(of_inbox), LANE_COMMANDS);
    assert_int_equal(request_lane(of_changes), LANE_TELEMETRY);
    request_free(of_inbox);
    request_free(of_changes);
}

static void shut_mailbox_refuses_requests_and_keeps_errands(void **state)
{
    (void)state;
    bench->mailbox.shut = true;
    struct request *status = question_new();
    struct request *errand = errand_new(1);
    assert_int_equal(mailbox_send_to(&bench->mailbox, status, 1), -EAGAIN);
    mailbox_errand(&bench->mailbox, errand);
    assert_null(take(1));
    assert_int_equal(mailbox_outstanding(&bench->mailbox), 0);
    bench->mailbox.shut = false;
    assert_false(mailbox_send_errands(&bench->mailbox));
    assert_ptr_equal(take(1), errand);
    assert_int_equal(mailbox_send_to(&bench->mailbox, status, 1), 0);
    assert_ptr_equal(take(1), status);
    request_free(status);
    request_free(errand);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_bench, close_bench)

/* ---- relays, as the shard of the mailbox's number makes them */

static bool relay(const char *bytes, size_t n)
{
    struct request *request = request_new();
    request->kind = REQUEST_RELAY;
    request->frontend = 0;
    request->relay = (struct str){bytes, n};
    struct relay *made = mailbox_relay_new(&bench->mailbox, request);
    request_free(request);
    if (made == NULL)
        return false;
    assert_true(ring_push(bench->shards[1]->replies[1], reply_item(REPLY_RELAY, made, 0)));
    return true;
}

static void a_relay_comes_with_its_bytes_and_where_it_is_from(void **state)
{
    (void)state;
    assert_true(relay("hello", 5));
    assert_true(relay("", 0));
    assert_int_equal(drain(1), 1);
    assert_int_equal(bench->relays, 1);
    assert_int_equal(bench->relayed_from, 0);
    assert_string_equal(bench->relayed, "hello");
    assert_int_equal(drain(10), 1);
    assert_int_equal(bench->relays, 2);
    assert_string_equal(bench->relayed, "");
    assert_int_equal(bench->errands + bench->replies, 0);
}

static void what_is_relayed_and_not_taken_is_bounded(void **state)
{
    size_t n = RELAYED_BYTES_MAX / 2;
    (void)state;
    char *bytes = calloc(1, 2 * RELAYED_BYTES_MAX);
    assert_true(relay(bytes, n));
    assert_true(relay(bytes, n));
    assert_false(relay(bytes, 1));
    assert_int_equal(drain(1), 1);
    assert_true(relay(bytes, n));
    assert_false(relay(bytes, 1));
    assert_int_equal(drain(10), 2);
    assert_true(relay(bytes, 2 * RELAYED_BYTES_MAX)); /* alone, it may be of any size */
    assert_false(relay(bytes, 1));
    assert_int_equal(drain(10), 1);
    assert_true(relay(bytes, 1));
    assert_int_equal(drain(10), 1);
    free(bytes);
}

static void who_does_not_listen_gets_no_relay(void **state)
{
    struct mailbox_handlers handlers = {
        .ctx = bench, .on_reply = on_reply, .on_frame = on_frame, .on_notice = on_notice};
    (void)state;
    assert_true(relay("hello", 5));
    assert_int_equal(mailbox_drain(&bench->mailbox, &handlers, 10), 1);
    assert_int_equal(bench->relays, 0);
}

static void relays_that_nobody_has_taken_go_with_the_rings(void **state)
{
    (void)state;
    assert_true(relay("hello", 5)); /* a leak is a failure */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(errand_comes_back_to_its_owner_and_not_to_the_face),
        TEST(errand_goes_to_the_shard_of_its_session),
        TEST(errands_wait_for_room_in_order),
        TEST(errand_that_comes_later_does_not_overtake),
        TEST(full_ring_holds_up_only_what_goes_there),
        TEST(errand_takes_a_credit_and_gives_it_back),
        TEST(a_flood_of_one_lane_is_refused_without_the_others),
        TEST(waits_fill_the_ring_of_their_lane_alone),
        TEST(a_cancellation_goes_the_way_of_what_it_cancels),
        TEST(shut_mailbox_refuses_requests_and_keeps_errands),
        TEST(a_relay_comes_with_its_bytes_and_where_it_is_from),
        TEST(what_is_relayed_and_not_taken_is_bounded),
        TEST(who_does_not_listen_gets_no_relay),
        TEST(relays_that_nobody_has_taken_go_with_the_rings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
