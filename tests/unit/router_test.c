/* A request line leads to its route with good ids and parameters, or to the problem that says what
 * is wrong with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/problem.h"
#include "server/router.h"

static const struct query_limits limits = {.page = 100, .page_max = 1000};

struct found {
    int rc;
    struct route_match match;
    struct query query;
    struct core_refusal why;
};

static struct arena scratch;

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

/* Path and query of a request line, as the frontend reads them. */
static struct found find(const char *method, const char *target)
{
    struct found found;
    found.rc = router_match(text(method), text(target), &scratch, &found.match, &found.why);
    if (found.rc == 0)
        found.rc = query_parse(found.match.query, found.match.route, &limits, &scratch,
                               &found.query, &found.why);
    return found;
}

static void assert_str(struct str s, const char *expected)
{
    assert_true(str_equal(s, text(expected)));
}

static void assert_malformed(const char *target, const char *field)
{
    struct found found = find("GET", target);
    assert_int_equal(found.rc, CORE_E_MALFORMED);
    assert_string_equal(found.why.field, field);
    assert_true(found.why.detail[0] != '\0');
}

static void every_route_is_found(void **state)
{
    static const struct {
        const char *method, *target;
        enum route route;
    } rows[] = {
        {"GET", "/", ROUTE_PAGE},
        {"GET", "/healthz", ROUTE_HEALTH},
        {"GET", "/readyz", ROUTE_READY},
        {"GET", "/openapi.yaml", ROUTE_OPENAPI},
        {"GET", "/v1/status", ROUTE_STATUS},
        {"POST", "/v1/login", ROUTE_LOGIN},
        {"POST", "/v1/logout", ROUTE_LOGOUT},
        {"GET", "/v1/me", ROUTE_ME},
        {"POST", "/v1/sessions/s/tickets", ROUTE_TICKET},
        {"GET", "/metrics", ROUTE_METRICS},
        {"GET", "/v1/log-level", ROUTE_LOG_LEVEL_GET},
        {"PUT", "/v1/log-level", ROUTE_LOG_LEVEL_PUT},
        {"GET", "/v1/sessions", ROUTE_SESSION_LIST},
        {"POST", "/v1/sessions", ROUTE_SESSION_POST},
        {"GET", "/v1/sessions/s", ROUTE_SESSION_GET},
        {"PUT", "/v1/sessions/s", ROUTE_SESSION_PUT},
        {"PATCH", "/v1/sessions/s", ROUTE_SESSION_PATCH},
        {"DELETE", "/v1/sessions/s", ROUTE_SESSION_DELETE},
        {"POST", "/v1/sessions/s/close", ROUTE_SESSION_CLOSE},
        {"POST", "/v1/sessions/s/commands", ROUTE_COMMANDS},
        {"GET", "/v1/sessions/s/stream", ROUTE_STREAM},
        {"GET", "/v1/sessions/s/ws", ROUTE_SOCKET},
        {"GET", "/v1/stream", ROUTE_MANY_STREAM},
        {"GET", "/v1/ws", ROUTE_MANY_SOCKET},
        {"GET", "/assets/app-3f.js", ROUTE_ASSET},
        {"GET", "/v1/sessions/s/events", ROUTE_EVENTS},
        {"GET", "/v1/sessions/s/diff?from=1", ROUTE_DIFF},
        {"GET", "/v1/sessions/s/proof", ROUTE_PROOF},
        {"POST", "/v1/sessions/s/fork", ROUTE_FORK},
        {"POST", "/v1/sessions/s/rebuild", ROUTE_REBUILD},
        {"GET", "/v1/sessions/s/export", ROUTE_EXPORT},
        {"POST", "/v1/sessions/s/import", ROUTE_IMPORT},
        {"POST", "/v1/sessions/s/agents", ROUTE_AGENT_POST},
        {"PATCH", "/v1/sessions/s/agents/a", ROUTE_AGENT_PATCH},
        {"DELETE", "/v1/sessions/s/agents/a", ROUTE_AGENT_DELETE},
        {"GET", "/v1/sessions/s/agents/a/inbox", ROUTE_INBOX_GET},
        {"POST", "/v1/sessions/s/agents/a/inbox/ack", ROUTE_INBOX_ACK},
        {"PUT", "/v1/sessions/s/agents/a/wake", ROUTE_WAKE_SET},
        {"DELETE", "/v1/sessions/s/agents/a/wake", ROUTE_WAKE_DELETE},
        {"POST", "/v1/sessions/s/agents/a/ping", ROUTE_PING},
        {"POST", "/v1/sessions/s/agents/a/mcp", ROUTE_MCP_POST},
        {"GET", "/mcp?tools=coral", ROUTE_MCP_GET},
        {"DELETE", "/mcp", ROUTE_MCP_DELETE},
        {"GET", "/v1/sessions/s/agents/a/sse", ROUTE_MCP_SSE_GET},
        {"POST", "/sse?stream=x", ROUTE_MCP_SSE_POST},
        {"POST", "/v1/sessions/s/threads", ROUTE_THREAD_POST},
        {"GET", "/v1/sessions/s/threads/t", ROUTE_THREAD_GET},
        {"POST", "/v1/sessions/s/threads/t/close", ROUTE_THREAD_CLOSE},
        {"PUT", "/v1/sessions/s/threads/t/participants/a?by=b", ROUTE_PARTICIPANT_PUT},
        {"DELETE", "/v1/sessions/s/threads/t/participants/a?by=b", ROUTE_PARTICIPANT_DELETE},
        {"POST", "/v1/sessions/s/threads/t/messages", ROUTE_MESSAGE_POST},
        {"GET", "/v1/sessions/s/threads/t/messages", ROUTE_MESSAGE_LIST},
        {"POST", "/v1/sessions/s/threads/t/read", ROUTE_THREAD_READ},
    };

    (void)state;
    _Static_assert(sizeof(rows) / sizeof(rows[0]) == ROUTE_COUNT - 1, "all routes are here");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct found found = find(rows[i].method, rows[i].target);
        assert_int_equal(found.rc, 0);
        assert_int_equal(found.match.route, rows[i].route);
    }
}

static void every_route_can_be_told_in_words(void **state)
{
    (void)state;
    for (int route = ROUTE_NONE; route < ROUTE_COUNT; route++) {
        struct buf path = {0};
        assert_int_equal(router_describe((enum route)route, &path) != NULL, route != ROUTE_NONE);
        assert_int_equal(path.n != 0, route != ROUTE_NONE);
        buf_free(&path);
    }
    struct buf path = {0};
    assert_string_equal(router_describe(ROUTE_PARTICIPANT_PUT, &path), "PUT");
    assert_str(buf_str(&path), "/v1/sessions/{sid}/threads/{tid}/participants/{aid}");
    buf_free(&path);
}

static void ids_are_taken_from_the_path(void **state)
{
    struct found found = find("PUT", "/v1/sessions/one/threads/t%77o/participants/thr%65%65?by=b");

    (void)state;
    assert_int_equal(found.rc, 0);
    assert_str(found.match.session, "one");
    assert_str(found.match.thread, "two");
    assert_str(found.match.agent, "three");
    assert_str(found.query.by, "b");
    assert_int_equal(find("GET", "/v1/%73essions/one").match.route, ROUTE_SESSION_GET);
}

static void bad_ids_are_named(void **state)
{
    char long_id[128] = "/v1/sessions/";

    (void)state;
    memset(long_id + 13, 'x', 65);
    assert_malformed(long_id, "session");
    assert_malformed("/v1/sessions/-x", "session");
    assert_malformed("/v1/sessions/a%2Fb", "session");
    assert_malformed("/v1/sessions/a%00", "session");
    assert_malformed("/v1/sessions/s/threads/%C3%A4", "thread");
    assert_malformed("/v1/sessions/s/agents/a.b/inbox", "agent");
    assert_malformed("/v1/sessions/%zz", "path");
    assert_malformed("/v1/sessions/a%4", "path");
}

static void unknown_paths_are_a_404(void **state)
{
    static const char *const targets[] = {
        "",
        "*",
        "x",
        "//",
        "/v1",
        "/v1/",
        "/v1/sessions/",
        "/v1/sessions/s/",
        "/v2/sessions",
        "/healthz/",
        "/HEALTHZ",
        "/v1/sessions/s/nothing",
        "/v1/sessions//stream",
        "/v1/sessions/s/threads/t/messages/m1",
        "/v1/sessions/s/threads/t/participants/a/b",
        "/v1/sessions/s/threads/t/participants/a/b/c",
        "/v1/./sessions",
        "/v1/../healthz",
        "http://127.0.0.1/healthz",
        "/health%00z",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        assert_int_equal(find("GET", targets[i]).rc, PROBLEM_E_UNKNOWN_ROUTE);
}

static void other_methods_are_a_405_with_those_there_are(void **state)
{
    struct found found = find("POST", "/v1/sessions/s");

    (void)state;
    assert_int_equal(found.rc, PROBLEM_E_METHOD_NOT_ALLOWED);
    assert_string_equal(found.match.allow, "GET, PUT, PATCH, DELETE");
    found = find("DELETE", "/v1/sessions/s/threads/t/messages");
    assert_int_equal(found.rc, PROBLEM_E_METHOD_NOT_ALLOWED);
    assert_string_equal(found.match.allow, "GET, POST");
    assert_int_equal(find("get", "/healthz").rc, PROBLEM_E_METHOD_NOT_ALLOWED);
    assert_int_equal(find("HEAD", "/v1/login").rc, PROBLEM_E_METHOD_NOT_ALLOWED);
    assert_int_equal(find("HEAD", "/healthz").rc, 0);
    assert_int_equal(find("OPTIONS", "/v1/sessions").rc, PROBLEM_E_METHOD_NOT_ALLOWED);
    assert_int_equal(find("", "/").rc, PROBLEM_E_METHOD_NOT_ALLOWED);
}

static void numbers_are_exact(void **state)
{
    struct found found =
        find("GET", "/v1/sessions/s/events?after=0&before=9007199254740991&limit=7");

    (void)state;
    assert_int_equal(found.rc, 0);
    assert_int_equal(found.query.after, 0);
    assert_true(found.query.before == CORE_SAFE_INTEGER);
    assert_int_equal(found.query.limit, 7);
    assert_true(query_has(&found.query, QUERY_AFTER));
    assert_false(query_has(&found.query, QUERY_TYPE));
    for (const char *const *bad =
             (const char *const[]){"", "x", "-1", "+1", "1.0", "1e3", "0x1", "01",
                                   "9007199254740992", "99999999999999999999", "%201", NULL};
         *bad != NULL; bad++) {
        char target[128] = "/v1/sessions/s/events?after=";
        assert_malformed(strcat(target, *bad), "after");
    }
}

static void limit_is_clamped_and_has_a_default(void **state)
{
    (void)state;
    assert_int_equal(find("GET", "/v1/sessions").query.limit, 100);
    assert_int_equal(find("GET", "/v1/sessions?limit=1").query.limit, 1);
    assert_int_equal(find("GET", "/v1/sessions?limit=1000").query.limit, 1000);
    assert_int_equal(find("GET", "/v1/sessions?limit=4294967297").query.limit, 1000);
    assert_malformed("/v1/sessions?limit=0", "limit");
}

static void wait_is_in_seconds(void **state)
{
    (void)state;
    assert_int_equal(find("GET", "/v1/sessions/s/agents/a/inbox").query.wait_ms, 0);
    assert_int_equal(find("GET", "/v1/sessions/s/agents/a/inbox?wait=55").query.wait_ms, 55000);
    assert_int_equal(find("GET", "/v1/sessions/s/agents/a/inbox?wait=0.25").query.wait_ms, 250);
    assert_int_equal(find("GET", "/v1/sessions/s/agents/a/inbox?wait=2.5").query.wait_ms, 2500);
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=56", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=55.001", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=1.", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=.5", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=1.2345", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=1.x", "wait");
    assert_malformed("/v1/sessions/s/agents/a/inbox?wait=-1", "wait");
}

static void parameters_belong_to_their_routes(void **state)
{
    (void)state;
    assert_malformed("/healthz?x", "x");
    assert_malformed("/v1/sessions?after=1", "after");
    assert_malformed("/v1/sessions/s/stream?limit=1", "limit");
    assert_malformed("/v1/sessions/s/events?after=1&after=1", "after");
    assert_malformed("/v1/sessions/s/events?nope=%zz", "nope");
    assert_malformed("/v1/sessions/s/events?%C3%A4%0A=1", "???");
    assert_malformed("/v1/sessions/s/agents/a/inbox?mentions=1", "mentions");
    assert_malformed("/v1/sessions/s/agents/a/inbox?mentions", "mentions");
    assert_malformed("/v1/sessions/s/agents/a/inbox?from=a/b", "from");
    assert_int_equal(find("GET", "/v1/sessions?").rc, 0);
    assert_int_equal(find("GET", "/v1/sessions?&&limit=5&").rc, 0);
    assert_malformed("/v1/sessions/s/diff?to=2", "from");
    assert_malformed("/v1/sessions/s?ticket=x", "ticket");
    assert_str(find("GET", "/v1/sessions/s/stream?ticket=x").query.ticket, "x");
}

static void labels_and_types_may_be_repeated(void **state)
{
    struct found found = find("GET", "/v1/sessions?label=a&label=b%3Ac:d+e&label=f:");

    (void)state;
    assert_int_equal(found.rc, 0);
    assert_int_equal(found.query.labels_n, 3);
    assert_str(found.query.labels[0].key, "a");
    assert_null(found.query.labels[0].value.p);
    assert_str(found.query.labels[1].key, "b");
    assert_str(found.query.labels[1].value, "c:d e");
    assert_str(found.query.labels[2].value, "");
    assert_malformed("/v1/sessions?label=:x", "label");
    found = find("GET", "/v1/sessions/s/events?type=message.sent&type=thread.read");
    assert_int_equal(found.query.types, 1u << CORE_MESSAGE_SEND | 1u << CORE_THREAD_READ);
    assert_malformed("/v1/sessions/s/events?type=message.send", "type");
}

static struct request_at place(const char *at)
{
    static char target[160]; /* the epoch points there */
    snprintf(target, sizeof(target), "/v1/sessions/s?at=%s", at);
    struct found found = find("GET", target);
    if (found.rc != 0)
        fail_msg("%s: %s", at, found.why.detail);
    assert_true(found.query.at.given);
    return found.query.at;
}

static void a_place_is_a_seq_or_an_etag(void **state)
{
    (void)state;
    assert_true(place("0").seq == 0 && !place("0").by_time && place("0").epoch.p == NULL);
    assert_int_equal(place("42").seq, 42);
    assert_int_equal(place("k3x9-42").seq, 42);
    assert_str(place("k3x9-42").epoch, "k3x9");
    assert_str(place("2025-3").epoch, "2025");
    assert_false(find("GET", "/v1/sessions/s").query.at.given);
}

static void a_place_is_a_time(void **state)
{
    static const struct {
        const char *text;
        int64_t ts_ms;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2000-02-29T12:34:56Z", INT64_C(951827696000)},
        {"2025-03-01T09:30:00.250Z", INT64_C(1740821400250)},
        {"2025-03-01t09:30:00.2z", INT64_C(1740821400200)},
        {"2025-03-01T09:30:00.250999Z", INT64_C(1740821400250)},
        {"2025-03-01T10:30:00%2B01:00", INT64_C(1740821400000)},
        {"2025-03-01T10:30:00+01:00", INT64_C(1740821400000)},
        {"2025-03-01T04:00:00-05:30", INT64_C(1740821400000)},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000)},
        {"1969-12-31T23:59:59.999Z", -1},
        {"0000-03-01T00:00:00Z", INT64_C(-62162035200000)},
        {"9999-12-31T23:59:59Z", INT64_C(253402300799000)},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct request_at at = place(rows[i].text);
        assert_true(at.by_time);
        if (at.ts_ms != rows[i].ts_ms)
            fail_msg("%s: %lld", rows[i].text, (long long)at.ts_ms);
    }
}

static void a_bad_place_is_named(void **state)
{
    static const char *const bad[] = {
        "",
        "x",
        "-1",
        "01",
        "1.5",
        "k3x9-",
        "-42",
        "k3x9-042",
        "k%223-1",
        "2025-03-01",
        "2025-03-01T09:30:00",
        "2025-03-01T09:30:00.Z",
        "2025-13-01T09:30:00Z",
        "2025-02-29T09:30:00Z",
        "1900-02-29T09:30:00Z",
        "2025-03-01T24:00:00Z",
        "2025-03-01T09:60:00Z",
        "2025-03-01T09:30:61Z",
        "2025-03-01T09:30:00%2B1:00",
        "2025-03-01T09:30:00Zx",
        "2025-03-01T09:30:00%2B24:00",
        "2025-03-01%2009:30:00Z",
        "9007199254740992",
        "k3x9-9007199254740992",
        "a1234567890123456789012345678901234567890123456789-1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char target[160] = "/v1/sessions/s?at=";
        strcat(target, bad[i]);
        if (find("GET", target).rc == 0)
            fail_msg("taken: %s", bad[i]);
        assert_malformed(target, "at");
    }
    assert_malformed("/v1/sessions/s/diff", "from");
    assert_malformed("/v1/sessions/s/diff?from=a/b", "from");
    assert_malformed("/v1/sessions/s/diff?from=1&to=x", "to");
    assert_malformed("/v1/sessions/s/diff?from=1&from=2", "from");
}

static void the_dashboards_paths_are_its_page(void **state)
{
    static const char *const targets[] = {"/",       "/sessions",           "/sessions/s",
                                          "/server", "/sessions/s?at=42&x", "/server?%zz"};

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct found found = find("GET", targets[i]);
        assert_int_equal(found.rc, 0);
        assert_int_equal(found.match.route, ROUTE_PAGE);
    }
    assert_str(find("GET", "/assets/a.b-C_9.css").match.asset, "a.b-C_9.css");
    assert_malformed("/assets/a%2Fb", "name");
    assert_malformed("/assets/%C3%A4.js", "name");
    assert_malformed("/assets/a%00", "name");
    assert_malformed("/assets/a.js?x", "x");
    assert_malformed("/sessions/-s", "session");
    assert_int_equal(find("GET", "/assets/").rc, PROBLEM_E_UNKNOWN_ROUTE);
    assert_int_equal(find("GET", "/assets/a/b").rc, PROBLEM_E_UNKNOWN_ROUTE);
}

static void a_view_has_a_name_where_it_is_known(void **state)
{
    (void)state;
    assert_int_equal(find("GET", "/v1/sessions/s").query.view, VIEW_FULL);
    assert_int_equal(find("GET", "/v1/sessions/s?view=compact").query.view, VIEW_COMPACT);
    assert_int_equal(find("GET", "/v1/sessions/s/stream?view=full").query.view, VIEW_FULL);
    assert_int_equal(find("GET", "/v1/sessions/s/ws?view=compact").query.view, VIEW_COMPACT);
    assert_int_equal(find("GET", "/v1/stream").query.view, VIEW_SUMMARY);
    assert_int_equal(find("GET", "/v1/stream?view=summary").query.view, VIEW_SUMMARY);
    assert_int_equal(find("GET", "/v1/stream?view=full").query.view, VIEW_FULL);
    assert_malformed("/v1/sessions/s?view=summary", "view");
    assert_malformed("/v1/sessions/s/stream?view=Full", "view");
    assert_malformed("/v1/stream?view=", "view");
    assert_malformed("/v1/sessions/s/threads/t?view=compact", "view");
    assert_malformed("/v1/sessions/s/events?view=full", "view");
    assert_malformed("/v1/ws?view=full", "view");
}

static void parts_are_pointers_each_once_and_sorted(void **state)
{
    struct query query = find("GET", "/v1/sessions/s/stream?path=/threads/t3&path=/agents"
                                     "&path=%2Flabels%2Fa~1%22b&path=/threads/t3&last_event_id=x")
                             .query;
    char many[65 * sizeof("&path=/threads/t00") + 64] = "/v1/sessions/s?";
    char *end = many + strlen(many);

    (void)state;
    assert_non_null(query.parts);
    assert_int_equal(query.parts->n, 3);
    assert_str(query.parts->items[0], "/agents");
    assert_str(query.parts->items[1], "/labels/a~1\"b");
    assert_str(query.parts->items[2], "/threads/t3");
    assert_null(find("GET", "/v1/sessions/s/stream").query.parts);
    for (const char *const *bad =
             (const char *const[]){"", "threads", "/a/b/c", "/threads/t/", "/~", "/a~2",
                                   "/labels/~", "%23/threads", NULL};
         *bad != NULL; bad++) {
        char target[128] = "/v1/sessions/s/ws?path=";
        assert_malformed(strcat(target, *bad), "path");
    }
    for (int i = 0; i < 64; i++)
        end += sprintf(end, "&path=/threads/t%d", i);
    assert_int_equal(find("GET", many).query.parts->n, 64);
    strcpy(end, "&path=/labels");
    assert_malformed(many, "path");
    assert_malformed("/v1/stream?path=/threads", "path");
}

static void sessions_are_ids_each_once_and_sorted(void **state)
{
    struct query query = find("GET", "/v1/stream?session=b&session=a&session=b").query;

    (void)state;
    assert_int_equal(query.sessions_n, 2);
    assert_str(query.sessions[0], "a");
    assert_str(query.sessions[1], "b");
    assert_int_equal(find("GET", "/v1/stream?label=team:x&label=y").query.labels_n, 2);
    assert_malformed("/v1/stream?session=a&label=x", "label");
    assert_malformed("/v1/stream?session=a%2Fb", "session");
    assert_malformed("/v1/stream?session=", "session");
    assert_malformed("/v1/sessions/s/stream?session=a", "session");
    static char many[1002 * sizeof("&session=s1000")] = "/v1/stream?";
    char *end = many + strlen(many);
    for (int i = 0; i < 1000; i++)
        end += sprintf(end, "&session=s%d", i);
    assert_int_equal(find("GET", many).query.sessions_n, 1000);
    strcpy(end, "&session=x");
    assert_malformed(many, "session");
}

static void a_diff_has_two_places(void **state)
{
    struct found found = find("GET", "/v1/sessions/s/diff?from=7&to=k-9");

    (void)state;
    assert_int_equal(found.rc, 0);
    assert_int_equal(found.query.at.seq, 7);
    assert_int_equal(found.query.to.seq, 9);
    assert_str(found.query.to.epoch, "k");
    assert_false(find("GET", "/v1/sessions/s/diff?from=7").query.to.given);
}

static void events_are_filtered(void **state)
{
    struct found found = find("GET", "/v1/sessions/s/events?agent=a&thread=t&order=desc"
                                     "&since=2025-03-01T09:30:00.0001Z&until=2025-03-01T09:30:00Z");

    (void)state;
    assert_int_equal(found.rc, 0);
    assert_str(found.query.agent, "a");
    assert_str(found.query.thread, "t");
    assert_true(found.query.descending);
    assert_true(found.query.since_ms == INT64_C(1740821400001)); /* the next whole one */
    assert_true(found.query.until_ms == INT64_C(1740821400000));
    assert_malformed("/v1/sessions/s/events?order=up", "order");
    assert_malformed("/v1/sessions/s/events?since=7", "since");
    assert_malformed("/v1/sessions/s/events?until=yesterday", "until");
    assert_malformed("/v1/sessions/s/events?agent=a.b", "agent");
    assert_malformed("/v1/sessions/s/events?thread=", "thread");
    assert_malformed("/v1/sessions/s/events?cursor=x", "cursor");
}

static void a_cursor_bounds_the_page_on_its_side(void **state)
{
    struct query query = find("GET", "/v1/sessions/s/events?cursor=9").query;

    (void)state;
    assert_true(query_has(&query, QUERY_AFTER) && query.after == 9);
    assert_false(query_has(&query, QUERY_BEFORE));
    query = find("GET", "/v1/sessions/s/events?cursor=9&order=desc").query;
    assert_true(query_has(&query, QUERY_BEFORE) && query.before == 9);
    assert_false(query_has(&query, QUERY_AFTER));
    assert_int_equal(find("GET", "/v1/sessions/s/events?after=3&cursor=9").query.after, 9);
    assert_int_equal(find("GET", "/v1/sessions/s/events?cursor=9&after=30").query.after, 30);
    query = find("GET", "/v1/sessions/s/events?before=9&cursor=12&order=desc&after=2").query;
    assert_int_equal(query.before, 9);
    assert_int_equal(query.after, 2);
}

static int free_scratch(void **state)
{
    (void)state;
    arena_free(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_found),
        cmocka_unit_test(every_route_can_be_told_in_words),
        cmocka_unit_test(ids_are_taken_from_the_path),
        cmocka_unit_test(bad_ids_are_named),
        cmocka_unit_test(unknown_paths_are_a_404),
        cmocka_unit_test(other_methods_are_a_405_with_those_there_are),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(limit_is_clamped_and_has_a_default),
        cmocka_unit_test(wait_is_in_seconds),
        cmocka_unit_test(parameters_belong_to_their_routes),
        cmocka_unit_test(labels_and_types_may_be_repeated),
        cmocka_unit_test(a_place_is_a_seq_or_an_etag),
        cmocka_unit_test(a_place_is_a_time),
        cmocka_unit_test(a_bad_place_is_named),
        cmocka_unit_test(the_dashboards_paths_are_its_page),
        cmocka_unit_test(a_view_has_a_name_where_it_is_known),
        cmocka_unit_test(parts_are_pointers_each_once_and_sorted),
        cmocka_unit_test(sessions_are_ids_each_once_and_sorted),
        cmocka_unit_test(a_diff_has_two_places),
        cmocka_unit_test(events_are_filtered),
        cmocka_unit_test(a_cursor_bounds_the_page_on_its_side),
    };
    return cmocka_run_group_tests(tests, NULL, free_scratch);
}
