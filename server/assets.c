#include "server/assets.h"

#include "server/assets_internal.h"
#include "server/etag.h"
#include "server/problem.h"

#define PAGE_NAME "index.html"

#ifndef ATOLL_DASHBOARD
const struct asset assets_table[] = {{0}};
const size_t assets_n = 0;
#endif

static const char without[] =
    "Atoll " ATOLL_VERSION ": the session server for multi-agent systems.\n"
    "\n"
    "This server was built without its dashboard (ATOLL_DASHBOARD=OFF).\n"
    "\n"
    "/openapi.yaml   what it can do, and how to ask for it\n"
    "/v1/status      what it is doing\n"
    "/healthz        whether it is alive\n"
    "/readyz         whether it can take commands\n";

/* clang-format off */
#define VALUE(text) {(char *)(text), sizeof(text) - 1}
/* clang-format on */

/* Everything from here and nothing from elsewhere; nobody may put the page into a frame. */
static const h2o_iovec_t policy =
    VALUE("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
          "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
          "frame-ancestors 'none'");
static const h2o_iovec_t for_ever = VALUE("public, max-age=31536000, immutable");
static const h2o_iovec_t ask_again = VALUE("no-cache");

static h2o_iovec_t frame_name = VALUE("x-frame-options");
static h2o_iovec_t transport_name = VALUE("strict-transport-security");
static const h2o_iovec_t a_year = VALUE("max-age=31536000");
static const h2o_iovec_t gzipped = VALUE("gzip");
static h2o_iovec_t opener_name = VALUE("cross-origin-opener-policy");
static h2o_iovec_t resource_name = VALUE("cross-origin-resource-policy");
static h2o_iovec_t policy_name = VALUE("content-security-policy");

static int compare(const void *name, const void *asset)
{
    const struct asset *other = asset;
    return str_compare(*(const struct str *)name, (struct str){other->name, strlen(other->name)});
}

static const struct asset *find(struct str name)
{
    return bsearch(&name, assets_table, assets_n, sizeof(assets_table[0]), compare);
}

static void serve(struct exchange *exchange, const struct call *call, const struct asset *asset,
                  bool is_page)
{
    bool gzip = (h2o_get_compressible_types(&exchange->req->headers) & H2O_COMPRESSIBLE_GZIP) != 0;
    const struct asset_bytes *bytes = gzip ? &asset->gzip : &asset->plain;
    h2o_header_t headers[8] = {
        {.name = &H2O_TOKEN_CACHE_CONTROL->buf, .value = is_page ? ask_again : for_ever},
        {.name = &H2O_TOKEN_CONTENT_TYPE->buf,
         .value = h2o_iovec_init(asset->type, strlen(asset->type))},
        {.name = &policy_name, .value = policy},
        {.name = &frame_name, .value = VALUE("DENY")},
        {.name = &opener_name, .value = VALUE("same-origin")},
        {.name = &resource_name, .value = VALUE("same-origin")},
    };
    size_t n = 6;
    if (gzip)
        headers[n++] = (h2o_header_t){.name = &H2O_TOKEN_CONTENT_ENCODING->buf, .value = gzipped};
    if (exchange->connection->secure)
        headers[n++] = (h2o_header_t){.name = &transport_name, .value = a_year};
    struct answer answer = {
        .status = 200,
        .kind = ANSWER_FILE,
        .body = {bytes->p, bytes->n},
        .etag = {asset->etag, strlen(asset->etag)},
        .more = headers,
        .more_n = n,
    };
    if (call->headers.if_none_match.n != 0 && etag_listed(call->headers.if_none_match, answer.etag))
        answer.status = 304;
    exchange_answer(exchange, &answer);
}

void assets_serve(struct exchange *exchange, const struct call *call)
{
    bool is_page = exchange->match.route == ROUTE_PAGE;

    if (is_page && assets_n == 0) {
        struct str text = {without, sizeof(without) - 1};
        exchange_answer(exchange,
                        &(struct answer){.status = 200, .kind = ANSWER_TEXT, .body = text});
        return;
    }
    const struct asset *asset = find(is_page ? STR(PAGE_NAME) : exchange->match.asset);
    if (asset == NULL || (!is_page && strcmp(asset->name, PAGE_NAME) == 0)) {
        exchange_refuse_text(exchange, PROBLEM_E_UNKNOWN_ROUTE, NULL,
                             "The dashboard has no such file; load the page again.");
        return;
    }
    serve(exchange, call, asset, is_page);
}
