#include "server/shares.h"

#include "server/auth/grant.h"
#include "server/problem.h"

#include <stdio.h>

static const char *const whose[] = {
    [RATES_TOKEN] = "This token",
    [RATES_ADDRESS] = "This address",
    [RATES_SESSION] = "This session",
};

static bool is_free(enum route route)
{
    return route == ROUTE_HEALTH || route == ROUTE_READY || route == ROUTE_PAGE ||
           route == ROUTE_ASSET || route == ROUTE_OPENAPI;
}

static void explain(const struct rates_verdict *verdict, struct core_refusal *why)
{
    *why = (struct core_refusal){.code = (enum core_error)REQUEST_E_TOO_MANY};
    snprintf(
        why->detail, sizeof(why->detail),
        "%s has used up its rate: %u at once, and all of them back in %u s. Try again in %u s.",
        whose[verdict->kind], verdict->limit, verdict->window_s, verdict->retry_after_s);
}

static bool pass(struct frontend *frontend, enum rates_kind kind, uint64_t key,
                 struct rates_verdict *verdict)
{
    if (frontend->live->rates[kind].interval_ns == 0)
        return true;
    bool passed = rates_pass(frontend->shared->rates, &frontend->live->rates[kind], kind, key,
                             frontend_now_ms(frontend), verdict);
    if (!passed)
        figure_add(&frontend->figures->rate_limited[kind], 1);
    return passed;
}

/* ---- requests */

/* Only where something is limited do answers tell of it. */
static struct rates_verdict *verdict_of(struct exchange *exchange, enum rates_kind kind)
{
    if (exchange->rates == NULL) {
        size_t size = RATES_KINDS * sizeof(*exchange->rates);
        exchange->rates = exchange_alloc(exchange, size);
        memset(exchange->rates, 0, size);
    }
    return &exchange->rates[kind];
}

static bool enter(struct exchange *exchange, enum rates_kind kind, uint64_t key)
{
    struct core_refusal why;

    if (exchange->frontend->live->rates[kind].interval_ns == 0 || key == 0 ||
        is_free(exchange->match.route))
        return true;
    struct rates_verdict *verdict = verdict_of(exchange, kind);
    if (pass(exchange->frontend, kind, key, verdict))
        return true;
    explain(verdict, &why);
    exchange->retry_after_s = (int)verdict->retry_after_s;
    exchange_refuse(exchange, REQUEST_E_TOO_MANY, &why);
    return false;
}

static uint64_t token_key(const struct grant *grant)
{
    return grant == NULL ? 0 : grant->hash != 0 ? grant->hash : 1;
}

bool shares_enter_address(struct exchange *exchange)
{
    if (exchange->frontend->live->rates[RATES_ADDRESS].interval_ns == 0)
        return true;
    return enter(exchange, RATES_ADDRESS, shares_address(exchange));
}

bool shares_enter(struct exchange *exchange)
{
    return enter(exchange, RATES_TOKEN, token_key(exchange->grant));
}

static void charge(struct frontend *frontend, enum rates_kind kind, uint64_t key, uint32_t more)
{
    if (key != 0)
        rates_charge(frontend->shared->rates, &frontend->live->rates[kind], kind, key,
                     frontend_now_ms(frontend), more);
}

void shares_charge(struct exchange *exchange, uint32_t more)
{
    if (exchange->rates == NULL)
        return;
    charge(exchange->frontend, RATES_ADDRESS, shares_address(exchange), more);
    charge(exchange->frontend, RATES_TOKEN, token_key(exchange->grant), more);
}

uint64_t shares_address(const struct exchange *exchange)
{
    return rates_address_key(&exchange->connection->address);
}

/* ---- messages */

int shares_take(struct frontend *frontend, const struct grant *grant, uint64_t address,
                struct core_refusal *why, int *retry_after_s)
{
    uint64_t token = token_key(grant);
    struct rates_verdict verdict;

    if ((address == 0 || pass(frontend, RATES_ADDRESS, address, &verdict)) &&
        (token == 0 || pass(frontend, RATES_TOKEN, token, &verdict)))
        return 0;
    explain(&verdict, why);
    *retry_after_s = (int)verdict.retry_after_s;
    return REQUEST_E_TOO_MANY;
}

/* ---- headers */

/* The shard counts for its sessions, and says no more than when to come back. */
void shares_on_reply(struct exchange *exchange, const struct request *reply)
{
    struct rates_limit limit = rates_limit_of(&exchange->frontend->shared->config->rate_session);

    if (reply->retry_ms == 0)
        return;
    exchange->retry_after_s = (int)((reply->retry_ms + 999) / 1000);
    if (reply->error != REQUEST_E_TOO_MANY || limit.interval_ns == 0)
        return;
    *verdict_of(exchange, RATES_SESSION) = rates_refusal(&limit, RATES_SESSION, reply->retry_ms);
}

static void add_header(const struct exchange *exchange, h2o_headers_t *headers, h2o_iovec_t *name,
                       const char *text)
{
    if (text[0] == '\0')
        return;
    headers->entries[headers->size++] = (h2o_header_t){
        .name = name,
        .value = h2o_strdup(&exchange->req->pool, text, SIZE_MAX),
    };
}

void shares_add_headers(const struct exchange *exchange, h2o_headers_t *headers)
{
    static h2o_iovec_t limit_name = {(char *)"ratelimit", 9};
    static h2o_iovec_t policy_name = {(char *)"ratelimit-policy", 16};
    char text[RATES_HEADER_BYTES];

    if (exchange->rates == NULL)
        return;
    rates_write_limit(exchange->rates, RATES_KINDS, text);
    add_header(exchange, headers, &limit_name, text);
    rates_write_policy(exchange->rates, RATES_KINDS, text);
    add_header(exchange, headers, &policy_name, text);
}
