/*
 * What sessions cost in memory, by the sizes that the allocator really gives. Only where that is
 * jemalloc: a build with sanitizers has another one, and skips this.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#ifdef ATOLL_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

static int open_one(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 1);
    stage->settings.idle_passivate_ms = 1000;
    stage->settings.snapshot_bytes = shard_settings_default.snapshot_bytes;
    stage->settings.checkpoint_bytes = UINT64_C(1) << 30;
    stage->segment_bytes = 1 << 20;
    stage_start(stage);
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* In use by sessions and the directory, without what the cache keeps for the next allocation. */
static size_t used_bytes(struct stage *stage)
{
    struct shard *shard = stage->shards[0];
    const struct entry_table *table = &shard->table;
    size_t slots = 0;
    stage_settle(stage);
#ifdef ATOLL_JEMALLOC
    assert_int_equal(
        mallctl("tcache.flush", NULL, NULL, &shard->heap.cache, sizeof(shard->heap.cache)), 0);
#else
    skip();
#endif
    for (int i = 0; i < 2; i++)
        slots += table->buckets[i] != NULL ? table->mask[i] + 1 : 0;
    heap_refresh();
    return heap_used_bytes(&shard->heap) + slots * sizeof(struct entry *);
}

/* 26 bytes, as an id that the server makes. */
static const char *id_of(unsigned i)
{
    static char id[CORE_ID_BYTES];
    snprintf(id, sizeof(id), "01hq%022u", i);
    assert_int_equal(strlen(id), 26);
    return id;
}

static void make_small(struct stage *stage, const char *id)
{
    static const char *const lines[] = {
        "session.create",
        "agent.register agent=ada",
        "agent.register agent=bob",
        "agent.register agent=cy",
        "thread.create creator=ada name=General participants=bob,cy thread=general",
    };
    struct request *batch = request_for(REQUEST_COMMANDS, id);
    for (int i = 0; i < 5; i++)
        request_add(batch, lines[i]);
    for (int i = 0; i < 10; i++)
        request_add(batch, i % 2 == 0
                               ? "message.send thread=general sender=ada content=hello-how-are-you"
                               : "message.send thread=general sender=bob content=fine-and-you?");
    batch->batch = true;
    batch = stage_ask_well(stage, batch);
    assert_int_equal(batch->seq, 15);
    request_free(batch);
}

static void a_passive_session_costs_at_most_128_bytes(void **state)
{
    struct stage *stage = *state;
    enum { SESSIONS = 10000 };
    size_t before = used_bytes(stage);
    for (unsigned i = 0; i < SESSIONS; i++)
        stage_do(stage, id_of(i), "session.create labels=team:red");
    size_t active = used_bytes(stage) - before;
    for (int i = 0; i < 200 && stage->shards[0]->active != 0; i++)
        stage_pass(stage, 1000);
    assert_int_equal(stage->shards[0]->active, 0);
    assert_int_equal(stage_figure(stage, "sessions"), SESSIONS);
    size_t passive = used_bytes(stage) - before;
    print_message("%zu bytes active, %zu passive, each\n", active / SESSIONS, passive / SESSIONS);
    assert_in_range(passive, SESSIONS * offsetof(struct entry, id), SESSIONS * (size_t)128);
}

static void a_session_that_comes_and_goes_leaves_nothing_behind(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < 200; i++)
        make_small(stage, id_of(i));
    stage_passivate(stage);
    size_t before = used_bytes(stage);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 200; i++)
            free(stage_view(stage, id_of(i)));
        assert_int_equal(stage->shards[0]->active, 200);
        stage_passivate(stage);
        assert_int_equal(used_bytes(stage), before);
    }
}

static void a_small_active_session_costs_at_most_8_kib(void **state)
{
    struct stage *stage = *state;
    enum { SESSIONS = 1000 };
    size_t before = used_bytes(stage);
    for (unsigned i = 0; i < SESSIONS; i++)
        make_small(stage, id_of(i));
    assert_int_equal(stage->shards[0]->active, SESSIONS);
    size_t made = used_bytes(stage) - before;
    stage_passivate(stage);
    for (unsigned i = 0; i < SESSIONS; i++)
        free(stage_view(stage, id_of(i)));
    assert_int_equal(stage->shards[0]->active, SESSIONS);
    size_t loaded = used_bytes(stage) - before;
    print_message("%zu bytes each as made, %zu loaded\n", made / SESSIONS, loaded / SESSIONS);
    assert_in_range(made, SESSIONS * sizeof(struct session), SESSIONS * (size_t)8192);
    assert_in_range(loaded, SESSIONS * sizeof(struct session), SESSIONS * (size_t)8192);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_one, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_passive_session_costs_at_most_128_bytes),
        TEST(a_session_that_comes_and_goes_leaves_nothing_behind),
        TEST(a_small_active_session_costs_at_most_8_kib),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
