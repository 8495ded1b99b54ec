/*
 * What a request line and headers say: path and query, Host, Origin, Content-Type, Accept, ETags,
 * places in a history. Lines, any of which may be missing:
 *
 *     METHOD target
 *     host
 *     origin
 *     content-type or accept
 *     an If-None-Match, or a place in a history
 */
#include "server/access.h"
#include "server/at.h"
#include "server/etag.h"
#include "server/router.h"
#include "tests/fuzz/fuzz.h"

static struct access access_rules;

static void prepare(void)
{
    static char *listen[] = {(char *)"10.1.2.3:8080", (char *)"[fe80::1]:80"};
    static char *hosts[] = {(char *)"atoll.example", (char *)"other.example:81"};
    static char *origins[] = {(char *)"https://page.example"};
    static struct config config = {
        .listen = {listen, 2}, .allowed_hosts = {hosts, 2}, .allowed_origins = {origins, 1}};
    access_init(&access_rules, &config);
}

static const char asset_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

static void check_match(const struct route_match *match)
{
    assert(match->route > ROUTE_NONE && match->route < ROUTE_COUNT);
    assert(match->session.p == NULL || core_id_valid(match->session));
    assert(match->agent.p == NULL || core_id_valid(match->agent));
    assert(match->thread.p == NULL || core_id_valid(match->thread));
    for (size_t i = 0; i < match->asset.n; i++)
        assert(memchr(asset_letters, match->asset.p[i], sizeof(asset_letters) - 1) != NULL);
}

static void check_query(const struct query *query)
{
    assert(query->limit <= 1000 && query->wait_ms <= ROUTER_WAIT_MAX_S * 1000);
    assert(query->sessions_n <= ROUTER_SESSIONS_MAX && query->labels_n <= ROUTER_LABELS_MAX);
    for (uint32_t i = 0; i < query->sessions_n; i++)
        assert(core_id_valid(query->sessions[i]));
    assert(query->parts == NULL || query->parts->n <= ROUTER_PARTS_MAX);
    for (uint32_t i = 0; query->parts != NULL && i < query->parts->n; i++)
        assert(core_part_valid(query->parts->items[i]));
}

static void route(struct str method, struct str target, struct arena *scratch)
{
    static const struct query_limits limits = {.page = 100, .page_max = 1000};
    struct route_match match = {0};
    struct query query = {0};
    struct core_refusal why = {0};

    struct str authority = router_take_authority(&target, scratch);
    assert(authority.p == NULL || target.n == 0 || target.p[0] == '/' || target.p[0] == '?');
    int error = router_match(method, target, scratch, &match, &why);
    if (error == 0) {
        check_match(&match);
        error = query_parse(match.query, match.route, &limits, scratch, &query, &why);
        if (error == 0)
            check_query(&query);
    }
    if (error == CORE_E_MALFORMED)
        check_sentence(why.detail, sizeof(why.detail));
    assert(error == 0 || problem_status((unsigned)error) >= 400);
}

static void look_at_headers(struct str host, struct str origin, struct str media)
{
    if (access_host_allowed(&access_rules, host)) {
        char own[300];
        int n = snprintf(own, sizeof(own), "http://%.*s", (int)host.n, host.p);
        if (n > 0 && (size_t)n < sizeof(own) && memchr(host.p, '\0', host.n) == NULL)
            assert(access_origin_allowed(&access_rules, (struct str){own, (size_t)n}, host));
    }
    access_origin_allowed(&access_rules, origin, host);
    access_media(media);
    access_accepts(media, STR("text/event-stream"));
}

static void look_at_place(struct str text)
{
    struct request_at at = {0};
    struct str epoch;
    uint64_t seq;
    char tag[ETAG_BYTES];

    if (etag_read(text, &epoch, &seq) && epoch.n <= CORE_EPOCH_BYTES) {
        struct str again = etag_write(tag, epoch, seq), same;
        uint64_t same_seq;
        assert(etag_read(again, &same, &same_seq) && same_seq == seq && str_equal(same, epoch));
    }
    etag_listed(text, STR("\"k3x9-42\""));
    if (at_read(text, &at))
        assert(at.given && (at.epoch.p == NULL || !at.by_time));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size), line = take_line(&in);
    struct arena scratch = exact_arena();
    const char *space = line.n == 0 ? NULL : memchr(line.p, ' ', line.n);

    if (access_rules.hosts == NULL)
        prepare();
    if (space != NULL) {
        struct str method = {line.p, (size_t)(space - line.p)};
        struct str target = {space + 1, line.n - method.n - 1};
        char *exact = exact_copy(target);
        route(method, (struct str){exact, target.n}, &scratch);
        free(exact);
    }
    struct str host = take_line(&in), origin = take_line(&in), media = take_line(&in);
    look_at_headers(host, origin, media);
    char *exact = exact_copy(in);
    look_at_place((struct str){exact, in.n});
    free(exact);
    arena_free(&scratch);
    return 0;
}
