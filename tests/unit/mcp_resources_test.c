/*
 * Which resources there are, by their URIs.
 */
#include "server/mcp/feature.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct str text_of(const char *text)
{
    return text != NULL ? (struct str){text, strlen(text)} : (struct str){0};
}

static struct mcp_resource_name parse(const char *uri, const char *session)
{
    return mcp_resource_parse(text_of(uri), text_of(session));
}

static void expect(struct str got, const char *expected)
{
    assert_true(str_equal(got, text_of(expected)));
}

static void each_kind_has_its_uri(void **state)
{
    struct mcp_resource_name name;
    (void)state;
    name = parse("atoll://sessions/demo/state", NULL);
    assert_int_equal(name.kind, MCP_RESOURCE_STATE);
    expect(name.session, "demo");
    name = parse("atoll://sessions/demo/threads/t3", "demo");
    assert_int_equal(name.kind, MCP_RESOURCE_THREAD);
    expect(name.session, "demo");
    expect(name.thread, "t3");
    name = parse("atoll://sessions/demo/events", "demo");
    assert_int_equal(name.kind, MCP_RESOURCE_EVENTS);
    assert_null(name.query.p);
    name = parse("atoll://sessions/demo/events?after=7", NULL);
    assert_int_equal(name.kind, MCP_RESOURCE_EVENTS);
    expect(name.query, "after=7");
    name = parse("coral://state", "demo");
    assert_int_equal(name.kind, MCP_RESOURCE_CORAL_STATE);
    expect(name.session, "demo");
    name = parse("coral://instruction", "demo");
    assert_int_equal(name.kind, MCP_RESOURCE_CORAL_INSTRUCTION);
}

static void another_session_than_the_urls_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(parse("atoll://sessions/demo/state", "demo2").kind, MCP_RESOURCE_NONE);
    assert_int_equal(parse("atoll://sessions/demo2/state", "demo").kind, MCP_RESOURCE_NONE);
    assert_int_equal(parse("atoll://sessions/dem/events", "demo").kind, MCP_RESOURCE_NONE);
}

static void corals_are_about_the_agent_of_the_url_alone(void **state)
{
    (void)state;
    assert_int_equal(parse("coral://state", NULL).kind, MCP_RESOURCE_NONE);
    assert_int_equal(parse("coral://instruction", NULL).kind, MCP_RESOURCE_NONE);
}

static void nothing_else_names_a_resource(void **state)
{
    static const char *const bad[] = {
        "",
        "atoll",
        "atoll://",
        "atoll://sessions",
        "atoll://sessions/",
        "atoll://sessions//state",
        "atoll://sessions/demo",
        "atoll://sessions/demo/",
        "atoll://sessions/demo/state/",
        "atoll://sessions/demo/state?after=1",
        "atoll://sessions/demo/State",
        "ATOLL://sessions/demo/state",
        "atoll://sessions/demo/../other/state",
        "atoll://sessions/../demo/state",
        "atoll://sessions/%64emo/state",
        "atoll://sessions/demo\n/state",
        "atoll://sessions/demo /state",
        "atoll://user@sessions/demo/state",
        "atoll://sessions/~AAAAAAAAAAAAAAAAAAAAAAAAAA/state",
        "atoll://sessions/-demo/state",
        "atoll://sessions/demo/threads",
        "atoll://sessions/demo/threads/",
        "atoll://sessions/demo/threads/a/b",
        "atoll://sessions/demo/threads/a?x",
        "atoll://sessions/demo/threads/a#x",
        "atoll://sessions/demo/threads/..",
        "atoll://sessions/demo/threads/\xc3\xa4",
        "atoll://sessions/demo/eventsx",
        "atoll://sessions/demo/events/1",
        "atoll://sessions/demo/events#1",
        "atoll://sessions/{sid}/state",
        "http://sessions/demo/state",
        "coral://",
        "coral://states",
        "coral://state/",
        "coral://state?x",
        "coral:state",
        "/state",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(bad[i], NULL).kind, MCP_RESOURCE_NONE);
        assert_int_equal(parse(bad[i], "demo").kind, MCP_RESOURCE_NONE);
    }
}

static void ids_are_no_longer_than_their_rule(void **state)
{
    char uri[128];
    (void)state;
    for (int n = 63; n <= 66; n++) {
        char id[72] = {0};
        memset(id, 'a', (size_t)n);
        snprintf(uri, sizeof(uri), "atoll://sessions/%s/state", id);
        assert_int_equal(parse(uri, NULL).kind, n <= 64 ? MCP_RESOURCE_STATE : MCP_RESOURCE_NONE);
        snprintf(uri, sizeof(uri), "atoll://sessions/s/threads/%s", id);
        assert_int_equal(parse(uri, "s").kind, n <= 64 ? MCP_RESOURCE_THREAD : MCP_RESOURCE_NONE);
    }
}

/* What is cut off anywhere is another name or none; never more than was there is looked at. */
static void every_beginning_of_a_uri_is_read_within_its_bounds(void **state)
{
    static const char whole[] = "atoll://sessions/demo/events?after=7";
    (void)state;
    for (size_t n = 0; n < sizeof(whole); n++) {
        char *copy = malloc(n + (n == 0)); /* the sanitizer sees what lies behind */
        memcpy(copy, whole, n);
        struct mcp_resource_name name = mcp_resource_parse((struct str){copy, n}, text_of("demo"));
        bool events = n >= strlen("atoll://sessions/demo/events");
        assert_int_equal(name.kind, events ? MCP_RESOURCE_EVENTS : MCP_RESOURCE_NONE);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_uri),
        cmocka_unit_test(another_session_than_the_urls_is_not_there),
        cmocka_unit_test(corals_are_about_the_agent_of_the_url_alone),
        cmocka_unit_test(nothing_else_names_a_resource),
        cmocka_unit_test(ids_are_no_longer_than_their_rule),
        cmocka_unit_test(every_beginning_of_a_uri_is_read_within_its_bounds),
    };
    return cmocka_run_group_tests_name("mcp_resources", tests, NULL, NULL);
}
